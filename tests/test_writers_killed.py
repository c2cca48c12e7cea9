"""What is written besides exports, killed between any two system calls: progress, plots, reports, tuned weights, caches."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from killing import killed_at

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.energy.render.documents import write_plots, write_text
from tcja_deploy.events.cache import FrameCache
from tcja_deploy.frontend.rewrite import save_like
from tcja_deploy.ir_file import save_graph
from tcja_deploy.runtime.resume import KeptProgress
from tcja_deploy.zoo.modules import to_module

ROOT = Path(__file__).resolve().parents[1]


def plots(folder: Path, tag: str) -> None:
    drawn: Any = [SimpleNamespace(key=name, svg=f"{tag} {name}") for name in "ab"]
    write_plots(folder / "plots", drawn, force=True)


def report(folder: Path, tag: str) -> None:
    write_text(folder / "r.html", lambda suffix: tag, force=True)


def saved(folder: Path, tag: str) -> None:
    seed = {"old": 0, "new": 1}[tag]
    save_graph(
        zoo.build("events34", T=2, channels=(2, 2, 2), hidden=4, classes=2, seed=seed),
        folder / "g",
        force=True,
    )


def tuned(folder: Path, tag: str) -> None:
    """As `lava tune -o` replaces a checkpoint, here by the same weights under another key."""
    source = folder.with_name("source") / f"{tag}.pth"
    network = td.load(source)
    save_like(source, network, network, folder / "tuned.pth", force=True)


def seen(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".tcja-deploy." not in str(p.relative_to(folder))
    }


@pytest.mark.parametrize("write", [plots, report, saved, tuned])
def test_a_kill_leaves_the_earlier_or_the_new(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    work = tmp_path / "work"
    (tmp_path / "source").mkdir()
    arch = zoo.events34(channels=(2, 2, 2), T=2, hidden=4)
    for seed, tag in enumerate(("old", "new")):
        state = to_module(arch, zoo.random_state(arch, seed=seed)).state_dict()
        torch.save({tag: state}, tmp_path / "source" / f"{tag}.pth")
    wholes = []
    for tag in ("old", "new"):
        (tmp_path / tag).mkdir()
        write(tmp_path / tag, tag)
        wholes.append(seen(tmp_path / tag))
    assert wholes[0] != wholes[1]
    outcomes = []
    for k in itertools.count(1):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(tmp_path / "old", work)
        alive = not killed_at(k, lambda: write(work, "new"))
        found = seen(work)
        assert found in wholes, f"killed at call {k}"
        outcomes.append(found == wholes[1])
        if alive:
            break
    assert outcomes == sorted(outcomes)
    assert outcomes[-1]
    assert len(outcomes) > 4
    write(work, "new")  # clears up
    assert not list(work.rglob(".tcja-deploy.*"))


@pytest.mark.parametrize("resume", [True, False])
def test_progress_is_whole_wherever_a_run_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """Parts of the run that was killed, or of the one before, and each of them whole; what goes on reads them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(value: int, resume: bool, finish: bool) -> None:
        kept = KeptProgress(("rates", "net"), resume=resume)
        kept.about({"model": "x"})
        kept.keep("a", {"value": value}, {"counts": np.full(1000, value)})
        if finish:
            kept.finished()

    for k in itertools.count(1):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        run(1, False, False)
        alive = not killed_at(k, lambda: run(2, resume, True))
        kept = KeptProgress(("rates", "net"), resume=True)
        kept.about({"model": "x"})
        for name in kept.names():
            part = kept.part(name)
            assert part is not None
            assert part[0]["value"] in (1, 2)
            assert (part[1]["counts"] == part[0]["value"]).all()
        if alive:
            assert kept.names() == []
            break
    assert k > 10


def test_a_cache_that_is_killed_or_damaged_gives_frames_or_nothing(tmp_path: Path) -> None:
    frames = np.arange(4000, dtype=np.uint8).reshape(4, 1000)
    for k in itertools.count(1):
        folder = tmp_path / str(k)
        alive = not killed_at(k, lambda folder=folder: FrameCache(folder).put("key", frames))  # type: ignore[misc]
        cache = FrameCache(folder)
        found = cache.get("key", frames.shape)
        assert found is None or np.array_equal(found, frames)
        for left in folder.rglob("*.part"):  # of a process that has long been dead
            os.utime(left, (time.time() - 10 * 86_400,) * 2)
        cache.put("other", frames)
        cache.trim()
        assert not list(folder.rglob("*.part"))
        if alive:
            break
    assert k > 2
    place = cache._path("key")
    whole = place.read_bytes()
    for damaged in (
        b"",
        whole[:50],
        whole[:-1],
        whole.replace(b"1000", b"9" * 4),
        whole.replace(b"'|u1'", b"'|O' "),
    ):
        place.write_bytes(damaged)
        assert cache.get("key", frames.shape) is None


WRITES = re.compile(
    r"\.write_(text|bytes)\(|\bopen\([^)]*\"[wax]b?\"|\bnp\.savez?\((?!file, t=)|^ *torch\.save\(|\.savefig\("
    r"|onnx\.save\(|\.touch\(|mkstemp|\bnir\.write\(content|h5py\.File\([^)]*\"w",
    re.MULTILINE,
)
ATOMIC = re.compile(r"\b(atomic_file|atomic_directory|staged_files)\(")
ELSEWHERE = {
    "exporters/lava/driver.py",  # a folder of its own for one run
    "exporters/lava/environment.py",  # a folder that is renamed when it is complete
    "exporters/lava/netfile.py",  # into the folder of an export that `pipeline` makes atomically
    "exporters/nir/export.py",
    "exporters/onnx/writing.py",
    "energy/render/plots.py",  # into memory
    "tcja_deploy/cli/remembered.py",  # an empty note
    "tcja_deploy/cli/stream_views.py",  # where `stream_jobs` says
    "tcja_deploy/events/cache.py",  # see above
    "tcja_deploy/reading/worker.py",  # nowhere
}
"""Files that write without making it atomic themselves, and why that is right."""


def test_nobody_else_writes_files() -> None:
    found = set()
    for folder in ("tcja_deploy", "exporters", "energy", "hardware_profiles"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text()
            if WRITES.search(text) and not ATOMIC.search(text) and "runner" not in file.parts:
                found.add(file.relative_to(ROOT).as_posix())
    assert found <= ELSEWHERE, found - ELSEWHERE
    missing: Any = [name for name in ELSEWHERE if not (ROOT / name).is_file()]
    assert not missing
