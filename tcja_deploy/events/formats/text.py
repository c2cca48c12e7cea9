"""Events as text: one event per row."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.base import (
    Columns,
    FrameShape,
    Head,
    Reader,
    Rows,
    Stored,
    by_alias,
    check_count,
)
from tcja_deploy.events.recording import MAX_EVENTS

__all__ = ["TEXT"]

_SHORTEST_ROW = 8
"""Bytes of the shortest row: `0,0,0,0` and the end of the line."""
_SPLIT = re.compile(r"[,;\s]+")


_TRUTH = {"true": 1.0, "false": 0.0}


def _value(cell: str) -> float:
    known = _TRUTH.get(cell.strip().lower())
    return float(cell) if known is None else known


def _cells(line: str) -> list[str]:
    return [cell for cell in _SPLIT.split(line.strip().lstrip("\ufeff#%")) if cell]


def _number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", cell) is not None


def _lines(start: bytes) -> list[str]:
    """The first whole lines that are not empty."""
    text = start.decode("utf-8", "replace")
    lines = text.splitlines()[: None if len(start) < 4096 else -1]
    return [line for line in lines if line.strip()]


def _header(line: str) -> tuple[list[str], dict[str, int]]:
    """The names of the columns, and the sizes that faery writes after some of them, as in `x@346`."""
    parts = [cell.partition("@") for cell in _cells(line)]
    return [name for name, _, _ in parts], {name: int(size) for name, _, size in parts if size.isdecimal()}


def _names(lines: list[str]) -> dict[str, str] | None:
    return by_alias(_header(lines[0])[0]) if lines else None


def _recognise(head: Head) -> bool:
    if head.suffix not in TEXT.suffixes:
        return False
    lines = _lines(head.start)
    rows = [_cells(line) for line in lines[1:3] if _names(lines)] or [_cells(line) for line in lines[:2]]
    return (
        bool(rows)
        and all(
            len(row) >= 4 and all(_number(cell) or cell.lower() in ("true", "false") for cell in row)
            for row in rows
        )
        and (_names(lines) is not None or all(len(row) == 4 for row in rows))
    )


def _read(path: Path, shape: FrameShape) -> Stored:
    check_count(path.stat().st_size // _SHORTEST_ROW, path)
    with path.open("rb") as stream:
        lines = _lines(stream.read(4096))
    names = _names(lines)
    data = lines[1] if names and len(lines) > 1 else lines[0]
    delimiter = next((mark for mark in ",;" if mark in data), None)
    header, sizes = _header(lines[0])
    words = any(cell.lower() in _TRUTH for cell in _cells(data))
    try:
        table = np.loadtxt(
            path,
            delimiter=delimiter,
            skiprows=_skipped(path) if names else 0,
            usecols=[header.index(names[key]) for key in "txyp"] if names else range(4),
            ndmin=2,
            max_rows=MAX_EVENTS + 1,
            encoding="utf-8-sig",
            converters=_value if words else None,
        )
    except (OSError, ValueError, IndexError) as error:
        raise DataError(
            f"a row is not an event: {error}", where=str(path), hint="a row holds t, x, y and p as numbers"
        ) from error
    check_count(len(table), path)
    if not names:
        return Rows(table)
    sensor = (sizes[names["y"]], sizes[names["x"]]) if {names["x"], names["y"]} <= sizes.keys() else None
    return Columns(table[:, 0], table[:, 1], table[:, 2], table[:, 3], sensor)


def _skipped(path: Path) -> int:
    """Lines up to the one with the names of the columns."""
    count = 1
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.strip():
                break
            count += 1
    return count


TEXT = Reader(
    name="text `.csv`, `.txt`",
    suffixes=(".csv", ".txt"),
    holds="one event per row, with a line of names, or four columns of numbers",
    written_by="faery, Metavision, the Event-Camera Dataset and many others",
    recognise=_recognise,
    read=_read,
    certain=False,
)
