"""Writing: a kill between any two system calls leaves old or new, and the next run clears up; two writers never mix."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from killing import killed_at

from tcja_deploy import files
from tcja_deploy.errors import ExportError

OURS = '{"format": "tcja-deploy-manifest"}'
NAMES = ("x.golden", "x.manifest", "x.onnx")


def seen(folder: Path) -> dict[str, str]:
    """What whoever opens files finds; hidden folders and links that lead nowhere are not seen."""
    return {
        p.relative_to(folder).as_posix(): p.read_text()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".tcja-deploy." not in str(p.relative_to(folder))
    }


def write_set(folder: Path, tag: str, force: bool = True) -> None:
    with files.staged_files(folder, NAMES, force=force) as partial:
        for name in NAMES[1:] if tag == "two" else NAMES:
            (partial / name).write_text(tag)


def write_folder(folder: Path, tag: str, force: bool = True) -> None:
    with files.atomic_directory(folder / "d", force=force) as partial:
        (partial / "manifest.json").write_text(OURS + tag)
        (partial / "sub").mkdir()
        (partial / "sub" / f"only_{tag}").write_text(tag)
        (partial / "both").write_text(tag)


def write_file(folder: Path, tag: str, force: bool = True) -> None:
    with files.atomic_file(folder / "f", force=force) as partial:
        partial.write_text(tag)


def no_exchange(one: Path, other: Path) -> bool:
    return False


@pytest.mark.parametrize("write", [write_set, write_folder, write_file])
@pytest.mark.parametrize("before", ["old", ""])
@pytest.mark.parametrize("exchanges", [True, False])
def test_a_kill_anywhere_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., None], before: str, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "exchange", no_exchange)
    write(tmp_path, "new")
    new = seen(tmp_path)
    outcomes = []
    for k in itertools.count(1):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        if before:
            write(tmp_path, before)
        old = seen(tmp_path)
        alive = not killed_at(k, lambda: write(tmp_path, "new", force=bool(before)))
        found = seen(tmp_path)
        assert found in (old, new), f"killed at call {k}: {found}"
        assert found == new or not alive
        outcomes.append(found == new)
        try:  # the next run finds the same, with nothing hidden or linked
            write(tmp_path, "new", force=False)
        except ExportError:
            assert found
        else:
            assert not found
            found = new
        assert seen(tmp_path) == found
        assert not [p for p in tmp_path.rglob("*") if p.is_symlink() or p.name.startswith(".tcja-deploy.")]
        if alive:
            break
    assert outcomes == sorted(outcomes)  # first old, then new, and never back
    assert len(outcomes) > 5


def writer(
    folder: Path, tag: str, write: Callable[..., None], force: bool, n: int, meet: Barrier, results: Any
) -> None:
    for _ in range(n):
        meet.wait()
        try:
            write(folder, tag, force)
        except ExportError as error:
            results.put(str(error.reason))
        except BaseException as error:
            results.put(f"!!! {error!r}")
        else:
            results.put("written")
        meet.wait()


@pytest.mark.parametrize("write", [write_set, write_folder, write_file])
@pytest.mark.parametrize("force", [True, False])
def test_of_two_writers_one_wins_and_the_other_is_told(
    tmp_path: Path, write: Callable[..., None], force: bool
) -> None:
    rounds, context = 25, multiprocessing.get_context("fork")
    meet, results = context.Barrier(3), context.Queue()
    wholes = []
    for tag in "AB":
        write(tmp_path, tag)
        wholes.append(seen(tmp_path))
    workers = [
        context.Process(target=writer, args=(tmp_path, tag, write, force, rounds, meet, results))
        for tag in "AB"
    ]
    for worker in workers:
        worker.start()
    for _ in range(rounds):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        if force:
            write(tmp_path, "O")
        meet.wait(30)
        meet.wait(30)
        told = sorted(results.get() for _ in workers)
        assert seen(tmp_path) in wholes
        assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".tcja-deploy.")]
        if force:
            assert told == ["written", "written"]
        else:
            assert told[1] == "written"
            assert told[0].startswith(("already there", "there is something", "another program"))
    for worker in workers:
        worker.join(10)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    (tmp_path / "x.onnx").symlink_to(os.devnull)
    for write in (write_file, write_set):
        with pytest.raises(ExportError, match="device, FIFO or socket"):
            write(tmp_path, "new")
    assert (tmp_path / "f").is_fifo()
    assert (tmp_path / "x.onnx").is_symlink()


def test_a_link_of_the_user_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "x.onnx").symlink_to("../kept")
    write_set(tmp_path / "w", "new")
    assert seen(tmp_path) == {"kept": "mine", **{f"w/{n}": "new" for n in NAMES}}
    assert not (tmp_path / "w" / "x.onnx").is_symlink()


def test_hidden_folders_of_living_processes_stay(tmp_path: Path) -> None:
    with files.staged_files(tmp_path, ["a"]) as partial:
        (partial / "a").write_text("slow")
        write_set(tmp_path, "quick")
        write_set(tmp_path, "quicker")
    assert seen(tmp_path) == {"a": "slow", **dict.fromkeys(NAMES, "quicker")}


@pytest.mark.parametrize("name", ["a" * 300, "b\udcff", "nul\0"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    for make in (files.atomic_file, files.atomic_directory, files.check_free):
        with pytest.raises(ExportError):
            make(tmp_path / name).__enter__()  # type: ignore[union-attr]
    with pytest.raises(ExportError):
        files.staged_files(tmp_path, [name]).__enter__()
    assert seen(tmp_path) == {}
