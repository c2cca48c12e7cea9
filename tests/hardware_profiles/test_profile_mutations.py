"""No change of a profile file passes silently: it is refused, or it shows in the loaded profile."""

from __future__ import annotations

import copy
import json
import math
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from profile_toml import to_toml

from tcja_deploy.hardware_profiles import list_profiles
from tcja_deploy.hardware_profiles.loader import _parse
from tcja_deploy.hardware_profiles.schema import parse_profile

FOLDER = Path(__file__).parents[2] / "hardware_profiles"
TEXTS = {name: (FOLDER / f"{name}.toml").read_bytes() for name in list_profiles()}
TABLES = {name: tomllib.loads(text.decode()) for name, text in TEXTS.items()}


def visible(data: object) -> str | None:
    """Everything that a loaded profile shows, or None if the file is refused."""
    profile, violations = parse_profile(data, origin="test", sha256="0")
    assert (profile is None) == bool(violations)
    assert all(": " in line for line in violations)
    return None if profile is None else json.dumps(profile.to_dict())


VISIBLE = {name: visible(data) for name, data in TABLES.items()}


def test_the_writer_of_these_tests_writes_toml() -> None:
    for data in TABLES.values():
        assert tomllib.loads(to_toml(data)) == data


@settings(max_examples=600, deadline=None)
@given(
    name=st.sampled_from(sorted(TEXTS)),
    where=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 3),
    paste=st.binary(max_size=3) | st.text("0123456789.-_=\"'[]{}#, \nabeux", max_size=3).map(str.encode),
)
def test_changed_bytes(name: str, where: float, cut: int, paste: bytes) -> None:
    start = int(where * len(TEXTS[name]))
    changed = TEXTS[name][:start] + paste + TEXTS[name][start + cut :]
    profile, violations = _parse(changed, origin="test")
    assert (profile is None) == bool(violations)
    if profile is not None and tomllib.loads(changed.decode()) != TABLES[name]:
        assert json.dumps(profile.to_dict() | {"sha256": "0"}) != VISIBLE[name]


def paths(data: Any, base: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every entry of nested tables and arrays."""
    items = (
        list(data.items())
        if isinstance(data, dict)
        else list(enumerate(data))
        if isinstance(data, list)
        else []
    )
    return [path for key, item in items for path in ((*base, key), *paths(item, (*base, key)))]


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


@st.composite
def spots(draw: st.DrawFn) -> tuple[str, dict[str, Any], tuple[Any, ...]]:
    """A profile's name, a copy of its tables, and the path of one entry."""
    name = draw(st.sampled_from(sorted(TABLES)))
    return name, copy.deepcopy(TABLES[name]), draw(st.sampled_from(paths(TABLES[name])))


@settings(max_examples=400, deadline=None)
@given(spots())
def test_a_deleted_entry_is_missed(spot: tuple[str, dict[str, Any], tuple[Any, ...]]) -> None:
    name, data, path = spot
    del at(data, path[:-1])[path[-1]]
    assert visible(data) != VISIBLE[name]


@settings(max_examples=400, deadline=None)
@given(spots(), st.sampled_from(["x", "_x", "_", " ", "é", "_pj"]))
def test_a_misspelt_key_is_refused(spot: tuple[str, dict[str, Any], tuple[Any, ...]], tail: str) -> None:
    _, data, path = spot
    table = at(data, path[:-1])
    if isinstance(table, dict):
        table[f"{path[-1]}{tail}"] = table.pop(path[-1])
        # A price list may have another name, if it is not the default one.
        renamed_list = len(path) == 2 and path[0] == "pricing" and tail == "x"
        assert visible(data) is None or renamed_list


@settings(max_examples=400, deadline=None)
@given(spots(), st.sampled_from([True, [], {}, "", "\n", 5.5, -1, 0, math.nan, math.inf, -math.inf, 10**30]))
def test_a_wrong_value_is_refused_or_seen(
    spot: tuple[str, dict[str, Any], tuple[Any, ...]], wrong: Any
) -> None:
    name, data, path = spot
    original = at(data, path)
    at(data, path[:-1])[path[-1]] = wrong
    seen = visible(data)
    is_number = isinstance(original, (int, float)) and not isinstance(original, bool)
    could_be_right = is_number and wrong in (5.5, 0)
    if not could_be_right:
        # Only `min` may be zero, and only a number may be a number.
        assert seen is None or wrong in ([], {}) or (wrong == 5.5 and is_number), (path, wrong)
    if wrong != original:
        assert seen != VISIBLE[name]
