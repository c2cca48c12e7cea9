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

__all__ = ["atomic_directory", "atomic_file", "sha256", "staged_files"]


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_target(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise ExportError(
            "there is something at this path already",
            where=str(path),
            hint="choose another path or pass --force",
        )
    if not path.parent.is_dir():
        raise ExportError(
            "the folder to write into does not exist", where=str(path.parent), hint="create it first"
        )


def _mode(default: int) -> int:
    umask = os.umask(0)
    os.umask(umask)
    return default & ~umask


@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``; renamed to it if the block succeeds, removed if it fails.

    Raises:
        ExportError: If the path is taken and ``force`` is not set, its folder is missing, or writing fails.
    """
    _check_target(path, force)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise ExportError(f"cannot write here ({error.strerror})", where=str(path.parent)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(_mode(0o666))
        temporary.replace(path)
    except OSError as error:
        raise ExportError(f"writing failed ({error.strerror})", where=str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``path``; takes its place if the block succeeds, removed if it fails.

    Raises:
        ExportError: If the path is taken and ``force`` is not set, its parent is missing, or writing fails.
    """
    _check_target(path, force)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise ExportError(f"cannot write here ({error.strerror})", where=str(path.parent)) from error
    try:
        yield temporary
        temporary.chmod(_mode(0o777))
        if path.exists():
            replaced = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)) / "old"
            path.rename(replaced)
            temporary.rename(path)
            shutil.rmtree(replaced.parent)
        else:
            temporary.rename(path)
    except OSError as error:
        raise ExportError(f"writing failed ({error.strerror})", where=str(path)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def staged_files(parent: Path, names: Sequence[str], *, force: bool = False) -> Iterator[Path]:
    """A temporary folder in ``parent``; its files move there if the block succeeds and vanish if it fails.

    Args:
        parent: Where the files will be.
        names: Names that will be written; the last one moves last, so that it never stands there without the others.
        force: Replace files of these names.

    Raises:
        ExportError: If one of them exists and ``force`` is not set, the folder is missing, or writing fails.
    """
    taken = [n for n in names if (parent / n).exists()]
    if taken and not force:
        hint = "choose another path or pass --force"
        raise ExportError(f"already there: {', '.join(taken)}", where=str(parent), hint=hint)
    if not parent.is_dir():
        raise ExportError(
            "the folder to write into does not exist", where=str(parent), hint="create it first"
        )
    try:
        with tempfile.TemporaryDirectory(prefix=".tcja-deploy.", dir=parent) as folder:
            yield Path(folder)
            for file in sorted(Path(folder).iterdir(), key=lambda f: f.name == names[-1]):
                file.chmod(_mode(0o666))
                file.replace(parent / file.name)
    except OSError as error:
        raise ExportError(f"writing failed ({error.strerror})", where=str(parent)) from error
