"""Collecting what cannot be expressed."""

from __future__ import annotations

import pytest

from tcja_deploy.errors import TraceError, UnsupportedError
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext, UnsupportedParts, bullets


def test_lists_are_written_in_one_way() -> None:
    assert bullets([]) == ""
    assert bullets(["a", "b"]) == "\n  - a\n  - b"
    assert bullets("abc", most=2) == "\n  - a\n  - b\n  - and 1 more"
    assert bullets("ab", most=2) == bullets("ab")


def test_everything_is_in_one_error_with_place_and_hint() -> None:
    found = UnsupportedParts()
    found.raise_if_any(TraceError, "{} of the model cannot be translated")  # nothing, so nothing
    for place in ("conv1", "", "conv1"):
        with found.at(place):
            raise Unsupported("pools with dilation", "use plain pooling")
    assert found.additions == 3
    assert len(found) == 2
    assert found.places == {"conv1", ""}
    with pytest.raises(TraceError) as raised:
        found.raise_if_any(
            TraceError, "{} of the model cannot be translated", where="net.pt", hint="see the docs"
        )
    assert str(raised.value) == (
        "net.pt: 2 parts of the model cannot be translated:"
        "\n  - conv1: pools with dilation\n      -> use plain pooling"
        "\n  - network: pools with dilation\n      -> use plain pooling"
        "\n  -> see the docs"
    )


def test_one_is_one() -> None:
    found = UnsupportedParts()
    found.add("gate", Unsupported("has no counterpart"))
    with pytest.raises(UnsupportedError, match=r"^NIR cannot express 1 node:\n  - gate: has no counterpart$"):
        found.raise_if_any(UnsupportedError, "NIR cannot express {}", noun="node")


def test_consequences_of_earlier_findings_are_dropped() -> None:
    found = UnsupportedParts()
    with found.at("fc", certain=False):
        raise UnsupportedInContext("takes vectors, and these are maps")
    assert not found
    assert not found.any_in_context
    with found.at("fc", certain=False):
        raise Unsupported("has no weight")
    with found.at("fc2"):
        raise UnsupportedInContext("takes vectors, and these are maps")
    assert found.places == {"fc", "fc2"}
    assert found.any_in_context


def test_other_exceptions_pass() -> None:
    with pytest.raises(KeyError), UnsupportedParts().at("x"):
        raise KeyError
