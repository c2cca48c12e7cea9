"""Writing files so that a failure or a kill leaves the old or the new, whole, and of two writers one wins and one is told."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tcja_deploy.errors import DeployError, ExportError, FileFormatError
from tcja_deploy.files.switch import NEW, PREFIX, clear, settle, switch, unfinished
from tcja_deploy.files.system import exchange, flush, hold, locked

__all__ = [
    "atomic_directory",
    "atomic_file",
    "being_written",
    "check_free",
    "output_folder",
    "path_status",
    "sha256",
    "staged_files",
]


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# -- looking ---------------------------------------------------------------------------------------------------------------
def path_status(path: Path, error: type[DeployError] = FileFormatError) -> str:
    """What is at a path, links followed: `"file"`, `"folder"`, `"other"` (FIFO, socket, device) or `"missing"`.

    Opening anything but a file may block for ever or have effects, so that readers ask here first.

    Raises:
        DeployError: Of class `error`, if the system refuses to look: names that are too long, folders that may not be
            searched, links that form a circle.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError) as problem:  # ValueError: a name with a zero byte
        raise error(f"this path cannot be accessed ({_said(problem)})", where=str(path)) from problem
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def _taken(path: Path) -> bool:
    """Whether anything has this name, even a link that leads nowhere.

    Raises:
        ExportError: If nothing can have it: it is too long, not UTF-8, or in a folder that may not be searched.
    """
    try:
        str(path).encode()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        hint = "choose a name in UTF-8" if isinstance(error, UnicodeError) else ""
        raise ExportError(f"this cannot be written ({_said(error)})", where=str(path), hint=hint) from error
    return True


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "its name is not valid UTF-8"
    return str(getattr(error, "strerror", None) or error)


def _check_target(parent: Path, names: Sequence[str], force: bool) -> None:
    hidden = [n for n in names if n.startswith(PREFIX)]
    if hidden:
        raise ExportError(
            f"names that begin with {PREFIX} are those of work in progress, which is cleared up",
            where=str(parent / hidden[0]), hint="choose another name",
        )  # fmt: skip
    taken = [n for n in names if _taken(parent / n)]
    if path_status(parent, ExportError) != "folder":
        raise ExportError(
            "the folder to write into does not exist", where=str(parent), hint="create it first"
        )
    if not os.access(parent, os.W_OK):
        raise ExportError(
            "this folder cannot be written to",
            where=str(parent),
            hint="choose another one, or check its permissions and whether the file system is read-only",
        )
    if taken and not force:
        raise ExportError(
            f"already there: {', '.join(taken)}"
            if len(names) > 1
            else "there is something at this path already",
            where=str(parent if len(names) > 1 else parent / names[0]),
            hint="choose another path or pass --force",
        )
    for name in taken:
        if path_status(parent / name, ExportError) == "other":
            raise ExportError(
                "what is here is a device, FIFO or socket, which nothing replaces",
                where=str(parent / name), hint="choose another path",
            )  # fmt: skip


def check_free(path: Path, *, force: bool = False) -> None:
    """Make sure, before a long computation, that its result can be written.

    Raises:
        ExportError: If the path is taken and `force` is not set, or its folder is missing or cannot be written to.
    """
    _clear(path.parent, [path.name])
    _check_target(path.parent, [path.name], force)


def _clear(parent: Path, names: Sequence[str]) -> None:
    """If a name is taken, it may be by what a process left that was killed while writing: finish or undo that."""
    if any(_taken(parent / name) for name in names):
        try:
            with locked(parent):
                clear(parent)
        except OSError as error:
            raise _failed(error, parent) from error


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """A folder for several outputs, made if it is missing; if the block fails and nothing lies in it, it is removed again.

    Raises:
        ExportError: If it cannot be made.
    """
    made = path_status(path, ExportError) != "folder"
    if made:
        if _taken(path):
            raise ExportError("what is here is not a folder", where=str(path), hint="choose another path")
        _check_target(path.parent, [], force=False)
        try:
            path.mkdir()
        except OSError as error:
            raise _failed(error, path) from error
    try:
        yield path
    except BaseException:
        if made and not any(path.iterdir()):
            path.rmdir()
        raise


def _failed(error: OSError, where: Path) -> ExportError:
    return ExportError(f"writing failed ({error.strerror or error})", where=str(where))


def _mode(default: int) -> int:
    umask = os.umask(0)
    os.umask(umask)
    return default & ~umask


# -- writing ---------------------------------------------------------------------------------------------------------------
@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `path`; moved to it if the block succeeds, removed if it fails.

    Raises:
        ExportError: If the path is taken and `force` is not set, its folder is missing, or writing fails.
    """
    check_free(path, force=force)
    with _workshop(path.parent, path) as folder:
        new = folder / NEW / path.name
        yield new

        def move() -> None:
            if force:
                new.replace(path)
            else:
                _move_beside(new, path)

        _finish(folder, [new], path.parent, lambda: _check_target(path.parent, [path.name], force), move)


def _move_beside(new: Path, path: Path) -> None:
    """Rename without replacing what another program may have put there since it was looked at."""
    try:
        path.hardlink_to(new)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        new.replace(path)


@contextmanager
def atomic_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path`; takes its place if the block succeeds, removed if it fails.

    With `force` the whole of what stood at the path is replaced, if it is an empty folder or an earlier export.

    Raises:
        ExportError: If the path is taken and `force` is not set or something else stands there, its parent is missing, or
            writing fails.
    """

    def check() -> None:
        _check_target(path.parent, [path.name], force)
        if _taken(path) and not _is_export(path):
            raise ExportError(
                "what is here is not an earlier export, and --force does not replace other folders or files",
                where=str(path),
                hint="choose another path, or remove it yourself",
            )

    _clear(path.parent, [path.name])
    check()
    with _workshop(path.parent, path.parent) as folder:
        new = folder / NEW / path.name
        new.mkdir()
        yield new

        def move() -> None:
            if not _taken(path):
                new.rename(path)
            elif not exchange(new, path):
                switch(folder, _inside(path.parent, [path, new]))

        _finish(folder, sorted(new.rglob("*")), path.parent, check, move)


def _inside(parent: Path, folders: Sequence[Path]) -> list[str]:
    """All files of an earlier and a new folder of one name, relative to the folder's parent."""
    found = {
        f"{folders[0].name}/{file.relative_to(folder).as_posix()}"
        for folder in folders
        for file in folder.rglob("*")
        if file.is_symlink() or not file.is_dir()
    }
    return sorted(found)


_MANIFEST_BYTES = 1 << 24


def _is_export(path: Path) -> bool:
    """Whether a folder is empty or has the manifest of an export."""
    if not path.is_dir() or path.is_symlink():
        return False
    manifest = path / "manifest.json"
    if not any(path.iterdir()):
        return True
    if not manifest.is_file():
        return False
    with manifest.open("rb") as stream:
        return b"tcja-deploy" in stream.read(_MANIFEST_BYTES)


@contextmanager
def staged_files(
    parent: Path,
    names: Sequence[str],
    *,
    force: bool = False,
    allowed: Callable[[], None] = lambda: None,
) -> Iterator[Path]:
    """A temporary folder in `parent`; its files move there if the block succeeds and vanish if it fails.

    Several files are one unit: whoever opens them finds the earlier set or the new one, even after a kill.

    Args:
        parent: Where the files will be.
        names: Names of the set; a file of the earlier set that the new one does not have vanishes with it.
        force: Replace files of these names.
        allowed: Raises an `ExportError` if what is there may not be replaced; asked before the block and before the move.

    Raises:
        ExportError: If one of them exists and `force` is not set or it is a folder, `parent` is missing, or writing fails.
        ValueError: If a file was written that was not announced.
    """

    def check() -> None:
        allowed()
        _check_target(parent, names, force)
        folders = [n for n in names if (parent / n).is_dir()]
        if folders:
            raise ExportError(f"a folder is in the place of a file: {', '.join(folders)}", where=str(parent))

    _clear(parent, names)
    check()
    with _workshop(parent, parent) as folder:
        new = folder / NEW
        yield new
        written = {file.name for file in new.iterdir()}
        if not written <= set(names):
            raise ValueError(f"not announced: {', '.join(sorted(written - set(names)))}")
        files = [new / name for name in names if name in written]

        def move() -> None:
            switch(folder, [name for name in names if name in written or _taken(parent / name)])

        _finish(folder, files, parent, check, move)


_OPEN: set[Path] = set()
"""Hidden folders that this process is writing in."""


def being_written(path: Path) -> bool:
    """Whether this process has just written a file itself, in a place where no other program looks: it can be trusted."""
    return not _OPEN.isdisjoint(path.resolve().parents)


@contextmanager
def _workshop(parent: Path, where: Path) -> Iterator[Path]:
    """A hidden folder for work in progress, removed in any case; what goes wrong with files in it is an `ExportError`."""
    try:
        with locked(parent):
            clear(parent)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            handle = hold(folder)
    except OSError as error:
        raise _failed(error, where) from error
    _OPEN.add(folder.resolve())
    try:
        (folder / NEW).mkdir()
        yield folder
    except OSError as error:
        raise _failed(error, where) from error
    finally:
        _OPEN.discard(folder.resolve())
        if not unfinished(folder):
            shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _finish(
    folder: Path,
    written: Sequence[Path],
    parent: Path,
    check: Callable[[], None],
    move: Callable[[], None],
) -> None:
    """Flush all that was written to disk, check again that its place is free, and move it there.

    Raises:
        ExportError: If another program has written there in the meantime.
        OSError: If it cannot be moved; nothing has changed then.
    """
    for path in written:
        if path.is_file():
            path.chmod(_mode(0o666))
        flush(path)
    with locked(parent):
        try:
            check()
            move()
        except FileExistsError as error:
            raise ExportError(
                "another program has written here in the meantime", where=str(error.filename2 or parent),
                hint="choose another path or pass --force",
            ) from error  # fmt: skip
        finally:
            settle(folder)
    flush(parent)
