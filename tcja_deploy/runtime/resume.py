"""Long runs that go on where they stopped: what is done is kept in the user's cache folder until the run ends.

A run has a folder of its own, named after what it was told to do (command, model, recordings, output). It holds parts, `.npz`
files with arrays of counts, each replaced as a whole. Every part states what its numbers depend on: network, recordings,
options, version of this program. A part that states something else is refused, so that no counts of different runs are added.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, ExportError, FileFormatError
from tcja_deploy.files import atomic_file
from tcja_deploy.files.system import user_cache
from tcja_deploy.reading.arrays import read_npz
from tcja_deploy.reading.json_text import parse_json
from tcja_deploy.version import __version__

__all__ = ["EVERY", "KeptProgress", "progress_folder"]

EVERY = 10.0
"""Seconds after which progress is kept again: at most that much work is lost, and shorter runs keep nothing."""

_FORMAT, _VERSION = "tcja-progress", 1
_STRUCTURE = {"format": str, "version": int, "facts": {str: str}, "state": object}
_OLD = 30 * 24 * 3600.0
"""Seconds after which the progress of a run that nobody resumed is removed."""


def progress_folder() -> Path:
    """The folder of all kept progress, in the user's cache folder."""
    return user_cache() / "progress"


class KeptProgress:
    """The progress of one run.

    Args:
        run: What the run was told to do; the same words find the same progress again.
        resume: Whether to go on from what is kept. Without it, a run begins anew, and what was kept is replaced.
    """

    def __init__(self, run: tuple[str, ...], *, resume: bool) -> None:
        self.folder = (
            progress_folder() / hashlib.sha256("\0".join(run).encode("utf-8", "replace")).hexdigest()[:24]
        )
        self.resume = resume
        self.facts: Mapping[str, str] = MappingProxyType({})
        self._kept = time.monotonic()
        self._begun = False

    @property
    def interrupted(self) -> bool:
        """Whether an earlier run of this kind was interrupted and has kept something."""
        return bool(self.names())

    @property
    def due(self) -> bool:
        """Whether it is time to keep what was done."""
        return time.monotonic() - self._kept >= EVERY

    def about(self, facts: Mapping[str, str]) -> None:
        """State what all numbers of this run depend on, and check that against what is kept.

        Raises:
            DataError: What is kept belongs to something else; the error names what differs.
            FileFormatError: What is kept is damaged.
        """
        self.facts = MappingProxyType({**facts, "tcja-deploy": __version__})
        for name in self.names() if self.resume else ():
            self.part(name)

    def names(self) -> list[str]:
        """Names of the parts that are kept, sorted."""
        try:
            return sorted(path.stem for path in self.folder.glob("*.npz"))
        except OSError:  # no folder can have this name, so nothing can be kept there
            return []

    def part(self, name: str) -> tuple[Any, dict[str, NDArray[Any]]] | None:
        """State (as JSON has it) and arrays of a part; `None` if this run goes on from nothing.

        Raises:
            DataError: It belongs to something else; the error names what differs.
            FileFormatError: It is damaged.
        """
        path = self.folder / f"{name}.npz"
        if not self.resume or not path.is_file():
            return None
        arrays = read_npz(path)
        header = arrays.pop("progress", None)
        if header is None or header.shape != () or header.dtype.kind != "U":
            raise FileFormatError("holds no progress of a run", where=str(path), hint=self._again)
        about = parse_json(str(header), _STRUCTURE, where=str(path), hint=self._again)
        if (about["format"], about["version"]) != (_FORMAT, _VERSION):
            raise FileFormatError("is progress of another version", where=str(path), hint=self._again)
        kept = about["facts"]
        differing = [
            f"{key}: {kept.get(key, 'nothing')[:60]} then, {self.facts.get(key, 'nothing')[:60]} now"
            for key in sorted({*kept, *self.facts})
            if kept.get(key) != self.facts.get(key)
        ]
        if differing:
            raise DataError(
                f"the interrupted run is another one, so its counts are of no use here ({'; '.join(differing)})",
                where=str(self.folder),
                hint=self._again,
            )
        return about["state"], arrays

    @property
    def _again(self) -> str:
        return "leave out --resume to begin anew"

    def keep(self, name: str, state: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace a part. If the cache folder cannot be written to, the run continues and nothing is kept."""
        header = {"format": _FORMAT, "version": _VERSION, "facts": dict(self.facts), "state": state}
        content: dict[str, Any] = {**arrays, "progress": np.array(json.dumps(header))}
        self._kept = time.monotonic()
        try:
            if not self._begun and not self.resume:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._begun = True
            path = self.folder / f"{name}.npz"
            with atomic_file(path, force=True) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **content)
        except (OSError, ExportError):
            return

    def finished(self) -> None:
        """Forget the run, which is complete, and runs that nobody has resumed for a month."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            for other in progress_folder().iterdir():
                if time.time() - other.stat().st_mtime > _OLD:
                    shutil.rmtree(other, ignore_errors=True)

    @contextmanager
    def until_done(self) -> Iterator[KeptProgress]:
        """A context for the run, whose progress is forgotten if it ends without an error."""
        yield self
        self.finished()
