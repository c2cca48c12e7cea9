"""A minimal profile to break, and a writer for the part of TOML that profiles use."""

from __future__ import annotations

import copy
import json
from typing import Any

from tcja_deploy.hardware_profiles.schema import parse_profile

PRICE = {"value": 2.0, "source": "s", "where": "Table 1", "evidence": "measured", "certainty": "A"}

MINIMAL: dict[str, Any] = {
    "schema_version": 1,
    "name": "mine",
    "title": "My chip",
    "kind": "neuromorphic",
    "version": "1.0.0",
    "node_nm": 28,
    "default_pricing": "main",
    "sources": {"s": {"title": "Me, 2025", "doi": "10.1000/xyz"}},
    "pricing": {
        "main": {
            "title": "Prices",
            "scope": "marginal",
            "precision": "native",
            "terms": {"synop_pJ": dict(PRICE), "static_mW": dict(PRICE)},
        }
    },
    "limits": {"cores_count": {**PRICE, "value": 2}},
}


def minimal() -> dict[str, Any]:
    """A fresh copy of the smallest profile that exercises prices, static power and limits."""
    return copy.deepcopy(MINIMAL)


def edited(path: str, value: Any) -> dict[str, Any]:
    """The minimal profile with the entry at a dotted path set; with None, deleted."""
    data = minimal()
    *parents, last = path.split(".")
    table = data
    for key in parents:
        table = table.setdefault(key, {})
    if value is None:
        del table[last]
    else:
        table[last] = value
    return data


def violations(data: object) -> list[str]:
    """What the schema has against parsed TOML."""
    profile, found = parse_profile(data, origin="test", sha256="0")
    assert (profile is None) == bool(found)
    return found


def to_toml(data: dict[str, Any]) -> str:
    """TOML of nested tables of strings, numbers, booleans and arrays of them."""
    return "".join(f"{_key(key)} = {_value(item)}\n" for key, item in data.items())


def _key(key: str) -> str:
    return json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
