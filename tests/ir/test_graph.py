"""Graphs: building, verifying, hashing, dumping."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_samples import any_sample

from tcja_deploy.errors import GraphError
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Node, Op, Signal, Value, dump, verify, violations
from tcja_deploy.ir import ops as ir


def network() -> GraphBuilder:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-8, 9, shape) / 8).astype(np.float32)

    b = GraphBuilder(4)
    x = b.add("input", ir.Input((2, 6, 6)))
    x = b.add("conv.0", ir.Conv2d(weight(3, 2, 3, 3), padding=(1, 1, 1, 1)), x)
    x = b.add("conv.1", ir.BatchNorm2d(*[np.ones(3, np.float32)] * 4), x)
    x = b.add("conv.2", ir.LIF(), x)
    x = b.add("conv.3", ir.TCJA(weight(3, 3, 4), weight(4, 4, 2), "add"), x)
    x = b.add("conv.4", ir.MaxPool2d((2, 2), (2, 2)), x)
    x = b.add("fc.0", ir.Flatten(), x)
    x = b.add("fc.1", ir.Linear(weight(4, 27), weight(4)), x)
    x = b.add("fc.2", ir.PLIF(v_reset=None, decay=0.25), x)
    x = b.add("mean", ir.TimeMean(), x)
    b.add("vote", ir.Vote(2), x)
    return b


def graph() -> Graph:
    return network().finish("vote", {"format": "test"})


# -- constants -----------------------------------------------------------------------------------------------------------
def test_constants_have_one_form() -> None:
    """Equal ops are equal in hashes and files, however their constants were written."""
    lif = ir.LIF(v_threshold=1, v_reset=np.float32(0), tau=2, decay_input=np.True_)  # type: ignore[arg-type]
    assert lif.constants() == ir.LIF().constants()
    assert [type(c) for c in lif.constants().values()] == [type(c) for c in ir.LIF().constants().values()]
    pool = ir.MaxPool2d([2, np.int64(2)], (2, 2))  # type: ignore[arg-type, list-item]
    assert pool.constants() == ir.MaxPool2d((2, 2), (2, 2)).constants()
    assert type(pool.kernel) is tuple
    assert type(pool.kernel[1]) is int
    assert ir.Input((2,), "binary").kind is Kind.BINARY  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ir.LIF(tau="2"), "LIF: tau: '2' is not a number"),  # type: ignore[arg-type]
        (lambda: ir.LIF(tau=True), "LIF: tau: True is not a number"),
        (lambda: ir.LIF(tau=10**400), "LIF: tau: 1"),
        (lambda: ir.LIF(v_reset="no"), "LIF: v_reset: 'no' is not a number or None"),  # type: ignore[arg-type]
        (lambda: ir.LIF(strict=1), "LIF: strict: 1 is not a bool"),  # type: ignore[arg-type]
        (lambda: ir.Vote(2.0), "Vote: voters: 2.0 is not an int"),  # type: ignore[arg-type]
        (lambda: ir.Vote(True), "Vote: voters: True is not an int"),
        (lambda: ir.MaxPool2d((2,), (2, 2)), r"MaxPool2d: kernel: \(2,\) is not a tuple\[int, int\]"),  # type: ignore[arg-type]
        (
            lambda: ir.Reduce("median", (2,)),
            r"Reduce: how: 'median' is not a Literal\['mean', 'max', 'sum'\]",
        ),  # type: ignore[arg-type]
        (lambda: ir.Reshape(("T", "X"), (0,)), "Reshape: dims: "),  # type: ignore[arg-type]
        (lambda: ir.Linear([[1.0]]), r"Linear: weight: \[\[1.0\]\] is not an array"),  # type: ignore[arg-type]
        (lambda: ir.Linear(np.ones((1, 1), np.float32), 0.0), "Linear: bias: 0.0 is not an array or None"),  # type: ignore[arg-type]
        (lambda: ir.Vote(np.ones((3, 2))), r"Vote: voters: an array of shape \(3, 2\) is not an int"),  # type: ignore[arg-type]
        (lambda: ir.Input((2,), "dense"), "Input: kind: 'dense' is not a Kind"),  # type: ignore[arg-type]
    ],
)
def test_constants_of_other_types_are_refused(make: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make()


# -- signals -------------------------------------------------------------------------------------------------------------
def test_signals() -> None:
    x = Signal(("T", "N", 2, 3), Kind.COUNT)
    assert (x.streams, x.features, x.size, x.shape(5, 7)) == (True, (2, 3), 6, (5, 7, 2, 3))
    assert str(x) == "count[T, N, 2, 3]"
    assert not Signal(("N", "T", 2), Kind.REAL).streams
    assert not Signal((), Kind.REAL).streams
    with pytest.raises(GraphError, match="two axes of one name"):
        Signal(("T", "N", "T"), Kind.REAL)


@given(st.sampled_from(list(Kind)), st.sampled_from(list(Kind)))
def test_kinds_widen_to_the_wider(a: Kind, b: Kind) -> None:
    assert a.widened(b) is b.widened(a)
    assert a.widened(b) in (a, b)
    assert list(Kind).index(a.widened(b)) >= list(Kind).index(a)
    assert [k.sparse for k in Kind] == [True, True, True, False]


# -- building ------------------------------------------------------------------------------------------------------------
def test_a_network() -> None:
    g = graph()
    assert [n.name for n in g] == [
        "input",
        "conv.0",
        "conv.1",
        "conv.2",
        "conv.3",
        "conv.4",
        "fc.0",
        "fc.1",
        "fc.2",
        "mean",
        "vote",
    ]
    assert (g.input.name, g.input_shape, g.output) == ("input", (2, 6, 6), "vote")
    assert [n.name for n in g.neurons] == ["conv.2", "fc.2"]
    assert g.parameters == 3 * 2 * 9 + 4 * 3 + 3 * 3 * 4 + 4 * 4 * 2 + 4 * 27 + 4
    assert [n.name for n in g.readers("conv.2")] == ["conv.3"]
    assert g.signals_in(g["conv.3"]) == (Signal(("T", "N", 3, 6, 6), Kind.BINARY),)
    assert str(g["vote"].signal) == "graded[N, 2]"
    with pytest.raises(KeyError):
        g["nowhere"]


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda b: GraphBuilder(0), "a window needs at least one time step, got T = 0"),
        (lambda b: b.add("mean", ir.ReLU(), "input"), "mean: two nodes have this name"),
        (
            lambda b: b.add("x", ir.ReLU(), "later", "input", "never"),
            r"x: reads values that do not exist \(yet\): later, never",
        ),
        (lambda b: b.add("x", ir.ReLU()), "x: ReLU got 0 inputs"),
        (lambda b: b.add("x", ir.ReLU(), "input", "input"), "x: ReLU got 2 inputs"),
        (lambda b: b.add("x", ir.Add(), "input"), "x: Add got 1 inputs"),
        (lambda b: b.add("x", ir.Input((2,)), "input"), "x: Input got 1 inputs"),
        (lambda b: b.add("x", ir.Vote(0), "input"), "x: Vote: voters = 0 is below 1"),
        (
            lambda b: b.add("x", ir.LIF(v_threshold=0.0, tau=0.5), "input"),
            "x: LIF: the threshold 0.0 .*; tau = 0.5 is below 1",
        ),
        (
            lambda b: b.add("x", ir.LIF(), "mean"),
            r"x: LIF: a neuron needs a stream of frames \[T, N, ...\], got graded\[N, 4\]",
        ),
        (lambda b: b.finish("nowhere"), "nowhere: the output is not a value of the graph"),
    ],
)
def test_what_cannot_be_built(add: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        add(network())


def test_a_failed_node_leaves_the_builder_as_it_was() -> None:
    b = network()
    with pytest.raises(GraphError):
        b.add("x", ir.Vote(0), "input")
    assert b.finish("vote").hash == graph().hash


def test_nodes_that_lead_nowhere_are_left_out() -> None:
    b = network()
    b.add("aside", ir.ReLU(), "conv.2")
    b.add("further", ir.ReLU(), "aside")
    assert b.finish("vote").hash == graph().hash
    assert b.signal("aside").kind is Kind.BINARY
    assert b["aside"].inputs == ("conv.2",)


# -- verifying -----------------------------------------------------------------------------------------------------------
def test_a_sound_graph_has_no_violations() -> None:
    assert violations(graph()) == []
    verify(graph())


def changed(g: Graph, name: str, **changes: Any) -> Graph:
    return replace(g, nodes=tuple(replace(n, **changes) if n.name == name else n for n in g))


class Stranger(Op):
    pass


G = graph()
RELU = ir.ReLU()
CASES: list[tuple[Graph, list[str]]] = [
    (replace(G, T=0), ["graph: T = 0 is not positive", "conv.3: CLA weights (4, 4, 2) do not fit T = 0"]),
    (
        replace(G, nodes=(), output="x"),
        ["graph: the first node is not the input", "graph: the output 'x' is not a value of the graph"],
    ),
    (
        replace(G, output="nowhere"),
        ["graph: the output 'nowhere' is not a value of the graph", "vote: nobody reads this value"],
    ),
    (
        replace(G, nodes=(*G.nodes, Node("vote", RELU, ("mean",), Value("vote", G["mean"].signal)))),
        ["vote: two nodes have this name"],
    ),
    (
        changed(G, "conv.2", value=Value("spikes", G["conv.2"].signal)),
        ["conv.2: its value is called 'spikes'"],
    ),
    (changed(G, "conv.2", op=Stranger()), ["conv.2: Stranger is not an op of the IR"]),
    (changed(G, "conv.2", op=ir.Neuron()), ["conv.2: Neuron is not an op of the IR"]),
    (changed(G, "conv.2", op=ir.LIF(tau=0.1)), ["conv.2: tau = 0.1 is below 1"]),
    (
        changed(G, "conv.2", inputs=("fc.1", "gone")),
        [
            "conv.1: nobody reads this value",
            "conv.2: LIF got 2 inputs",
            "conv.2: reads values that do not precede it: fc.1, gone",
        ],
    ),
    (
        changed(G, "fc.2", inputs=("vote",)),
        ["fc.2: reads values that do not precede it: vote", "fc.1: nobody reads this value"],
    ),
    (changed(G, "conv.4", op=ir.Concat(2)), ["conv.4: Concat got 1 inputs"]),
    (
        changed(G, "conv.2", value=Value("conv.2", G["conv.2"].signal.with_kind(Kind.REAL))),
        [
            "conv.2: is declared real[T, N, 3, 6, 6], but computes binary[T, N, 3, 6, 6]",
            "conv.3: is declared graded[T, N, 3, 6, 6], but computes real[T, N, 3, 6, 6]",
        ],
    ),
    (changed(G, "vote", op=ir.Vote(9)), ["vote: graded[N, 4] has no 9 voters per class"]),
    (changed(G, "fc.1", op=ir.Linear(np.ones((4, 27)), None)), ["fc.1: weight is float64, not float32"]),  # type: ignore[arg-type]
    (
        changed(G, "fc.1", op=ir.Linear(np.full((4, 27), np.nan, np.float32))),
        ["fc.1: weight holds numbers that are not finite"],
    ),
    (
        changed(G, "conv.2", op=ir.LIF(v_threshold=1e39)),
        ["conv.2: v_threshold = 1e+39 is not finite in float32"],
    ),
    (changed(G, "conv.2", op=ir.LIF(tau=float("inf"))), ["conv.2: tau = inf is not finite in float32"]),
    (
        replace(
            G,
            nodes=(
                *G.nodes,
                Node("other", ir.Input((3,)), (), Value("other", Signal(("T", "N", 3), Kind.COUNT))),
            ),
        ),
        ["graph: there is more than one input", "other: nobody reads this value"],
    ),
]


@pytest.mark.parametrize(("broken", "expected"), CASES)
def test_each_violation_is_reported(broken: Graph, expected: list[str]) -> None:
    assert sorted(violations(broken)) == sorted(expected)


def test_all_violations_are_reported_at_once() -> None:
    broken = changed(
        changed(changed(G, "conv.2", op=ir.LIF(tau=0.1)), "vote", op=ir.Vote(9)), "conv.4", op=Stranger()
    )
    with pytest.raises(GraphError) as caught:
        verify(broken)
    assert str(caught.value).splitlines() == [
        "the graph breaks 3 rules:",
        "  - conv.2: tau = 0.1 is below 1",
        "  - conv.4: Stranger is not an op of the IR",
        "  - vote: graded[N, 4] has no 9 voters per class",
    ]


# -- identity ------------------------------------------------------------------------------------------------------------
def test_the_hash_is_the_same_for_the_same_graph() -> None:
    assert graph().hash == graph().hash == replace(graph(), source={"other": "source"}).hash
    assert len(graph().hash) == 64


def test_the_hash_changes_with_structure() -> None:
    b = network()
    b.add("more", RELU, "vote")
    renamed = G["conv.4"].name + "x"
    moved = [replace(n, name=renamed, value=Value(renamed, n.signal)) if n.name == "conv.4" else n for n in G]
    moved = [replace(n, inputs=(renamed,)) if n.name == "fc.0" else n for n in moved]
    others = [
        replace(G, T=5),
        replace(G, output="mean"),
        replace(G, nodes=G.nodes[:-1]),
        replace(G, nodes=tuple(moved)),
        b.finish("more"),
        changed(G, "fc.2", inputs=("conv.2",)),
        changed(G, "fc.2", op=ir.LIF()),
    ]
    assert len({G.hash, *(g.hash for g in others)}) == len(others) + 1


@given(any_sample(), st.data())
@settings(max_examples=150)
def test_the_hash_changes_with_every_constant(sample: Any, data: st.DataObject) -> None:
    constants = sample.op.constants()
    if not constants:
        return
    name = data.draw(st.sampled_from(sorted(constants)))
    value = constants[name]
    other: Any
    if isinstance(value, np.ndarray):
        other = value.copy()
        bit = data.draw(st.integers(0, other.nbytes * 8 - 1))
        other.view(np.uint8).reshape(-1)[bit // 8] ^= 1 << bit % 8
    elif isinstance(value, bool):
        other = not value
    elif isinstance(value, Kind):
        other = Kind.REAL if value is not Kind.REAL else Kind.BINARY
    elif isinstance(value, str):
        other = {"mean": "max", "max": "sum", "sum": "mean", "multiply": "add", "add": "multiply"}.get(
            value, "7.0"
        )
    elif name == "program":
        other = (*value, "mul x 3.0")
    elif name in ("after", "initial"):
        other = tuple("7.0" if name == "after" else 7.0 for _ in value)
    elif value is None:
        other = np.ones(1, np.float32) if name in ("bias", "tla", "cla") else 0.5
    elif isinstance(value, tuple):
        other = (*value[:-1], 7) if value[-1:] != (7,) else (*value[:-1], 8)
    else:
        other = float(np.nextafter(value, np.inf)) if isinstance(value, float) else value + 1
    changed_op = replace(sample.op, **{name: other})
    assert hash_of(sample.op) != hash_of(changed_op)
    assert hash_of(sample.op) == hash_of(replace(sample.op))


def hash_of(op: Op) -> str:
    """Hash of a graph of one node; hashing asks for no sound graph."""
    return Graph(1, (Node("x", op, (), Value("x", Signal((), Kind.REAL))),), "x").hash


# -- text ----------------------------------------------------------------------------------------------------------------
def test_the_dump_is_golden() -> None:
    expected = Path(__file__).with_name("network.txt").read_text()
    assert dump(graph()) == dump(graph()) == expected


def test_ops_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph()["conv.2"].op.tau = 3.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "n" * 100_000])
def test_names_that_no_terminal_can_show_are_refused(name: str) -> None:
    b = GraphBuilder(1)
    with pytest.raises(GraphError, match="control characters, or is very long"):
        b.add(name, ir.Input((2,)))
