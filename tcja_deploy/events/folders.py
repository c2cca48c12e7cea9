"""The layouts of recordings that people have on disk.

Class folders, roots of data sets with their preparations and splits, folders with a table of labels.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events.classes import LabelOrder
from tcja_deploy.events.formats import accepted
from tcja_deploy.events.trials import find_trials

__all__ = ["Listing", "list_folder"]

IsRecording = Callable[[Path], bool]

_SPLITS = {
    "train": ("train", "training", "ibmgesturetrain"),
    "test": ("test", "testing", "ibmgesturetest"),
    "val": ("val", "valid", "validation"),
}
_PREPARED = re.compile(r"events_np|frames_number_\d+_split_by_(number|time)|duration_\d+")
_INGREDIENTS = ("download", "extract")
_TONIC_USER = re.compile(r"user\d+_\w+")
_LONGEST_TABLE = 2**26


@dataclass(frozen=True, slots=True)
class Listing:
    """The recordings of a folder.

    Attributes:
        root: The folder that was meant.
        files: Recordings, sorted by path (class by class).
        classes: The name of each recording's class; None where unknown.
        order: How the code that usually trains on such a folder sorts class names.
        notes: What was decided on the way, for the user to read.
        milliseconds: Whether timestamps are milliseconds, as in tonic's DVS Gesture, where nothing in the files says so.
        spans: For trials cut out of long recordings, their start and end in microseconds; empty otherwise.
    """

    root: Path
    files: tuple[Path, ...]
    classes: tuple[str, ...] | None
    order: LabelOrder = "text"
    notes: tuple[str, ...] = ()
    milliseconds: bool = False
    spans: tuple[tuple[int, int], ...] = ()


def list_folder(
    path: Path,
    is_recording: IsRecording,
    *,
    split: str | None = None,
    labels: Path | None = None,
    prepared: str = "",
) -> Listing:
    """Find the recordings of a folder.

    Args:
        path: The folder.
        is_recording: Whether a file is a recording.
        split: `train`, `test` or `val`, to take that part of a data set.
        labels: A table of file names and labels (CSV).
        prepared: Name of the folder of SpikingJelly's frames that fit the model, taken where there are no events.

    Raises:
        UsageError: There is no such split.
        DataError: The folder cannot be listed, holds no recordings, or could be understood in two ways.
    """
    if split is not None and split not in _SPLITS:
        raise UsageError(f"--split {split!r} is unknown", hint=f"use {', '.join(_SPLITS)}")
    trials = find_trials(path, split)
    if trials is not None and labels is None:
        return Listing(path, trials.files, trials.classes, "text", trials.notes, spans=trials.spans)
    root, notes = _descend(path, split, prepared)
    if labels is not None:
        files = tuple(_recordings(root, is_recording))
        _require(files, root)
        return Listing(root, files, _table(labels, root, files), "number", notes)
    folders, loose = _entries(root, is_recording)
    if folders and all(_TONIC_USER.fullmatch(folder.name) for folder in folders) and not loose:
        files = tuple(file for folder in folders for file in _recordings(folder, is_recording))
        if files and all(file.stem.isdecimal() for file in files):
            said = f"{root}: tonic's DVS Gesture: labels are file names, timestamps milliseconds"
            return Listing(root, files, tuple(file.stem for file in files), "number", (*notes, said), True)
    if loose and not folders:
        return Listing(root, loose, None, "text", notes)
    found = [(file, folder.name) for folder in folders for file in _recordings(folder, is_recording)]
    if found and loose:
        raise DataError(
            f"holds both class folders ({found[0][1]}, ...) and recordings ({loose[0].name}, ...)",
            where=str(root),
            hint="put all recordings into class folders or all into one folder",
        )
    if loose:
        return Listing(root, loose, None, "text", notes)
    _require(found, root)
    return Listing(root, tuple(file for file, _ in found), tuple(name for _, name in found), "text", notes)


def _require(found: Sequence[object], root: Path) -> None:
    if not found:
        raise DataError("holds no recordings", where=str(root), hint=accepted())


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _listed(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not _hidden(entry.name))
    except OSError as error:
        raise _unlisted(error) from error


def _unlisted(error: OSError) -> DataError:
    return DataError(f"cannot be listed: {error.strerror or error}", where=str(error.filename))


def _entries(path: Path, is_recording: IsRecording) -> tuple[list[Path], tuple[Path, ...]]:
    """Sub-folders, and recordings beside them."""
    entries = _listed(path)
    return (
        [entry for entry in entries if entry.is_dir()],
        tuple(entry for entry in entries if entry.is_file() and is_recording(entry)),
    )


def _recordings(folder: Path, is_recording: IsRecording) -> list[Path]:
    """All recordings at any depth, sorted by path."""

    def stop(error: OSError) -> None:
        raise _unlisted(error) from error

    def files() -> Iterator[Path]:
        for place, folders, names in os.walk(folder, onerror=stop):
            folders[:] = [name for name in folders if not _hidden(name)]
            parts = [name for name in folders if _split_of(name) or _PREPARED.fullmatch(name)]
            if parts:
                raise DataError(
                    f"'{Path(place).name}' holds {parts}, so it is not a class",
                    where=place,
                    hint=f"give the folder that is meant, as in {Path(place) / sorted(parts)[-1]}",
                )
            yield from (Path(place, name) for name in names if not _hidden(name))

    return sorted(file for file in files() if is_recording(file))


def _split_of(name: str) -> str | None:
    return next((split for split, names in _SPLITS.items() if name.lower() in names), None)


def _descend(path: Path, split: str | None, prepared: str) -> tuple[Path, tuple[str, ...]]:
    """From the root of a data set to the folder that holds the class folders."""
    folders = [entry for entry in _listed(path) if entry.is_dir()]
    names = [folder.name for folder in folders]
    ready = [name for name in names if _PREPARED.fullmatch(name)]
    if ready:
        root, said = _spikingjelly(path, ready, split, prepared)
        return root, (f"{path}: the root of a SpikingJelly data set, {said}",)
    raw = [name for name in names if name in _INGREDIENTS]
    if raw and len(raw) == len(names):
        raise DataError(
            f"is the root of a SpikingJelly data set before its preparation (it holds {raw})",
            where=str(path),
            hint="let SpikingJelly's data set class create events_np, or give the folder of recordings itself",
        )
    if "Caltech101" in names and (
        len(names) == 1 or all("Caltech101" in name or "annot" in name for name in names)
    ):
        inner, notes = _descend(path / "Caltech101", split, prepared)
        return inner, (f"{path}: N-Caltech101, its recordings are in Caltech101", *notes)
    parts = {name: _split_of(name) for name in names if _split_of(name)}
    if not parts:
        if split is not None:
            raise UsageError(
                f"there is no split '{split}' in {path}", hint="leave out --split to take the whole folder"
            )
        return path, ()
    if split is None:
        raise DataError(
            f"holds the splits {sorted(parts)}, not classes",
            where=str(path),
            hint=f"give one of them, as in {path / max(parts)}, or --split {parts[max(parts)]}",
        )
    chosen = [name for name, part in parts.items() if part == split]
    if len(chosen) != 1:
        raise UsageError(
            f"{path} holds {len(chosen)} splits '{split}': {sorted(chosen or parts)}",
            hint="give the folder itself",
        )
    return path / chosen[0], (f"{path}: takes its split {chosen[0]}",)


def _spikingjelly(path: Path, ready: list[str], split: str | None, prepared: str) -> tuple[Path, str]:
    best = next((name for name in ("events_np", prepared) if name in ready), None)
    divided = sorted(
        entry.name for entry in _listed(path / (best or ready[0])) if entry.is_dir() and _split_of(entry.name)
    )
    if split is None or best is None:
        meant = [f"{name}/{part}" for name in ready for part in (divided[-1:] or [""])]
        raise DataError(
            f"is the root of a SpikingJelly data set, with the preparations {ready}",
            where=str(path),
            hint=f"give one of them, as in {path / meant[0]}"
            + (f" (or --split {_split_of(divided[-1])})" if divided and best else "")
            + "".join(f", or {path / other}" for other in meant[1:2]),
        )
    chosen = [part for part in divided if _split_of(part) == split]
    if not chosen:
        raise UsageError(
            f"{path / best} has no split '{split}'",
            hint=f"it has {', '.join(divided)}" if divided else f"give {path / best} without --split",
        )
    return path / best / chosen[0], f"takes {best}/{chosen[0]}"


def _table(labels: Path, root: Path, files: tuple[Path, ...]) -> tuple[str, ...]:
    """The class of each file from a table; a row names a file by its path below the root, its name or its stem."""
    rows = _rows(labels)
    for column, name in ((0, 1), (1, 0)):
        known = {row[column]: row[name] for row in rows if len(row) > 1}
        found = [_lookup(known, root, file) for file in files]
        if any(label is not None for label in found):
            break
    missing = [file for file, label in zip(files, found, strict=True) if label is None]
    if missing:
        raise DataError(
            f"has no label for {missing[0].relative_to(root).as_posix()}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            where=str(labels),
            hint="each row holds a file's name and its label",
        )
    return tuple(label for label in found if label is not None)


def _lookup(known: dict[str, str], root: Path, file: Path) -> str | None:
    for key in (file.relative_to(root).as_posix(), file.name, file.stem):
        if key in known:
            return known[key]
    return None


def _rows(labels: Path) -> list[list[str]]:
    try:
        if labels.stat().st_size > _LONGEST_TABLE:
            raise DataError(
                f"is longer than {_LONGEST_TABLE} bytes, too long for a table of labels", where=str(labels)
            )
        text = labels.read_text(encoding="utf-8-sig")
        first = text.split("\n", 1)[0]
        delimiter = max(",;\t ", key=first.count)
        return [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read as a table of labels: {error}", where=str(labels)) from error
