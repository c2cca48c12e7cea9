"""Runs that are killed in the middle and go on: the same integers, the same tables, and never those of another run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.runtime import resume
from tcja_deploy.zoo.modules import to_module

KILLED = """
import os, signal, sys
from tcja_deploy.runtime import resume
from tcja_deploy.cli import main

resume.EVERY = 0.0
keep, left = resume.KeptProgress.keep, [int(sys.argv.pop(1))]

def kept(self, *arguments):
    keep(self, *arguments)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

resume.KeptProgress.keep = kept
sys.argv[0] = "tcja-deploy"
main()
"""


class Stopped(BaseException):
    """Stands for a kill where a process of its own would take too long."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resumed")
    arch = zoo.events34(channels=(4, 6, 6), T=4, hidden=20)
    for seed, name in ((3, "net"), (4, "other")):
        state = to_module(arch, zoo.random_state(arch, seed=seed)).state_dict()
        torch.save({"net": state}, folder / f"{name}.pth")
    rng, shape = np.random.default_rng(0), td.load(folder / "net.pth").input_shape
    for name in ("data", "others"):
        frames = rng.poisson(0.3, (14, 4, *shape)).astype(np.uint8)
        np.savez(folder / f"{name}.npz", frames=frames, labels=np.arange(14) % 2)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(resume, "EVERY", 0.0)
    return tmp_path / "cache"


def kept(cache: Path) -> list[Path]:
    return sorted((cache / "tcja-deploy" / "progress").glob("*/*.npz"))


def killed(cache: Path, after: int, *arguments: object) -> None:
    """A run in a process of its own, which is killed when it has kept its progress so many times."""
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(after), *map(str, arguments)],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        cwd=Path.cwd(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == -9


def stopped(run: Run, after: int, *arguments: object) -> None:
    """The same in this process, by an exception that nothing catches."""
    keep, left = resume.KeptProgress.keep, [after]

    def kept_then_stopped(self: resume.KeptProgress, *given: Any) -> None:
        keep(self, *given)
        left[0] -= 1
        if not left[0]:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume.KeptProgress, "keep", kept_then_stopped)
        with pytest.raises(Stopped):
            run(*arguments)


@pytest.mark.parametrize("engine", ["torch", "events"])
def test_rates_go_on_where_they_stopped(run: Run, files: Path, cache: Path, engine: str) -> None:
    command = [
        "rates",
        files / "net.pth",
        "--data",
        files / "data.npz",
        "--engine",
        engine,
        "--batch-size",
        4,
        "--force",
        "--save",
    ]
    whole = run(*command, "whole.npz")
    assert whole.code == 0, whole.err
    assert kept(cache) == []
    for after in (1, 3):
        if engine == "events" and after == 3:
            killed(cache, after, *command, "parts.npz")
        else:
            stopped(run, after, *command, "parts.npz")
        assert len(kept(cache)) == after
        resumed = run(*command, "parts.npz", "--resume")
        assert resumed.code == 0, resumed.err
        assert resumed.out.replace("parts.npz", "whole.npz") == whole.out
        assert Path("parts.npz").read_bytes() == Path("whole.npz").read_bytes()
        assert kept(cache) == []


def test_energy_goes_on_where_it_stopped(run: Run, files: Path, cache: Path) -> None:
    command = ["energy", files / "net.pth", "--data", files / "data.npz"]
    whole = run(*command)
    stopped(run, 2, *command)
    assert run(*command, "--resume").out == whole.out
    assert whole.code == 0


def test_sweeps_go_on_where_they_stopped(run: Run, files: Path, cache: Path) -> None:
    command = [
        "stream",
        files / "net.pth",
        "--data",
        files / "data.npz",
        "--sweep",
        "--fit",
        "--batch-size",
        "2",
        "--json",
    ]
    whole = run(*command)
    assert whole.code == 0, whole.err
    for after in (2, 4, 6):  # while fitting, when that is done, while comparing
        if after == 6:
            killed(cache, after, *command)
        else:
            stopped(run, after, *command)
        assert kept(cache)
        resumed = run(*command, "--resume")
        assert (resumed.code, resumed.out) == (0, whole.out)


def test_progress_of_another_run_is_refused(run: Run, files: Path, cache: Path) -> None:
    for name in ("net.pth", "data.npz"):
        Path(name).write_bytes((files / name).read_bytes())
    command = ["rates", "net.pth", "--data", "data.npz", "--batch-size", "4"]
    stopped(run, 2, *command)
    for name, other, said in (("net.pth", "other.pth", "model"), ("data.npz", "others.npz", "data SHA-256")):
        Path(name).write_bytes((files / other).read_bytes())
        refused = run(*command, "--resume")
        assert refused.code == 4
        assert said in refused.err
        assert "leave out --resume" in refused.err
        Path(name).write_bytes((files / name).read_bytes())
    refused = run(*command, "--batch-size", "2", "--resume")
    assert (refused.code, "batch size: 4 then, 2 now" in refused.err) == (4, True)
    part = kept(cache)[0]
    good = part.read_bytes()
    for content in (b"no archive", good[:200], (files / "data.npz").read_bytes()):
        part.write_bytes(content)
        assert run(*command, "--resume").code == 3
    part.write_bytes(good)
    anew = run(*command)
    assert anew.code == 0
    assert "an earlier run was interrupted" in anew.err
    assert kept(cache) == []


def test_where_nothing_is_kept(
    run: Run, files: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["rates", files / "net.pth", "--data", files / "data.npz"]
    begun = run(*command, "--resume")
    assert (begun.code, "nothing is kept" in begun.err) == (0, True)
    assert run("stream", files / "net.pth", "--data", files / "data.npz", "--resume").code == 2
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert run(*command).code == 0


def test_short_runs_keep_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY", 10.0)
    assert not resume.KeptProgress(("a",), resume=False).due
