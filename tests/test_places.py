"""The places to touch for a new op: CONTRIBUTING lists them, and no op is missing from any."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_architecture import MODULES, ROOT

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.nir.rules import unsupported_nodes
from tcja_deploy.ir import Graph, Node, Op, Value
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.onnx.rules import refuse

HEADING = "## Places to touch for a new op"

KINDS: dict[str, Callable[[type[Op]], bool]] = {
    "every op": lambda op: True,
    "every op but the input": lambda op: op is not ir.Input,
    "ops with a state": lambda op: op.stateful,
    "ops with synapses": lambda op: op.synaptic,
}
"""Who belongs into a place, in the words of the list."""


@dataclass(frozen=True)
class Place:
    """One row of the list.

    Attributes:
        text: The tables as the list names them.
        tables: The tables; one of them has to hold the op, by its class or its name.
        wants: Which ops.
    """

    text: str
    tables: tuple[Mapping[object, object], ...]
    wants: Callable[[type[Op]], bool]

    def holds(self, op: type[Op]) -> bool:
        return any(op in table or op.__name__ in table for table in self.tables)


def table(reference: str) -> Mapping[object, object]:
    """A table by its file and name."""
    path, _, name = reference.partition(":")
    files = {file: module for module, file in MODULES.items()}
    module = files.get(ROOT / path, Path(path).stem)
    found: Mapping[object, object] = getattr(importlib.import_module(module), name)
    return found


def places() -> list[Place]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \| .*? \| (.*?) \|$", text[text.index(HEADING) :], re.MULTILINE)
    return [Place(cell, tuple(map(table, re.findall(r"`(.*?)`", cell))), KINDS[who]) for cell, who in rows]


PLACES = places()


def missing(op: type[Op]) -> list[str]:
    """The places that an op belongs into and is not in."""
    return [place.text for place in PLACES if place.wants(op) and not place.holds(op)]


def concrete(base: type[Op]) -> set[type[Op]]:
    """The ops that the package defines: classes that others build on have no rule of inference, or a name with `_`."""
    below = {op for child in base.__subclasses__() for op in concrete(child)}
    mine = base.__module__.startswith("tcja_deploy.") and not base.__name__.startswith("_")
    return below | ({base} if mine and base not in (Op, ir.Neuron) else set())


def test_the_list_is_read() -> None:
    assert len(PLACES) >= 7
    assert all(place.tables for place in PLACES)


@pytest.mark.parametrize("op", sorted(concrete(Op), key=lambda op: op.__name__), ids=lambda op: op.__name__)
def test_no_op_is_missing_from_a_place(op: type[Op]) -> None:
    assert missing(op) == [], f"{op.__name__} is missing from: {', '.join(missing(op))}"


class Scratch(Op):
    """An op that somebody has just begun to write: with weights and a state."""

    synaptic = True

    def initial_state(self, *inputs, T, N):  # type: ignore[no-untyped-def]
        return ()


def test_a_new_op_is_told_every_place() -> None:
    assert missing(Scratch) == [place.text for place in PLACES]
    for op in (ir.LIF, ir.Linear, ir.Add):
        for place in PLACES:
            tables = tuple({k: v for k, v in t.items() if k not in (op, op.__name__)} for t in place.tables)
            forgotten = Place(place.text, tables, place.wants)
            assert place.wants(op) == (not forgotten.holds(op) and place.holds(op))


def test_targets_refuse_what_they_have_no_rule_for_by_its_name() -> None:
    frames = Node("input", ir.Input((2,)), (), Value("input", ir.Input((2,)).infer(T=1)))
    graph = Graph(1, (frames, Node("new", Scratch(), ("input",), Value("new", frames.signal))), "new")
    with pytest.raises(UnsupportedError, match=r"new[\s\S]*Scratch"):
        unsupported_nodes(graph).raise_if_any(UnsupportedError, "NIR cannot hold {}", noun="node")
    with pytest.raises(UnsupportedError, match=r"new[\s\S]*Scratch"):
        refuse([("new", Scratch())])
