"""Processes for foreign parsers that stay for the next input: a hundred inputs a second instead of one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tcja_deploy.reading import hdf5
from tcja_deploy.reading.child import Child
from tcja_deploy.runtime.onnx import session

_FRESH = 500
"""Inputs after which a process is replaced, so that what one input leaves there does not pile up."""


class Kept:
    """See `Child`; closing it keeps the process."""

    _processes: dict[str, tuple[Child, int]] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, work: str, *, where: str, what: str, seconds: float = math.inf) -> None:
        self._work, self._where, self._seconds = work, where, seconds
        child, used = self._processes.pop(work, (None, 0))
        if child is not None and (not child.alive or used >= _FRESH):
            child.close()
            child, used = None, 0
        self._child = child or Child(work, where=where, what=what)
        self._processes[work] = self._child, used + 1

    def ask(self, message: Any) -> Any:
        """See `Child`."""
        return self._child.ask(message, where=self._where, seconds=self._seconds)

    def close(self) -> None:
        """Keep it."""

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def kept(unguarded: str = "") -> Iterator[None]:
    """Inside, readers keep their processes.

    Args:
        unguarded: What reads ONNX models instead.
    """

    def models(work: str, **known: Any) -> Kept:
        return Kept(unguarded or work, **known)

    with patch.object(hdf5, "Child", Kept), patch.object(session, "Child", models):
        yield
