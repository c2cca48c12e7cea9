"""Activity as one `.npz` file: integer arrays and a JSON header, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError
from tcja_deploy.files import atomic_file
from tcja_deploy.reading.arrays import read_npz
from tcja_deploy.reading.json_text import parse_json
from tcja_deploy.runtime.activity.measures import Measure
from tcja_deploy.runtime.activity.record import Activity, ValueActivity

__all__ = ["activity_arrays", "activity_of", "load_activity", "save_activity"]

_FORMAT = "tcja-activity"
_VERSION = 1


def save_activity(activity: Activity, path: Path, *, force: bool = False) -> None:
    """Write counts to a file.

    Raises:
        ExportError: The path is taken and `force` is not set, or writing fails.
    """
    arrays: dict[str, Any] = activity_arrays(activity)
    with atomic_file(path, force=force) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def activity_arrays(activity: Activity) -> dict[str, NDArray[Any]]:
    """Counts as named arrays, with a header in JSON."""
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "measures": [m.name.lower() for m in Measure],
        "origin": dict(activity.origin),
        "values": [
            {"name": v.name, "features": list(v.features), "maps": list(v.maps)}
            for v in activity.values.values()
        ],
    }
    arrays: dict[str, NDArray[Any]] = {"header": np.array(json.dumps(header)), "samples": activity.samples}
    for i, v in enumerate(activity.values.values()):
        arrays[f"table{i}"], arrays[f"neurons{i}"] = v.table, v.neurons
    return arrays


def load_activity(path: Path) -> Activity:
    """Read counts from a file.

    Raises:
        FileFormatError: The file is missing, damaged, or of another format or version.
    """
    try:
        arrays = read_npz(path)
    except FileFormatError as error:
        error.hint = error.hint if "pickle" in error.hint else _HINT
        raise
    return activity_of(arrays, str(path))


def activity_of(arrays: Mapping[str, NDArray[Any]], where: str) -> Activity:
    """The inverse of `activity_arrays`.

    Raises:
        FileFormatError: The arrays are not counts, or contradict each other.
    """
    text = arrays.get("header")
    if text is None or text.shape != () or text.dtype.kind != "U":
        raise FileFormatError(
            f"cannot be read as recorded activity (it holds {', '.join(arrays)[:200] or 'nothing'})",
            where=where,
            hint=_HINT,
        )
    header = parse_json(str(text), _STRUCTURE, where=where, hint=_HINT)
    try:
        return _parse(header, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"is damaged ({error})", where=where) from error


_HINT = "'tcja-deploy rates --save FILE.npz' writes such files"
_STRUCTURE = {
    "format": str,
    "version": int,
    "measures": [str],
    "origin": {str: str},
    "values": [{"name": str, "features": [int], "maps": [str]}],
}
"""The fields of the header and their types."""


def _parse(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Activity:
    if header["format"] != _FORMAT:
        raise ValueError("it holds no activity")
    if header["version"] != _VERSION or header["measures"] != [m.name.lower() for m in Measure]:
        raise ValueError(f"version {header['version']} of the format, this program reads version {_VERSION}")
    samples = arrays["samples"]
    if samples.dtype != np.int64 or samples.ndim != 1 or (np.diff(samples) <= 0).any():
        raise ValueError("the recordings are not numbered in rising order")
    values = {}
    for i, entry in enumerate(header["values"]):
        table, neurons = arrays[f"table{i}"], arrays[f"neurons{i}"]
        features, maps = tuple(entry["features"]), tuple(entry["maps"])
        fits = (
            table.dtype == neurons.dtype == np.int64
            and table.ndim == 4
            and table.shape[:3] == (len(maps), len(Measure), len(samples))
            and neurons.shape == features
        )
        if not fits:
            raise ValueError(f"the counts of {entry['name']!r} do not have the stated shape")
        if maps[:1] != ("",) or int(table[0, Measure.NONZERO].sum()) != int(neurons.sum()):
            raise ValueError(f"the counts of {entry['name']!r} contradict each other")
        values[str(entry["name"])] = ValueActivity(str(entry["name"]), features, maps, table, neurons)
    return Activity(samples, values, {str(k): str(v) for k, v in header["origin"].items()})
