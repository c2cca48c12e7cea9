"""Outputs of one command go to places of their own: never onto each other, and never onto what the command reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tcja_deploy.errors import UsageError

__all__ = ["INPUTS", "OUTPUTS", "check_apart"]

OUTPUTS = frozenset({"output", "save", "neurobench", "save_profile", "plot"})
"""Parameters that name a file to write."""

INPUTS = frozenset(
    {
        "activity",
        "artifact",
        "calibration",
        "classes",
        "data",
        "labels",
        "model",
        "models",
        "profile",
        "test",
        "weights",
    }
)
"""Parameters that name a file or folder to read."""


def check_apart(given: Mapping[str, Any]) -> None:
    """Refuse a command that would write one file twice, or over a file that it reads, whatever `--force` says.

    Raises:
        UsageError: Names the two parameters.
    """
    read = {place: (name, path) for name in INPUTS for place, path in _places(given.get(name))}
    written: dict[str, str] = {}
    for name in sorted(OUTPUTS):
        for place, path in _places(given.get(name)):
            other = written.setdefault(place, name)
            if other != name:
                raise UsageError(
                    f"{_flag(other)} and {_flag(name)} name the same file",
                    where=str(path),
                    hint="choose two names",
                )
            if place in read:
                raise UsageError(
                    f"{_flag(name)} would replace what {_flag(read[place][0])} names",
                    where=str(path),
                    hint="choose another name",
                )


def _places(value: Any) -> Iterator[tuple[str, Path]]:
    """Where files are, links followed."""
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, str | Path) and str(one):
            try:
                yield os.path.realpath(one), Path(one)
            except (OSError, ValueError):  # told by whoever opens it
                continue


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}" if name not in ("model", "models", "artifact") else "MODEL"
