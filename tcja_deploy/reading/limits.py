"""How much memory and time reading a foreign file may take, and what happens when it takes more.

Readers bound what a header claims by what the file holds, then ask `check_bytes` before they allocate. The budget is 4 GB and
60 s; `tcja-deploy --limits 16GB,300s` or `with limited(Limits(...))` changes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tcja_deploy.errors import DeployError, FileFormatError, UsageError

__all__ = [
    "Limits",
    "check_bytes",
    "current_limits",
    "limited",
    "out_of_memory_told",
    "parse_limits",
]


@dataclass(frozen=True)
class Limits:
    """What reading may take.

    Attributes:
        memory: Bytes that one file may make a reader, or one process a foreign parser, allocate.
        seconds: Time for each answer of a foreign parser.
    """

    memory: int = 4 << 30
    seconds: float = 60.0


_DEFAULT = Limits()
_CURRENT: ContextVar[Limits] = ContextVar("limits", default=_DEFAULT)

RAISE = "raise it with 'tcja-deploy --limits 16GB,300s ...' if the file is to be trusted"


def current_limits() -> Limits:
    """The limits that hold now."""
    return _CURRENT.get()


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Within the block, other limits hold."""
    token = _CURRENT.set(limits)
    try:
        yield
    finally:
        _CURRENT.reset(token)


_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "S": 1}


def parse_limits(text: str) -> Limits:
    """Limits as `16GB`, `300s` or both separated by a comma.

    Raises:
        UsageError: If the text states neither.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT]B|S)\s*", part, re.IGNORECASE)
        number = float(match[1]) * _UNITS[match[2].upper()] if match else 0
        key = "seconds" if match and match[2].upper() == "S" else "memory"
        if number <= 0 or key in found:
            raise UsageError(
                f"--limits {text!r} gives neither memory nor time",
                hint="write, for instance, 16GB,300s",
            )
        found[key] = number
    return Limits(int(found.get("memory", Limits.memory)), found.get("seconds", Limits.seconds))


def check_bytes(
    count: int, what: str, *, where: str = "", error: type[DeployError] = FileFormatError, hint: str = RAISE
) -> None:
    """Refuse what would take more memory than the limit, before it is allocated.

    Args:
        count: Bytes that it takes.
        what: What takes them, such as `"the array 'frames'"`.
        where: File or node that it is about.
        error: Class of the error.
        hint: What to do about it.

    Raises:
        DeployError: Of class `error`, if they are more.
    """
    most = current_limits().memory
    if count > most:
        raise error(f"{what} takes {_size(count)}; the limit is {_size(most)}", where=where, hint=hint)


def _size(count: int) -> str:
    """Bytes as people read them."""
    if count >= 1 << 60:
        return f"2^{count.bit_length() - 1} bytes and more"
    for unit in ("TB", "GB", "MB", "KB"):
        if count >= _UNITS[unit]:
            return f"{count / _UNITS[unit]:.3g} {unit}"
    return f"{count} bytes"


_TORCH_IS_OUT = re.compile(r"can't allocate memory|not enough memory|out of memory|bad_alloc", re.IGNORECASE)


@contextmanager
def out_of_memory_told(where: str = "") -> Iterator[None]:
    """Within the block, running out of memory or of stack becomes an error that says so.

    Raises:
        FileFormatError: If there is not enough memory for what the block does, or something is nested too deeply for it.
    """
    try:
        yield
    except DeployError:
        raise
    except (MemoryError, RecursionError, RuntimeError) as error:
        if isinstance(error, RecursionError):
            raise FileFormatError(
                "something in the input is nested too deeply", where=where, hint="no trained network is"
            ) from error
        if isinstance(error, MemoryError) or _TORCH_IS_OUT.search(str(error)):
            raise FileFormatError(
                "this needs more memory than there is",
                where=where,
                hint="run fewer recordings at once (--batch-size), fewer time steps or smaller frames",
            ) from error
        raise
