"""How the loops of the engine are compiled and cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

__all__ = ["compiled", "compiled_part", "source_digest"]

_HERE = Path(__file__).parent
_SOURCES = (_HERE, _HERE.parent / "integers")


@cache
def source_digest() -> str:
    """SHA-256 (hex) of all files that kernels are written in."""
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for pattern in ("*kernels.py", "*vectors.py", "llvm.py", Path(__file__).name):
            for path in sorted(folder.glob(pattern)):
                digest.update(path.read_bytes())
    return digest.hexdigest()


_numba: Any = caching  # its own annotations leave these out


class _Cache(caching.FunctionCache):
    """Numba's cache takes a kernel as unchanged if its own file is; this one checks the files of what it calls as well."""

    def __init__(self, function: Callable[..., Any]) -> None:
        base: Any = super()
        base.__init__(function)
        self._cache_file = _numba.IndexDataCacheFile(
            cache_path=self._cache_path, filename_base=self._impl.filename_base, source_stamp=source_digest()
        )


def compiled(function: Callable[..., Any]) -> Any:
    """A loop that is compiled at its first call, runs without Python's lock, and is loaded from disk by later processes."""
    return _compiled(function)


def compiled_part(function: Callable[..., Any]) -> Any:
    """A part of loops that makes no arrays, and so need not count references to those that it is given.

    Counting takes two locked instructions for each array and each view, which is longer than what a small part does.
    """
    return _compiled(function, _nrt=False)


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher: Any = numba.njit(nogil=True, boundscheck=False, error_model="numpy", **options)(function)
    dispatcher._cache = _Cache(function)
    return dispatcher
