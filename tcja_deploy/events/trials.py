"""DVS128 Gesture as it is published: long recordings in AEDAT 3.1, each with a table of the trials in it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from tcja_deploy.errors import DataError, UsageError

__all__ = ["Trials", "find_trials"]

_SUFFIX = "_labels.csv"
_PARTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
_LONGEST_TABLE = 2**20


@dataclass(frozen=True, slots=True)
class Trials:
    """Trials in the order in which the tables list them.

    Attributes:
        files: The recording of each trial.
        classes: Names of their classes, the published numbers minus 1, as SpikingJelly names its class folders.
        spans: Start and end of each, microseconds.
        notes: What was decided, for the user to read.
    """

    files: tuple[Path, ...]
    classes: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]


def find_trials(folder: Path, split: str | None) -> Trials | None:
    """The trials of a folder of recordings `NAME.aedat` with tables `NAME_labels.csv`; None if it is another folder.

    Raises:
        UsageError: There are lists of parts, and `split` names none of them.
        DataError: A table or list cannot be read.
    """
    try:
        tables = sorted(
            file for file in folder.glob(f"*{_SUFFIX}") if _recording(file).is_file() and file.name[0] != "."
        )
    except OSError:
        return None
    if not tables:
        return None
    parts = {part: name for part, name in _PARTS.items() if (folder / name).is_file()}
    notes: tuple[str, ...] = ()
    if parts:
        if split is None:
            raise DataError(
                f"holds the parts {sorted(parts)} of DVS128 Gesture",
                where=str(folder),
                hint="pass --split train or --split test",
            )
        if split not in parts:
            raise UsageError(
                f"{folder} has no list of the part '{split}'", hint=f"it has {', '.join(parts.values())}"
            )
        wanted = _lines(folder / parts[split])
        by_name = {_recording(table).name: table for table in tables}
        missing = [name for name in wanted if name not in by_name]
        if missing:
            raise DataError(
                f"lists {missing[0]}, whose recording or table of labels is missing",
                where=str(folder / parts[split]),
            )
        tables = [by_name[name] for name in wanted]
        notes = (f"{folder}: takes the recordings of {parts[split]}",)
    elif split is not None:
        raise UsageError(
            f"{folder} has no list of the part '{split}'", hint="leave out --split to take all recordings"
        )
    found = [(_recording(table), *row) for table in tables for row in _trials(table)]
    if not found:
        raise DataError("its tables of labels list no trials", where=str(folder))
    return Trials(
        tuple(file for file, *_ in found),
        tuple(str(label - 1) for _, label, _, _ in found),
        tuple((start, stop) for _, _, start, stop in found),
        notes,
    )


def _recording(table: Path) -> Path:
    return table.with_name(table.name.removesuffix(_SUFFIX) + ".aedat")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST_TABLE:
            raise DataError(
                f"is longer than {_LONGEST_TABLE} bytes, too long for a table of trials", where=str(path)
            )
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text: {error}", where=str(path)) from error


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _trials(table: Path) -> list[tuple[int, int, int]]:
    """Class, start and end of each row after the first."""
    rows = []
    for row in list(csv.reader(_lines(table)))[1:]:
        try:
            label, start, stop = (int(cell) for cell in row[:3])
        except ValueError as error:
            raise DataError(
                f"the row {','.join(row)!r} is not a trial",
                where=str(table),
                hint="rows are class,startTime_usec,endTime_usec",
            ) from error
        if label < 1 or stop < start:
            raise DataError(f"the row {','.join(row)!r} is not a trial", where=str(table))
        rows.append((label, start, stop))
    return rows
