"""The one reader of JSON: bounded in size and depth, finite numbers only, of the stated structure.

A structure is written as the document looks::

    {"version": int, "nodes": [{"name": str, "bias?": float}], "source": {str: str}, "gate": (None, [float])}

`int` excludes `bool`; `float` takes whole numbers too; `[x]` is a list of any length; `"key?"` may be missing;
`{str: x}` has any keys; a tuple lists alternatives; `object` takes anything. Keys that are not listed may be there as
well.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.files import path_status

__all__ = ["check_structure", "parse_json", "read_json"]

_MOST_BYTES = 1 << 24
_MOST_DEPTH = 64


def read_json(
    path: Path, structure: Any = dict, *, error: type[DeployError] = FileFormatError, hint: str = ""
) -> Any:
    """The document in a file.

    Raises:
        DeployError: Of class `error`, if there is no such file, or `parse_json` refuses its content.
    """
    if path_status(path, error) != "file":
        raise error(f"there is no {path.name}", where=str(path), hint=hint)
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as problem:
        raise error(f"cannot be read ({problem.strerror})", where=str(path), hint=hint) from problem
    return parse_json(content, structure, where=str(path), error=error, hint=hint)


def parse_json(
    text: str | bytes,
    structure: Any = dict,
    *,
    where: str = "",
    error: type[DeployError] = FileFormatError,
    hint: str = "",
) -> Any:
    """The document in a text.

    Args:
        text: JSON; bytes are UTF-8.
        structure: What the document has to look like, see above.
        where: What the text is from.
        error: Class of the error.
        hint: What to do about a text that is refused.

    Raises:
        DeployError: Of class `error`, if it is not JSON, too large, nested too deeply, holds infinite numbers or a key twice,
            or is not of the structure.
    """
    if len(text) > _MOST_BYTES:
        raise error(f"this JSON has more than {_MOST_BYTES >> 20} MB", where=where, hint=hint)
    try:
        document = json.loads(
            text, parse_constant=_infinite, parse_float=_finite, object_pairs_hook=_once_each
        )
        _check_depth(document)
        return check_structure(document, structure)
    except RecursionError as problem:
        raise error("this JSON is nested too deeply", where=where, hint=hint) from problem
    except ValueError as problem:
        raise error(f"this is not readable JSON ({problem})", where=where, hint=hint) from problem


def check_structure(document: Any, structure: Any, at: str = "") -> Any:
    """The document itself, if it is of a structure.

    Raises:
        ValueError: If it is not; says where.
    """
    if isinstance(structure, tuple):
        for one in structure:
            try:
                return check_structure(document, one, at)
            except ValueError:
                continue
        raise _wrong(document, at)
    if isinstance(structure, list):
        for i, entry in enumerate(_of(document, list, at)):
            check_structure(entry, structure[0], f"{at}[{i}]")
    elif isinstance(structure, dict):
        found = _of(document, dict, at)
        for key, inner in structure.items():
            if key is str:
                for name, value in found.items():
                    check_structure(value, inner, f"{at}.{name}")
            elif key.removesuffix("?") in found:
                name = key.removesuffix("?")
                check_structure(found[name], inner, f"{at}.{name}")
            elif not key.endswith("?"):
                raise ValueError(f"{at}.{key} is missing".removeprefix("."))
    elif structure is None:
        if document is not None:
            raise _wrong(document, at)
    elif structure is float:
        if type(document) not in (int, float):
            raise _wrong(document, at)
        if abs(document) > _LARGEST:
            raise ValueError(f"{at or 'the number'} is too large".removeprefix("."))
    elif structure is not object:
        _of(document, structure, at)
    return document


_LARGEST = 1.7e308


def _of(document: Any, kind: type, at: str) -> Any:
    if type(document) is not kind:
        raise _wrong(document, at)
    return document


def _wrong(document: Any, at: str) -> ValueError:
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    kind = kinds.get(type(document), "a number")
    return ValueError(f"{at.removeprefix('.') or 'the document'} is {kind}")


def _check_depth(document: Any) -> None:
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > _MOST_DEPTH:
            raise ValueError(f"nested more than {_MOST_DEPTH} deep")
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]


def _infinite(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is too large")
    return number


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:40]!r} appears twice")
    return found
