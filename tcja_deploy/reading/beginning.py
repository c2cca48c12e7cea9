"""What a file begins with, by which its kind is told."""

from __future__ import annotations

from pathlib import Path

from tcja_deploy.errors import FileFormatError

__all__ = ["first_bytes"]


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, fewer if it is shorter.

    Raises:
        FileFormatError: If it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise FileFormatError(f"cannot be read ({error.strerror or error})", where=str(path)) from error
