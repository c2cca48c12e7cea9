"""Finding profiles, reading hostile files, choosing price lists, converting units."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_toml import PRICE, edited, minimal, to_toml

from tcja_deploy.errors import ProfileError
from tcja_deploy.hardware_profiles import (
    OP_CLASSES,
    Availability,
    Bounds,
    Nominal,
    OpClass,
    Profile,
    Unit,
    check_profile,
    list_profiles,
    load_profile,
)
from tcja_deploy.hardware_profiles.loader import _parse
from tcja_deploy.hardware_profiles.vocabulary import UNITS, Dimension, Evidence

FOLDER = Path(__file__).parents[2] / "hardware_profiles"


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(minimal()), encoding="utf-8")
    return path


def test_the_promised_profiles_are_there() -> None:
    promised = (
        "asic45 asic45-int8 asic7 asic22 loihi1 loihi1-fitted loihi2 truenorth spinnaker spinnaker2 speck "
        "akida odin darwin3 seneca tianjic reckon xylo cpu gpu arm a100 h100"
    )
    assert set(promised.split()) == set(list_profiles())


def test_provenance_of_a_built_in_profile() -> None:
    profile = load_profile("asic45")
    assert profile.origin == "built-in"
    assert profile.sha256 == hashlib.sha256((FOLDER / "asic45.toml").read_bytes()).hexdigest()
    assert profile.version == "1.0.0"


def test_a_file_of_ones_own(own_file: Path) -> None:
    by_path, by_string = load_profile(own_file), load_profile(str(own_file))
    assert by_path == by_string
    assert by_path.origin == str(own_file)
    assert by_path.label == "mine:main"
    assert check_profile(own_file) == check_profile(str(own_file)) == []


def test_a_price_list_after_a_colon(own_file: Path) -> None:
    assert load_profile("truenorth").label == "truenorth:line"
    assert load_profile("truenorth:all-in").label == "truenorth:all-in"
    assert load_profile(f"{own_file}:main").label == "mine:main"
    assert load_profile("truenorth").with_pricing("all-in") == load_profile("truenorth:all-in")
    with pytest.raises(ProfileError, match="no price list called 'total'") as caught:
        load_profile("truenorth:total")
    assert "line, split, all-in" in caught.value.hint


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ProfileError, match=r"no built-in profile 'loihi3' \(did you mean 'loihi") as caught:
        load_profile("loihi3")
    assert "truenorth" in caught.value.hint
    assert caught.value.exit_code == 10


@pytest.mark.parametrize("name", ["missing.toml", "./missing", "missing.toml:fp32"])
def test_a_missing_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        load_profile(name)
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        check_profile(tmp_path / "missing.toml")


def test_a_folder_is_not_a_profile(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "file: is not TOML"),
        (b"name = 'a'\nname = 'b'\n", "file: is not TOML"),
        (b"\xff\xfe", "file: is not UTF-8 text"),
        (b"x = " + b"[" * 100_000, "file: is not TOML"),
        (b"x = " + b"9" * 10_000, "file: is not TOML"),
        (b"", "schema_version: missing"),
    ],
    ids=["syntax", "duplicate key", "encoding", "nesting", "digits", "empty"],
)
def test_files_that_are_no_profiles(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    assert check_profile(path)[0].startswith(message)
    with pytest.raises(ProfileError, match="not a valid hardware profile"):
        load_profile(path)


def test_a_huge_file_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "huge.toml"
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ProfileError, match="larger than 1 MiB"):
        load_profile(path)


def test_the_error_lists_every_violation(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    data = edited("pricing.main.terms.synop_pJ.value", -1)
    data["kind"] = "toaster"
    path.write_text(to_toml(data), encoding="utf-8")
    with pytest.raises(ProfileError, match="2 violations") as caught:
        load_profile(path)
    assert all(line in str(caught.value) for line in check_profile(path))
    assert caught.value.where == str(path)


def load(data: dict[str, Any]) -> Profile:
    profile, violations = _parse(to_toml(data).encode(), origin="test")
    assert profile is not None, violations
    return profile


def test_coverage() -> None:
    truenorth = load_profile("truenorth").pricing
    assert truenorth.availability(OpClass.SYNOP) is Availability.PRICED
    assert truenorth.availability(OpClass.NEURON_UPDATE) is Availability.INCLUDED
    assert truenorth.availability(OpClass.MAC) is Availability.ABSENT
    loihi = load_profile("loihi1").pricing
    assert loihi.availability(OpClass.SYNOP_GRADED) is Availability.UNKNOWN
    assert loihi.missing == (OpClass.SYNOP_GRADED,)
    assert OpClass.SYNOP_GRADED not in loihi.priced
    assert load_profile("asic45").pricing.availability(OpClass.SRAM_READ) is Availability.PRICED


def test_an_unknown_price_is_none_and_listed() -> None:
    profile = load_profile("loihi2")
    term = profile.pricing.get(OpClass.SYNOP)
    assert term is not None
    assert term.price is None
    assert term.quantity.nominal is Nominal.MISSING
    assert "pricing.unpublished.terms.synop_pJ" in profile.missing
    assert profile.pricing.get(OpClass.AC) is None
    assert "axons_in_per_core" in profile.limits.missing
    assert profile.limits.axons_in_per_core is None
    assert "cores" not in profile.limits.missing


def test_unknown_limits_are_missing_too() -> None:
    data = edited("limits.layers_count", {"evidence": "unknown", "note": "nobody says"})
    profile = load(data)
    assert profile.limits.layers is not None
    assert "layers" in profile.limits.missing
    assert profile.missing == ("limits.layers_count",)


def test_inactive_updates_fall_back_on_the_only_price() -> None:
    loihi, spinnaker = load_profile("loihi1").pricing, load_profile("spinnaker").pricing
    prices = [p.neuron_update(active=a) for p in (loihi, spinnaker) for a in (True, False)]
    assert [term.quantity.value for term in prices if term] == [81, 52, 26, 26]
    assert load_profile("asic45").pricing.neuron_update(active=True) is None


def test_sram_has_a_price_per_size() -> None:
    with pytest.raises(ProfileError, match="one price per memory size"):
        load_profile("asic45").pricing.get(OpClass.SRAM_READ)


def test_a_range_without_a_value_gets_its_geometric_mean() -> None:
    term = load_profile("loihi1").pricing.get(OpClass.HOP)
    assert term is not None
    assert term.price == Bounds(low=3.0, value=math.sqrt(12), high=4.0)
    assert term.quantity.nominal is Nominal.MIDPOINT


def test_a_price_list_overrides_node_and_voltage() -> None:
    terms = {p.name: p.terms[0].quantity for p in load_profile("truenorth").pricings}
    assert {name: (q.node_nm, q.voltage_V) for name, q in terms.items()} == {
        "line": (28, 0.8),
        "split": (28, 0.8),
        "all-in": (28, 0.775),
    }


def test_shared_terms_stand_in_every_price_list() -> None:
    asic = load_profile("asic45")
    assert {len(pricing.sram_reads) for pricing in asic.pricings} == {3}


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (13.3, "nJ", Unit.PJ, 13300.0),
        (2.19, "nJ", Unit.PJ, 2190.0),
        (1.3, "nJ", Unit.PJ, 1300.0),
        (0.05448, "pJ", Unit.FJ, 54.48),
        (27.3, "uW", Unit.MW, 0.0273),
        (1.0, "mJ", Unit.PJ, 1e9),
    ],
)
def test_conversions_are_correctly_rounded(value: float, unit: str, to: Unit, expected: float) -> None:
    key = "static" if unit == "uW" else "mac"
    data = edited(f"pricing.main.terms.{key}_{unit}", {**PRICE, "value": value})
    data["pricing"]["main"]["terms"].pop("static_mW")
    term = load(data).pricing.get(OpClass(key))
    assert term is not None
    assert term.quantity.bounds(to) == Bounds(expected, expected, expected)


def test_a_power_is_no_energy() -> None:
    term = load_profile("loihi1").pricing.get(OpClass.STATIC)
    assert term is not None
    with pytest.raises(ProfileError, match="mW cannot be given in pJ"):
        term.quantity.bounds(Unit.PJ)
    cores = load_profile("loihi1").limits.cores
    assert cores is not None
    with pytest.raises(ProfileError, match="count cannot be given in px"):
        cores.bounds(Unit.PX)


def test_the_vocabulary_is_complete() -> None:
    assert set(OP_CLASSES) == set(OpClass)
    assert set(UNITS) == set(Unit)
    assert all(grade.meaning for grade in Evidence)
    assert {UNITS[info.unit][0] for info in OP_CLASSES.values()} == {Dimension.ENERGY, Dimension.POWER}


def test_loading_a_profile_needs_no_third_party_package() -> None:
    code = (
        "import sys, tcja_deploy.hardware_profiles as h; h.load_profile('asic45');"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'torch', 'pandas', 'rich', 'h5py'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@settings(max_examples=200, deadline=None)
@given(
    value=st.floats(1e-6, 1e6),
    low=st.none() | st.floats(0, 1e6),
    high=st.none() | st.floats(1e-6, 1e6),
)
def test_bounds_enclose_the_value_or_the_file_is_refused(
    value: float, low: float | None, high: float | None
) -> None:
    price: dict[str, Any] = {**PRICE, "value": value}
    price |= {} if low is None else {"min": low}
    price |= {} if high is None else {"max": high}
    profile, violations = _parse(
        to_toml(edited("pricing.main.terms.synop_pJ", price)).encode(), origin="test"
    )
    allowed = (low is None or low <= value) and (high is None or value <= high)
    assert (profile is not None) == allowed == (not violations)
    if profile is not None:
        term = profile.pricing.get(OpClass.SYNOP)
        assert term is not None
        assert term.price is not None
        assert term.price.low <= term.price.value <= term.price.high
