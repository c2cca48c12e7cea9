"""Writing files so that a failure leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tcja_deploy.errors import ExportError

__all__ = ["atomic_directory", "atomic_file", "check_free", "output_folder", "sha256", "staged_files"]

_PREFIX = ".tcja-deploy."
"""Of the names that files have until they are complete."""


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_target(parent: Path, names: Sequence[str], force: bool) -> None:
    taken = [n for n in names if os.path.lexists(parent / n)]
    if taken and not force:
        raise ExportError(
            f"already there: {', '.join(taken)}"
            if len(names) > 1
            else "there is something at this path already",
            where=str(parent if len(names) > 1 else parent / names[0]),
            hint="choose another path or pass --force",
        )
    if not parent.is_dir():
        raise ExportError(
            "the folder to write into does not exist", where=str(parent), hint="create it first"
        )
    if not os.access(parent, os.W_OK):
        raise ExportError(
            "this folder cannot be written to",
            where=str(parent),
            hint="choose another one, or see its permissions and whether the file system is read-only",
        )


def check_free(path: Path, *, force: bool = False) -> None:
    """Find out before a long computation what would keep its result from being written.

    Raises:
        ExportError: If the path is taken and ``force`` is not set, or its folder is missing or cannot be written to.
    """
    _check_target(path.parent, [path.name], force)


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """A folder for several outputs, made if it is missing; if the block fails and nothing lies in it, it is removed again.

    Raises:
        ExportError: If it cannot be made.
    """
    made = not path.is_dir()
    if made:
        if os.path.lexists(path):
            raise ExportError("what stands here is no folder", where=str(path), hint="choose another path")
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


def _swap(staged: list[tuple[Path, Path]], old: Path) -> None:
    """Move each new path to its place; if one cannot, put everything back as it was.

    Args:
        staged: Pairs (new path, place).
        old: An empty folder that takes what stood in the places.
    """
    undo: list[tuple[Path, Path]] = []
    try:
        for i, (new, place) in enumerate(staged):
            if os.path.lexists(place):
                place.rename(old / str(i))
                undo.append((old / str(i), place))
            new.rename(place)
            undo.append((place, new))
    except OSError:
        for here, back in reversed(undo):
            here.rename(back)
        raise


@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``; renamed to it if the block succeeds, removed if it fails.

    Raises:
        ExportError: If the path is taken and ``force`` is not set, its folder is missing, or writing fails.
    """
    _check_target(path.parent, [path.name], force)
    try:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise _failed(error, path) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(_mode(0o666))
        temporary.replace(path)
    except OSError as error:
        raise _failed(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``path``; takes its place if the block succeeds, removed if it fails.

    With ``force`` the whole of what stood at the path is replaced, if it is an empty folder or an earlier export.

    Raises:
        ExportError: If the path is taken and ``force`` is not set or something else stands there, its parent is missing, or
            writing fails.
    """
    _check_target(path.parent, [path.name], force)
    if path.exists() and not _is_export(path):
        raise ExportError(
            "what stands here is no earlier export, and --force does not replace other folders or files",
            where=str(path),
            hint="choose another path, or remove it yourself",
        )
    with _workshop(path.parent) as folder:
        new = _made(folder / "new")
        yield new
        _swap([(new, path)], _made(folder / "old"))


def _is_export(path: Path) -> bool:
    """Whether a folder is empty or has the manifest of an export."""
    if not path.is_dir() or path.is_symlink():
        return False
    manifest = path / "manifest.json"
    return not any(path.iterdir()) or (manifest.is_file() and b"tcja-deploy" in manifest.read_bytes())


@contextmanager
def staged_files(parent: Path, names: Sequence[str], *, force: bool = False) -> Iterator[Path]:
    """A temporary folder in ``parent``; its files move there if the block succeeds and vanish if it fails.

    Args:
        parent: Where the files will be.
        names: Names that will be written; the last one moves last, so that it never stands there without the others.
        force: Replace files of these names.

    Raises:
        ExportError: If one of them exists and ``force`` is not set or it is a folder, ``parent`` is missing, or writing fails.
        ValueError: If a file was written that was not announced.
    """
    _check_target(parent, names, force)
    folders = [n for n in names if (parent / n).is_dir()]
    if folders:
        raise ExportError(f"a folder stands where a file goes: {', '.join(folders)}", where=str(parent))
    with _workshop(parent) as folder:
        new = _made(folder / "new")
        yield new
        written = {file.name for file in new.iterdir()}
        if not written <= set(names):
            raise ValueError(f"not announced: {', '.join(sorted(written - set(names)))}")
        staged = [(new / name, parent / name) for name in names if name in written]
        for file, _ in staged:
            file.chmod(_mode(0o666))
        _swap(staged, _made(folder / "old"))


@contextmanager
def _workshop(parent: Path) -> Iterator[Path]:
    """A folder for work in progress, removed in any case; what goes wrong with files in it is an ``ExportError``."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise _failed(error, parent) from error
    try:
        yield folder
    except OSError as error:
        raise _failed(error, parent) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
