"""The tables in docs/hardware-profiles.md are those of the profile files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tcja_deploy.hardware_profiles import Nominal, list_profiles, load_profile
from tcja_deploy.hardware_profiles.document import (
    facts_table,
    limits_table,
    prices_table,
    profiles_table,
    range_text,
    value_text,
    vocabulary_tables,
)

PAGE = Path(__file__).parents[2] / "docs" / "hardware-profiles.md"
TABLES: dict[str, Callable[[], str]] = {
    "vocabulary": vocabulary_tables,
    "profiles": lambda: profiles_table(map(load_profile, list_profiles())),
    "prices": lambda: prices_table(map(load_profile, list_profiles())),
    "limits": lambda: limits_table(map(load_profile, list_profiles())),
    "facts": lambda: facts_table(map(load_profile, list_profiles())),
}


def with_tables(page: str) -> str:
    """The page with the text between each pair of markers replaced by the table of that name."""
    for name, table in TABLES.items():
        before, _, rest = page.partition(f"<!-- {name} -->")
        _, marker, after = rest.partition(f"<!-- /{name} -->")
        assert marker, f"the page needs a pair of markers for '{name}'"
        page = f"{before}<!-- {name} -->\n\n{table()}\n\n{marker}{after}"
    return page


def test_the_page_shows_the_files() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run tests/hardware_profiles/regenerate_profiles.py"


def test_the_page_names_every_profile() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in list_profiles() if f"`{name}:" not in page] == []


def test_tables_are_rectangular() -> None:
    for make in TABLES.values():
        for table in make().split("\n\n"):
            # An escaped bar is part of a cell.
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


@pytest.mark.parametrize(
    ("name", "path", "value", "span"),
    [
        ("loihi1", "pricing.published.terms.synop_pJ", ">= 23.6 pJ", ""),
        ("loihi1", "pricing.published.terms.hop_pJ", "3.46 pJ (midpoint)", "3 to 4"),
        ("loihi1", "timing.synop_ns", "<= 3.5 ns", ""),
        ("loihi1", "limits.weight_bit", "9 bit", "from 1"),
        ("loihi2", "pricing.unpublished.terms.synop_pJ", "not published", ""),
        ("loihi2", "limits.synapses_count", "120000000 count", ""),
        ("asic45", "pricing.fp32.terms.mac_pJ", "4.6 pJ", ""),
        ("spinnaker", "pricing.published.terms.synop_nJ", "13.3 nJ", "11.3 to 45"),
    ],
)
def test_texts(name: str, path: str, value: str, span: str) -> None:
    quantity = next(q for q in load_profile(name).quantities() if q.path == path)
    assert (value_text(quantity), range_text(quantity)) == (value, span)


def test_no_midpoint_is_shown_as_a_published_value() -> None:
    for profile in map(load_profile, list_profiles()):
        for quantity in profile.quantities():
            assert ("midpoint" in value_text(quantity)) == (quantity.nominal is Nominal.MIDPOINT)
