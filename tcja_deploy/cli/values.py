"""Values that are written in units: durations and sizes."""

from __future__ import annotations

import re

from tcja_deploy.errors import UsageError

__all__ = ["frame_shape", "microseconds", "sensor_size"]

_TIMES = {"us": 1, "ms": 1_000, "s": 1_000_000}


def microseconds(text: str) -> int:
    """A duration such as `30ms`, `5000us` or `0.1s`; milliseconds without a unit.

    Raises:
        UsageError: It is not a duration, or is shorter than a microsecond.
    """
    found = re.fullmatch(r"(\d{1,15}\.?\d{0,15}|\.\d{1,15})\s*(us|ms|s)?", text.strip())
    time = round(float(found[1]) * _TIMES[found[2] or "ms"]) if found else 0
    if time < 1:
        raise UsageError(
            f"--frame-time {text!r} is not a duration", hint="write, for instance, 30ms, 5000us or 0.1s"
        )
    return time


def sensor_size(text: str) -> tuple[int, int]:
    """Rows and columns from `H,W`.

    Raises:
        UsageError: It is neither that nor `HxW`.
    """
    found = re.fullmatch(r"(\d{1,5})\s*[,x]\s*(\d{1,5})", text.strip())
    if not found:
        raise UsageError(f"--sensor {text!r} is not H,W", hint="write, for instance, 240,320")
    return int(found[1]), int(found[2])


def frame_shape(text: str) -> tuple[int, ...]:
    """The shape of a frame from `C,H,W`.

    Raises:
        UsageError: It is not a list of numbers separated by commas.
    """
    found = re.fullmatch(r"\s*-?\d{1,18}\s*(,\s*-?\d{1,18}\s*){0,31}", text)
    if not found:
        raise UsageError(f"--input-shape {text!r} is not C,H,W", hint="write, for instance, 2,128,128")
    return tuple(map(int, re.findall(r"-?\d+", text)))  # what is white space to `re` may not be to `int`
