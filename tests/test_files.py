"""Writing: all or nothing, whatever goes wrong and when."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tcja_deploy import files
from tcja_deploy.errors import ExportError
from tcja_deploy.files import (
    atomic_directory,
    atomic_file,
    check_free,
    output_folder,
    sha256,
    staged_files,
)
from tcja_deploy.files.system import user_cache


def tree(folder: Path) -> dict[str, str]:
    """Every path under a folder, hidden ones too, with its text."""
    return {
        p.relative_to(folder).as_posix(): p.read_text() if p.is_file() else "a folder"
        for p in sorted(folder.rglob("*"))
    }


class FailedError(Exception):
    pass


def write(
    manager: AbstractContextManager[Path], texts: dict[str, str], then: Callable[[], object] = lambda: None
) -> None:
    """Write files into what a manager gives (the file itself is called ""), then do something, all inside its block."""
    with manager as partial:
        for name, text in texts.items():
            (partial / name if name else partial).write_text(text)
        then()


def failing(error: BaseException) -> Callable[[], None]:
    """Something that goes wrong inside a block."""

    def fail() -> None:
        raise error

    return fail


CHANGES = ("rename", "replace", "symlink_to", "hardlink_to")
"""Methods of `Path` that let a name mean something else."""


@pytest.fixture
def fail_change(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the n-th change of a name from now on fail as on a full disk."""

    def arrange(n: int) -> None:
        count = iter(range(n + 1000))
        for name in CHANGES:
            real = getattr(Path, name)

            def limited(self: Path, target: Path, real: Any = real) -> Any:
                if next(count) == n:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(self, target)

            monkeypatch.setattr(Path, name, limited)

    return arrange


def test_sha256(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 17)
    (tmp_path / "x").write_bytes(content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


# -- one file --------------------------------------------------------------------------------------------------------
def test_file(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "x.bin") as partial:
        assert partial.suffix == ".bin"
        partial.write_text("new")
        assert not (tmp_path / "x.bin").exists()
    assert tree(tmp_path) == {"x.bin": "new"}


def test_file_mode_follows_umask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "x") as partial:
            partial.write_text("new")
        with atomic_directory(tmp_path / "d"):
            pass
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750


@pytest.mark.parametrize("before", [{}, {"x": "old"}])
@pytest.mark.parametrize(
    "error", [FailedError(), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_file_that_fails(tmp_path: Path, before: dict[str, str], error: BaseException) -> None:
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    expected = ExportError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught:
        write(atomic_file(tmp_path / "x", force=True), {"": "half"}, failing(error))
    assert tree(tmp_path) == before
    if isinstance(error, OSError):
        assert "No space left on device" in str(caught.value)


def test_file_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with (
        pytest.raises(ExportError, match="something at this path already") as caught,
        atomic_file(tmp_path / "x"),
    ):
        pytest.fail("the block ran")
    assert caught.value.where == str(tmp_path / "x")
    with atomic_file(tmp_path / "x", force=True) as partial:
        partial.write_text("new")
    assert tree(tmp_path) == {"x": "new"}


def test_link_that_leads_nowhere_is_taken(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to(tmp_path / "gone")
    with pytest.raises(ExportError, match="already"), atomic_file(tmp_path / "x"):
        pytest.fail("the block ran")


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").write_text("old")
    with pytest.raises(ExportError, match="writing failed"):
        write(atomic_file(tmp_path / "x", force=True), {"": "new"})
    assert tree(tmp_path) == {"x": "a folder", "x/mine": "old"}


@pytest.mark.parametrize("make", [atomic_file, atomic_directory])
def test_no_folder_to_write_into(tmp_path: Path, make: Any) -> None:
    with pytest.raises(ExportError, match="does not exist") as caught, make(tmp_path / "no" / "x"):
        pytest.fail("the block ran")
    assert caught.value.where == str(tmp_path / "no")
    with pytest.raises(ExportError, match="does not exist"), staged_files(tmp_path / "no", ["x"]):
        pytest.fail("the block ran")


# -- a folder ----------------------------------------------------------------------------------------------------------
OURS = '{"format": "tcja-deploy-manifest"}'


@pytest.mark.parametrize("content", ["a picture", '{"format": "something else"}'])
def test_force_replaces_earlier_exports_only(tmp_path: Path, content: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.json").write_text(content)
    with (
        pytest.raises(ExportError, match="not an earlier export"),
        atomic_directory(tmp_path / "d", force=True),
    ):
        pytest.fail("the block ran")
    assert tree(tmp_path) == {"d": "a folder", "d/manifest.json": content}


def test_force_replaces_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with atomic_directory(tmp_path / "d", force=True) as partial:
        (partial / "a").write_text("new")
    assert tree(tmp_path) == {"d": "a folder", "d/a": "new"}


def test_folder(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "d") as partial:
        (partial / "manifest.json").write_text(OURS)
        assert not (tmp_path / "d").exists()
    assert tree(tmp_path) == {"d": "a folder", "d/manifest.json": OURS}
    with pytest.raises(ExportError, match="already"), atomic_directory(tmp_path / "d"):
        pytest.fail("the block ran")
    with atomic_directory(tmp_path / "d", force=True) as partial:
        (partial / "b").write_text("newer")
    assert tree(tmp_path) == {"d": "a folder", "d/b": "newer"}


@pytest.mark.parametrize(
    "error", [FailedError(), KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")]
)
def test_folder_that_fails(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.json").write_text(OURS)
    expected = ExportError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write(atomic_directory(tmp_path / "d", force=True), {"a": "half"}, failing(error))
    assert tree(tmp_path) == {"d": "a folder", "d/manifest.json": OURS}


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot let two paths change places."""
    monkeypatch.setattr(files, "exchange", lambda one, other: False)


@pytest.mark.usefixtures("no_exchange")
@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 6])
def test_folder_that_cannot_be_moved_leaves_the_old_one(tmp_path: Path, fail_change: Any, n: int) -> None:
    """Changes: current; a link for a; second name, link, replacement for the manifest; turned, its replacement."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.json").write_text(OURS)
    with pytest.raises(ExportError, match="No space left"):
        write(atomic_directory(tmp_path / "d", force=True), {"a": "new"}, lambda: fail_change(n))
    assert tree(tmp_path) == {"d": "a folder", "d/manifest.json": OURS}


def test_folders_change_places_in_one_call(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.json").write_text(OURS)
    before = (tmp_path / "d").stat().st_ino
    with atomic_directory(tmp_path / "d", force=True) as partial:
        inode = partial.stat().st_ino
    assert before != (tmp_path / "d").stat().st_ino == inode


# -- several files -------------------------------------------------------------------------------------------------------
def test_staged(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    with staged_files(tmp_path, ["b", "a"]) as folder:
        (folder / "a").write_text("A")
        (folder / "b").write_text("B")
        assert not (tmp_path / "a").exists()
    assert tree(tmp_path) == {"a": "A", "b": "B", "other": "mine"}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o444 == 0o444


def test_staged_names_that_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "c").write_text("old")
    with pytest.raises(ExportError, match="already there: a, c"), staged_files(tmp_path, ["a", "b", "c"]):
        pytest.fail("the block ran")
    with pytest.raises(ExportError, match="something at this path already"), staged_files(tmp_path, ["a"]):
        pytest.fail("the block ran")
    with staged_files(tmp_path, ["a", "b"], force=True) as folder:
        (folder / "a").write_text("new")
    assert tree(tmp_path) == {"a": "new", "c": "old"}  # b was announced only


def test_staged_files_that_were_not_announced_replace_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("old")
    with pytest.raises(ValueError, match="not announced: mine"):
        write(staged_files(tmp_path, ["a"]), {"a": "new", "mine": "new"})
    assert tree(tmp_path) == {"mine": "old"}


def test_staged_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("old")
    with (
        pytest.raises(ExportError, match="a folder is in the place of a file: a"),
        staged_files(tmp_path, ["a"], force=True),
    ):
        pytest.fail("the block ran")
    assert tree(tmp_path) == {"a": "a folder", "a/mine": "old"}


@pytest.mark.parametrize(
    "error", [FailedError(), KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")]
)
def test_staged_that_fails(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_text("old")
    expected = ExportError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write(staged_files(tmp_path, ["a", "b"], force=True), {"b": "half"}, failing(error))
    assert tree(tmp_path) == {"a": "old"}


@pytest.mark.parametrize("n", [0, 2, 3, 4, 6, 7, 8, 9])
def test_staged_files_that_cannot_all_be_moved_leave_the_old_ones(
    tmp_path: Path, fail_change: Any, n: int
) -> None:
    """Changes: current; second name, link, replacement for a and for c; link for b; turned, its replacement."""
    (tmp_path / "a").write_text("old a")
    (tmp_path / "c").write_text("old c")
    texts = {name: f"new {name}" for name in "abc"}
    with pytest.raises(ExportError, match="No space left"):
        write(staged_files(tmp_path, ["a", "b", "c"], force=True), texts, lambda: fail_change(n))
    assert tree(tmp_path) == {"a": "old a", "c": "old c"}


# -- before the work, and folders ----------------------------------------------------------------------------------------------
def test_check_free(tmp_path: Path) -> None:
    taken = tmp_path / "a.csv"
    check_free(taken)
    taken.touch()
    check_free(taken, force=True)
    with pytest.raises(ExportError, match="already"):
        check_free(taken)
    with pytest.raises(ExportError, match="does not exist"):
        check_free(tmp_path / "no" / "a.csv")


def test_folders_without_permission_are_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    for make in (check_free, lambda path: staged_files(path.parent, [path.name]).__enter__()):
        with pytest.raises(ExportError, match="cannot be written to") as caught:
            make(tmp_path / "a")
        assert caught.value.where == str(tmp_path)


def test_output_folder(tmp_path: Path) -> None:
    with output_folder(tmp_path / "new") as folder:
        (folder / "a").touch()
    with pytest.raises(KeyboardInterrupt), output_folder(tmp_path / "empty"):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), output_folder(tmp_path / "new"):
        raise KeyboardInterrupt
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="not a folder"), output_folder(tmp_path / "file"):
        pass
    with pytest.raises(ExportError, match="does not exist"), output_folder(tmp_path / "no" / "deep"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "new"]


def test_cache_folders_of_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert user_cache() == Path("/home/me/.cache/tcja-deploy")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert user_cache() == Path("/home/me/Library/Caches/tcja-deploy")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert user_cache() == Path("/local/tcja-deploy")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert user_cache() == Path("/caches/tcja-deploy")
