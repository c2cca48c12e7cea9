"""What the benchmarks share: all sides in one process, in turns; ratios of medians; results as JSON."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


def turns(names: Iterable[str], rounds: int, warm: int = 1) -> Iterator[tuple[str, bool]]:
    """Names in turn, `rounds` times after `warm` more, and whether each turn counts: those that warm up do not."""
    names = list(names)
    for round_ in range(-warm, rounds):
        for name in names:
            yield name, round_ >= 0


def turn_by_turn(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, by name, in `rounds` rounds; a round before them warms up, compiles and is left out."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for name, counts in turns(ways, rounds):
        start = time.perf_counter()
        ways[name]()
        if counts:
            times[name].append(time.perf_counter() - start)
    return times


def show(title: str, times: Mapping[str, list[float]], reference: str, each: int = 1) -> dict[str, float]:
    """Print medians (divided by `each`) and the ratio of the reference's to each; return the medians in seconds."""
    medians = {name: statistics.median(t) / each for name, t in times.items()}
    table = Table("", "ms", "min", "max", f"{reference} over it", title=title)
    for name, median in medians.items():
        low, high = (1e3 * f(times[name]) / each for f in (min, max))
        ratio = medians[reference] / median
        table.add_row(name, f"{1e3 * median:.2f}", f"{low:.2f}", f"{high:.2f}", f"{ratio:.2f}x")
    Console().print(table)
    return medians


def machine() -> str:
    """The processor, and how many cores this process may use."""
    from tcja_deploy.runtime.threads import available_cores

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {available_cores()} cores"


def commit() -> str:
    """Short hash of the checkout, with a plus if it has changes; `unknown` outside a checkout."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


def save(path: Path | None, benchmark: str, seconds: Mapping[str, float], **facts: Any) -> None:
    """Write medians in seconds by their keys, together with facts; nothing without a path."""
    if path is not None:
        about = {"benchmark": benchmark, "machine": machine(), "commit": commit()}
        path.write_text(json.dumps({**about, **facts, **seconds}, indent=2) + "\n")
