"""Processes for foreign parsers that read many files: each is kept for the next file and ends with this process."""

from __future__ import annotations

import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.reading.child import Child, ForeignError
from tcja_deploy.reading.limits import Limits, current_limits
from tcja_deploy.reading.messages import Message

__all__ = ["ParserPool"]

_SECONDS, _BYTES_A_SECOND = 20.0, 5 << 20
"""Time for a small file, and how fast a large one has to be read: what takes longer loops."""


class ParserPool:
    """Processes for one parser, as many as there are threads that ask at once.

    Args:
        work: As for `Child`.
        what: The name of the parser, for errors.
        error: Class of the errors about files that cannot be read.
    """

    def __init__(self, work: str, *, what: str, error: type[DeployError] = FileFormatError) -> None:
        self._work, self._what, self._error = work, what, error
        self._idle: dict[Limits, list[Child]] = defaultdict(list)
        self._lock = threading.Lock()

    def ask(self, path: Path, **facts: Any) -> Message:
        """The answer of one of them about a file, whose path is among the facts of the request as `path`.

        Raises:
            DeployError: What was raised there on purpose; or of class `error`, if the parser fails, or takes more memory or
                time than the limits.
        """
        limits, place = current_limits(), str(path.resolve())
        with self._lock:
            child = self._idle[limits].pop() if self._idle[limits] else None
        child = child or Child(self._work, where=str(path), what=self._what)
        seconds = _SECONDS + path.stat().st_size / _BYTES_A_SECOND
        try:
            return child.ask(({"path": place, **facts}, {}), where=str(path), seconds=seconds)
        except ForeignError as error:
            raise self._error(
                f"cannot be decoded ({str(error)[:200]})", where=str(path), hint="the file is damaged"
            ) from error
        except FileFormatError as error:
            raise self._error(error.reason, where=str(path), hint=error.hint) from error
        except DeployError as error:
            error.where = error.where.replace(place, str(path))
            raise
        finally:
            if child.alive:
                with self._lock:
                    self._idle[limits].append(child)
