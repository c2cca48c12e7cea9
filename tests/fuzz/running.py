"""One damaged file after another, and what may not happen: anything but success or a `DeployError`, 10 s, 4 GB."""

from __future__ import annotations

import importlib.util
import resource
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from deep_targets import DEEP
from fuzz_targets import TARGETS, Target, damaged
from inner_targets import INNER
from kept import kept
from made import content
from own_targets import OWN

from tcja_deploy.errors import DeployError
from tcja_deploy.reading.limits import out_of_memory_told
from tcja_deploy.text import printable

MOST_SECONDS, MOST_BYTES = 10.0, 4 << 30


@dataclass
class Count:
    """Inputs of one target.

    Attributes:
        read: Those that were read without an error.
        refused: Those that ended as a `DeployError`.
        slowest: Seconds of the slowest.
        violations: What went wrong, with the number that makes the input again.
    """

    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    violations: list[str] = field(default_factory=list)


def one(target: Target, file: str, data: bytes, folder: Path, count: Count, name: str) -> None:
    """Let a target read one input, which was made of a file of the corpus."""
    path = folder / f"input{Path(file).suffix}"
    path.write_bytes(data)
    before = _most_used()
    begin = time.monotonic()
    wrong = ""
    try:
        with warnings.catch_warnings(), out_of_memory_told(), kept():
            warnings.simplefilter("ignore")
            target.read(path)
        count.read += 1
    except DeployError as error:
        count.refused += 1
        if printable(str(error), keep="\n") != str(error):
            wrong = f"a message with control characters: {str(error)!r:.200}"
    except Exception:
        wrong = traceback.format_exc(limit=-3)
    seconds = time.monotonic() - begin
    count.slowest = max(count.slowest, seconds)
    if seconds > MOST_SECONDS:
        wrong = wrong or f"took {seconds:.1f} s"
    used = _most_used()
    if used > max(before, MOST_BYTES):  # what making the input took is not the reader's
        wrong = wrong or f"took {used >> 20} MB"
    if wrong:
        count.violations.append(f"{target.name} {name}: {wrong}")
        (folder / f"violation_{target.name}_{len(count.violations)}{path.suffix}").write_bytes(data)


def _most_used() -> int:
    """Bytes that this process or one of its children has held at most, ever."""
    return max(
        resource.getrusage(who).ru_maxrss << 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def fuzz(target: Target, seconds: float, folder: Path, seed: int = 0) -> Count:
    """Damage after damage, for some time, when what has to be imported is there."""
    for file in target.files:
        one(target, file, content(file), folder, Count(), "whole")
    count, number, end = Count(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        name = f"{seed}.{number}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of names that stand twice in an archive
            file, data = damaged(target, Random(f"{target.name}.{name}"))
        one(target, file, data, folder, count, name)
        number += 1
    return count


ALL = {**TARGETS, **DEEP, **INNER, **OWN}
"""Every target, by its name."""


def there(target: Target) -> bool:
    """Whether the package that a target needs is installed."""
    return not target.needs or importlib.util.find_spec(target.needs) is not None


def everything(minutes: float, folder: Path, seed: int) -> dict[str, Count]:
    """All targets, in turns, for some time together."""
    targets = {name: target for name, target in ALL.items() if there(target)}
    counts = {name: Count() for name in targets}
    turns, end, turn = 60.0 * minutes / len(targets), time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        for name, target in targets.items():
            part = fuzz(target, min(8.0, turns), folder, seed + turn)
            count = counts[name]
            count.read, count.refused = count.read + part.read, count.refused + part.refused
            count.slowest = max(count.slowest, part.slowest)
            count.violations += part.violations
            print(
                f"{name}: {count.read + count.refused:,} inputs, {len(count.violations)} violations",
                flush=True,
            )
        turn += 1
    return counts
