"""Frames kept in the user's cache folder, under the hash of the file they come from and how they were made."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DeployError
from tcja_deploy.files.system import user_cache
from tcja_deploy.reading.arrays import map_npy

__all__ = ["MIN_FILE", "FrameCache", "frame_folder"]

MIN_FILE = 2**18
"""Bytes of a file below which decoding it again takes no longer than reading its frames."""

_LIMIT = 4 * 2**30
_OLD = 24 * 3600.0
"""Seconds after which nobody is still writing a file."""

_VERSION = 1
"""Raised by one whenever the same file and options come to give other frames."""


def frame_folder() -> Path:
    """Where frames are kept, in the user's cache folder."""
    return user_cache() / "frames"


class FrameCache:
    """A folder of arrays. It may vanish at any time, be read-only or damaged: then frames are made again."""

    def __init__(self, folder: Path | None = None, limit: int = _LIMIT) -> None:
        self._folder = folder or frame_folder()
        self._limit = limit
        self._written = 0

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(f"{_VERSION} {key}".encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.npy"

    def get(self, key: str, shape: tuple[int, ...]) -> NDArray[np.generic] | None:
        """The frames under a key; None if there are none of that shape."""
        path = self._path(key)
        try:
            kept = map_npy(path)
            if kept.shape != shape or kept.dtype.kind not in "uif":
                return None
            frames: NDArray[np.generic] = np.array(kept)
            os.utime(path)
        except (OSError, DeployError):
            return None
        return frames

    def put(self, key: str, frames: NDArray[np.generic]) -> None:
        """Keep frames; silently does nothing if the folder cannot be written to."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as stream:
                    np.save(stream, frames)
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError:
            return
        self._written += frames.nbytes

    def trim(self) -> None:
        """Remove the least recently used arrays, if something was added and the folder has grown beyond its limit."""
        if not self._written:
            return
        try:
            kept = sorted(
                (
                    (status.st_mtime, status.st_size, path)
                    for path in self._folder.glob("??/*.npy")
                    if (status := path.stat())
                ),
                reverse=True,
            )
            total = 0
            for _, size, path in kept:
                total += size
                if total > self._limit:
                    path.unlink(missing_ok=True)
            for path in self._folder.glob("??/*.part"):  # of processes that were killed
                if time.time() - path.stat().st_mtime > _OLD:
                    path.unlink(missing_ok=True)
        except OSError:
            return
