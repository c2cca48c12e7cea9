"""Replacing a set of files at once, in a file system that renames one file at a time.

Work in progress lies in a hidden folder beside the files::

    .tcja-deploy.k2h8/new/...   what was written
    .tcja-deploy.k2h8/old/...   second names (hard links) of what it replaces
    .tcja-deploy.k2h8/current   a link to old, later to new

Each file is replaced by a link to itself by way of `current`, which changes nothing for whoever opens it. Then `current`
is turned from old to new, in one system call: that is the moment at which the whole set changes. Then the links are
replaced by the files. A process that is killed anywhere in between leaves the old set or the new one, complete; links and
hidden folder that it leaves are cleared up by the next run that writes into the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tcja_deploy.files.system import hold

__all__ = ["NEW", "PREFIX", "clear", "settle", "switch", "unfinished"]

PREFIX = ".tcja-deploy."
"""How the names of folders that hold work in progress begin."""

NEW, _OLD, _CURRENT = "new", "old", "current"


def switch(folder: Path, names: Sequence[str]) -> None:
    """Let the files under `folder/new` take their places beside `folder`, all at once; `settle` must follow.

    Args:
        folder: The hidden folder; what is in it is laid out as it will be beside it.
        names: Paths of files, relative to where they will be; those that are not under `new` vanish from their places.

    Raises:
        FileExistsError: If a place has been taken in the meantime.
        OSError: If something cannot be moved; nothing has changed then for whoever opens the files.
    """
    parent = folder.parent
    (folder / _OLD).mkdir()
    (folder / _CURRENT).symlink_to(_OLD)
    for name in names:
        place, kept = parent / name, folder / _OLD / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(place):
            kept.parent.mkdir(parents=True, exist_ok=True)
            _second_name(place, kept)
            link = folder / "link"
            link.symlink_to(_text(folder, name))
            link.replace(place)
        else:
            place.symlink_to(_text(folder, name))
    turned = folder / "turned"
    turned.symlink_to(NEW)
    turned.replace(folder / _CURRENT)


def settle(folder: Path) -> None:
    """Put files in the place of the links to them, whichever set `current` means now."""
    if not unfinished(folder):
        return
    parent, current = folder.parent, folder / _CURRENT
    for name in sorted({*_files(folder / _OLD), *_files(folder / NEW)}):
        place = parent / name
        if place.is_symlink() and str(place.readlink()) == _text(folder, name):
            if os.path.lexists(current / name):
                (current / name).replace(place)
            else:
                place.unlink()
    for side in (_OLD, NEW):
        for inner in sorted((folder / side).rglob("*"), reverse=True):
            if inner.is_dir() and not inner.is_symlink():
                with suppress(OSError):  # not empty
                    (parent / inner.relative_to(folder / side)).rmdir()
    current.unlink()


def unfinished(folder: Path) -> bool:
    """Whether files beside a hidden folder may be links into it."""
    return (folder / _CURRENT).is_symlink()


def clear(parent: Path) -> None:
    """Finish or undo what dead processes left in a folder, and remove their hidden folders."""
    try:
        names = [entry.name for entry in os.scandir(parent) if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for name in names:
        folder = parent / name
        try:
            if not folder.is_dir() or folder.is_symlink() or folder.lstat().st_uid != os.geteuid():
                continue
            handle = hold(folder)
        except OSError:  # its process is alive, or it is gone already
            continue
        if handle is not None:
            try:
                settle(folder)
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                continue
            finally:
                os.close(handle)


def _text(folder: Path, name: str) -> str:
    """What the link in a file's place says."""
    return "/".join([*[".."] * name.count("/"), folder.name, _CURRENT, name])


def _second_name(place: Path, kept: Path) -> None:
    if place.is_symlink():
        kept.symlink_to(place.resolve())
        return
    try:
        kept.hardlink_to(place)
    except OSError:  # a file system without hard links
        shutil.copy2(place, kept)


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()
