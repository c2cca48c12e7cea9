"""What JSON Schemas are made of: plain values, closed records, and records made from dataclasses."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from fractions import Fraction
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = [
    "MAYBE_NUMBER", "NUMBER", "PLAIN", "SHA256", "TEXT", "TEXTS", "WHOLE", "Schema", "closed", "list_of", "of_type",
    "record_of", "report_of", "row_of", "tables_of",
]  # fmt: skip

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
NUMBER: Schema = {"type": "number"}
MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
WHOLE: Schema = {"type": "integer"}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
PLAIN: Mapping[Any, Schema] = {
    str: TEXT,
    int: WHOLE,
    bool: {"type": "boolean"},
    float: NUMBER,
    Fraction: NUMBER,
    type(None): {"type": "null"},
    Any: {},
    object: {},
}


def closed(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """An object with these fields and no others."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object", "properties": dict(properties), "required": required, "additionalProperties": False,
    }  # fmt: skip


def list_of(item: Schema) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": item}


def of_type(kind: Any) -> Schema:
    """The schema of a value as `energy.render.documents.plain` or `dataclasses.asdict` writes it.

    Raises:
        TypeError: A type that JSON has no form for.
    """
    if kind in PLAIN:
        return dict(PLAIN[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_type(a) for a in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return list_of(of_type(arguments[0]))
        items = [of_type(a) for a in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": of_type(arguments[1])}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return list_of(of_type(arguments[0]))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return record_of(kind)
    raise TypeError(f"no schema for {kind}")


def record_of(kind: type, **more: Schema) -> Schema:
    """A dataclass as an object; `more` are further fields."""
    hints = get_type_hints(kind)
    return closed({**{f.name: of_type(hints[f.name]) for f in dataclasses.fields(kind)}, **more})


def report_of(kind: str, body: Schema) -> Schema:
    """A document that begins with its kind and the version of its schema."""
    head: dict[str, Schema] = {"kind": {"const": kind}, "schema": {"const": 2}}
    return closed(
        {**head, **body["properties"]}, [p for p in body["properties"] if p not in body["required"]]
    )


def tables_of(kind: str, tables: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """A document of tables by name."""
    return report_of(
        kind, closed({**{k: list_of(v) for k, v in tables.items()}, "provenance": TEXTS}, optional)
    )


def row_of(properties: Mapping[str, Schema], patterns: Mapping[str, Schema] | None = None) -> Schema:
    """A row of a table; columns whose number depends on what was asked for have a pattern."""
    return {**closed(properties), "patternProperties": dict(patterns or {})}
