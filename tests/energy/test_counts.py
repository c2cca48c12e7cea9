"""The inventory: every op counted or explained, closed forms, and the invariants that counts must keep."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from energy_nets import measured, one_layer, small_snn, spikes, weights, with_unknown_op
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.energy.count.branches import attention_nodes, first_layers
from tcja_deploy.energy.count.inventory import Measured, Primitive, Purpose, Status, SynapticLayer
from tcja_deploy.energy.count.quantities import Macs, Ops, Rate
from tcja_deploy.energy.count.rules import RULES, take_inventory
from tcja_deploy.energy.measure import join
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.activity.measures import Measure

RNG = np.random.default_rng(0)


def synops(m: Measured) -> dict[str, list[int]]:
    return {layer.node: m.synops(layer).events.tolist() for layer in m.inventory.layers}


def operations(m: Measured) -> dict[tuple[str, str], list[int]]:
    return {(w.node, w.what): m.work(w).events.tolist() for w in m.inventory.operations}


# -- coverage --------------------------------------------------------------------------------------------------------
def test_every_op_of_the_ir_has_a_rule() -> None:
    assert set(RULES) == set(ir.OPS.values())


def test_every_node_is_covered_and_says_why_not() -> None:
    inventory = take_inventory(small_snn())
    assert [c.node for c in inventory.coverage] == [n.name for n in inventory.graph]
    worked = {w.node for w in inventory.operations} | {layer.node for layer in inventory.layers}
    for entry in inventory.coverage:
        assert (entry.status is Status.COUNTED) == (entry.node in worked)
        assert (entry.status is Status.COUNTED) == (not entry.reason)


def test_an_unknown_op_is_reported_never_free() -> None:
    inventory = take_inventory(with_unknown_op(small_snn()))
    (entry,) = inventory.unsupported
    assert (entry.node, entry.status) == ("mystery", Status.UNSUPPORTED)
    assert "no counting rule for Mystery" in entry.reason


# -- closed forms ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("place", "positions"), [((0, 0), 4), ((0, 3), 6), ((7, 7), 4), ((4, 7), 6), ((3, 4), 9)]
)
def test_one_spike(place: tuple[int, int], positions: int) -> None:
    graph = one_layer(ir.Conv2d(weights(RNG, 6, 4, 3, 3), padding=(1, 1, 1, 1)), (4, 8, 8))
    x = np.zeros((1, 1, 4, 8, 8))
    x[0, 0, 2, *place] = 1
    assert synops(measured(graph, x))["layer"] == [positions * 6]


def test_all_ones_and_silence() -> None:
    graph = one_layer(ir.Conv2d(weights(RNG, 6, 4, 3, 3), padding=(1, 1, 1, 1)), (4, 8, 8), T=3)
    m = measured(graph, np.stack([np.ones((3, 4, 8, 8)), np.zeros((3, 4, 8, 8))]))
    (layer,) = m.inventory.layers
    assert synops(m)["layer"] == [3 * 11_616, 0]
    assert m.synops_by_rate(layer).per_recording().tolist() == [3 * 13_824, 0]


def test_work_of_the_small_network_in_closed_form() -> None:
    graph = small_snn(T=4, bias=True)
    m = measured(graph, spikes(np.random.default_rng(1), 3, 4, 2, 8, 12))
    count = {name: m.activity[name].counts().sum(1).tolist() for name in m.activity.values}
    got = operations(m)
    T = 4
    assert got["conv1", "bias"] == [T * 4 * 96] * 3
    assert got["bn1", "scale and offset"] == [T * 4 * 96] * 3
    for name, size in (("lif1", 4 * 96), ("lif2", 6 * 24), ("lif3", 20)):
        for what in ("leak", "integrate", "threshold"):
            assert got[name, what] == [T * size] * 3
    assert got["pool1", "maximum"] == count["lif1"]  # windows do not overlap: one comparison per spike
    assert got["tcja", "squeeze: sum"] == got["tcja", "gate"] == count["lif2"]
    for what in ("squeeze: divide by area", "sigmoid", "fusion"):
        assert got["tcja", what] == [T * 6] * 3
    # K_T = 2: the last frame has no next one. K_C = 3: the two outer channels lack a neighbour.
    assert got["tcja", "TLA: Conv1d along time"] == [6 * 6 * (2 * T - 1)] * 3
    assert got["tcja", "CLA: Conv1d along channels"] == [T * T * (3 * 6 - 2)] * 3
    assert got["pool2", "maximum"] == count["tcja"]
    assert got["mean", "sum"] == count["lif3"]
    assert got["mean", "divide by count"] == [20] * 3
    assert got["vote", "divide by count"] == [6] * 3
    assert len(got) == 25
    parts = Counter(w.purpose for w in m.inventory.operations)
    assert parts == {
        Purpose.BIAS: 1, Purpose.NORM: 2, Purpose.NEURON: 9, Purpose.POOLING: 2, Purpose.ATTENTION: 7, Purpose.READOUT: 4
    }  # fmt: skip


def test_vote_reads_whole_groups_only() -> None:
    b = GraphBuilder(T=2)
    graph = b.finish(b.add("vote", ir.Vote(3), b.add("input", ir.Input((8,), Kind.BINARY))))
    m = measured(graph, np.ones((1, 2, 8)))
    assert operations(m) == {("vote", "sum"): [2 * 6], ("vote", "divide by count"): [2 * 2]}


@pytest.mark.parametrize(
    ("op", "primitives"),
    [
        (ir.IF(), {Primitive.ADD: 6, Primitive.COMPARE: 6}),
        (ir.LIF(), {Primitive.MULTIPLY: 6, Primitive.ADD: 6, Primitive.COMPARE: 6}),
        (ir.PLIF(), {Primitive.MULTIPLY: 6, Primitive.ADD: 6, Primitive.COMPARE: 6}),
        (ir.IF(v_reset=None), {Primitive.ADD: 6 + 3, Primitive.COMPARE: 6}),  # a subtraction a spike
    ],
    ids=str,
)
def test_neuron_updates(op: ir.Neuron, primitives: dict[Primitive, int]) -> None:
    b = GraphBuilder(T=2)
    graph = b.finish(b.add("neuron", op, b.add("input", ir.Input((3,), Kind.REAL))))
    m = measured(graph, np.array([[[1, 0, 0], [2, 1, 0]]]))
    spent: Counter[Primitive] = Counter()
    for w in m.inventory.operations:
        spent[w.primitive] += int(m.work(w).events[0])
    fired = int(m.activity["neuron"].counts().sum())
    if op.v_reset is None:
        primitives = {**primitives, Primitive.ADD: 6 + fired}
        assert fired > 0
    assert spent == primitives


def test_leaky_integrators_leak_and_integrate_but_do_not_compare() -> None:
    for decay, whats in ((0.25, {"leak", "integrate"}), (0.0, {"integrate"})):
        b = GraphBuilder(T=2)
        graph = b.finish(b.add("li", ir.LI(decay), b.add("input", ir.Input((3,), Kind.REAL))))
        m = measured(graph, np.ones((1, 2, 3)))
        assert operations(m) == {("li", what): [6] for what in whats}


def graph_of(build, T: int = 2, kind: Kind = Kind.BINARY, shape: tuple[int, ...] = (4,)) -> Graph:
    b = GraphBuilder(T)
    return b.finish(build(b, b.add("input", ir.Input(shape, kind))))


def test_residual_sums_count_spikes_not_sites() -> None:
    graph = graph_of(lambda b, x: b.add("sum", ir.Add(), b.add("lif", ir.IF(), x), x))
    m = measured(graph, np.array([[[1, 1, 0, 0], [1, 0, 0, 0]]]))
    assert operations(m)["sum", "sum: input"] == [3]
    assert operations(m)["sum", "sum: lif"] == [int(m.activity["lif"].counts().sum())]


def test_dense_sums_and_products_count_sites() -> None:
    def build(b: GraphBuilder, x: str) -> str:
        a = b.add("a", ir.Sigmoid(), x)
        c = b.add("c", ir.Affine(2.0, 1.0), x)
        return b.add("mul", ir.Mul(), b.add("add", ir.Add(), a, c), c)

    got = operations(measured(graph_of(build, kind=Kind.REAL), np.ones((1, 2, 4))))
    assert got == {
        ("a", "sigmoid"): [8],
        ("c", "scale and offset"): [8],
        ("add", "sum"): [8],
        ("mul", "product"): [8],
    }


def test_other_pointwise_ops() -> None:
    def build(b: GraphBuilder, x: str) -> str:
        x = b.add("same", ir.Affine(), x)
        x = b.add("scale", ir.Affine(0.5), x)
        x = b.add("relu", ir.ReLU(), x)
        return b.add("max", ir.Reduce("max", (2,)), x)

    m = measured(graph_of(build), np.array([[[1, 1, 0, 0], [1, 0, 0, 0]]]))
    assert operations(m) == {("scale", "scale"): [3], ("relu", "rectify"): [3], ("max", "maximum"): [3]}
    reasons = {c.node: c.reason for c in m.inventory.coverage if c.status is Status.IGNORED}
    assert "nothing to compute" in reasons["same"]
    spiking = take_inventory(graph_of(lambda b, x: b.add("relu", ir.ReLU(), x)))
    assert "never negative" in spiking.coverage[1].reason


def test_average_pooling_adds_spikes_and_divides_outputs() -> None:
    graph = graph_of(lambda b, x: b.add("pool", ir.AvgPool2d((2, 2), (1, 1)), x), shape=(1, 3, 3))
    x = np.zeros((1, 2, 1, 3, 3))
    x[0, 0, 0, 1, 1] = x[0, 1, 0, 0, 0] = 1
    assert operations(measured(graph, x)) == {("pool", "sum"): [4 + 1], ("pool", "divide by window"): [2 * 4]}
    same = take_inventory(
        graph_of(lambda b, x: b.add("pool", ir.AdaptiveAvgPool2d((3, 3)), x), shape=(1, 3, 3))
    )
    assert same.coverage[1].status is Status.IGNORED


# -- element classes -------------------------------------------------------------------------------------------------
def test_elements_are_classed_one_by_one() -> None:
    graph = one_layer(ir.Linear(weights(RNG, 10, 6)), (6,), kind=Kind.GRADED)
    m = measured(graph, np.array([[[0, 1, -1, 3, 0.5, 0]], [[1, 1, 1, 1, 1, 1]]]))
    (layer,) = m.inventory.layers
    assert m.synops(layer).events.tolist() == [40, 60]
    assert m.synops(layer, Measure.UNIT).events.tolist() == [20, 60]
    assert m.synops(layer, Measure.INTEGER).events.tolist() == [30, 60]
    assert m.synops(layer, Measure.PAYLOAD).events.tolist() == [50, 60]


def test_dense_inputs_meet_every_weight() -> None:
    graph = one_layer(
        ir.Conv2d(weights(RNG, 6, 4, 3, 3), padding=(1, 1, 1, 1)), (4, 8, 8), T=2, kind=Kind.REAL
    )
    m = measured(graph, np.zeros((1, 2, 4, 8, 8)))
    assert synops(m)["layer"] == [2 * 11_616]


# -- structure -------------------------------------------------------------------------------------------------------
def generic_attention(T: int = 3) -> Graph:
    """An attention branch of generic ops: mean over space, Conv2d over the [T, C] plane, sigmoid, product."""
    rng = np.random.default_rng(2)
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((4, 5, 5), Kind.COUNT))
    x = b.add("conv", ir.Conv2d(weights(rng, 4, 4, 3, 3), padding=(1, 1, 1, 1)), x)
    s = b.add("lif", ir.LIF(), x)
    z = b.add("squeeze", ir.Reduce("mean", (3, 4)), s)  # [T, N, C]
    z = b.add("permute", ir.Permute((1, 0, 2)), z)
    z = b.add("mix", ir.Conv1d(weights(rng, T, T, 3), padding=(1, 1)), z)
    z = b.add("back", ir.Permute((1, 0, 2)), z)
    f = b.add("sigmoid", ir.Sigmoid(), z)
    f = b.add("wide", ir.Reshape(("T", "N", 4, 1, 1), (0, 1)), f)
    y = b.add("gated", ir.Mul(), s, f)
    return b.finish(b.add("fc", ir.Linear(weights(rng, 3, 100)), b.add("flat", ir.Flatten(), y)))


def test_attention_branch_is_found_whole() -> None:
    graph = generic_attention()
    assert attention_nodes(graph) == {"squeeze", "permute", "mix", "back", "sigmoid", "wide", "gated"}
    assert first_layers(graph) == {"conv"}
    inventory = take_inventory(graph)
    assert [layer.node for layer in inventory.trunk] == ["conv", "fc"]
    assert {w.purpose for w in inventory.operations if w.node in attention_nodes(graph)} == {
        Purpose.ATTENTION
    }


def test_attention_maps_are_dense_and_gates_follow_spikes() -> None:
    m = measured(generic_attention(), np.ones((2, 3, 4, 5, 5)))
    assert synops(m)["mix"] == [3 * 3 * (3 * 4 - 2)] * 2
    assert operations(m)["gated", "gate"] == m.activity["lif"].counts().sum(1).tolist()


def test_a_sigmoid_at_the_output_is_no_attention() -> None:
    graph = graph_of(lambda b, x: b.add("s", ir.Sigmoid(), b.add("fc", ir.Linear(weights(RNG, 3, 4)), x)))
    assert attention_nodes(graph) == frozenset()


def test_first_layer_behind_pooling() -> None:
    def build(b: GraphBuilder, x: str) -> str:
        x = b.add("pool", ir.AvgPool2d((2, 2), (2, 2)), x)
        x = b.add("a", ir.Conv2d(weights(RNG, 2, 2, 1, 1)), x)
        return b.add("c", ir.Conv2d(weights(RNG, 2, 2, 1, 1)), b.add("lif", ir.LIF(), x))

    assert first_layers(graph_of(build, shape=(2, 4, 4))) == {"a"}


# -- invariants ------------------------------------------------------------------------------------------------------
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_batch_size_and_order_do_not_matter(seed: int, size: int) -> None:
    graph = small_snn()
    rng = np.random.default_rng(seed)
    x = spikes(rng, 5, 4, 2, 8, 12)
    order = rng.permutation(5)
    one, other = measured(graph, x, 1), measured(graph, x[order], size)
    for layer in one.inventory.layers:
        assert np.array_equal(one.synops(layer).events[order], other.synops(layer).events)
    for w in one.inventory.operations:
        assert np.array_equal(one.work(w).events[order], other.work(w).events)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3))
def test_time_adds_up(seed: int, first: int, second: int) -> None:
    rng = np.random.default_rng(seed)
    op = ir.Conv2d(weights(rng, 3, 2, 3, 3), stride=(2, 1), padding=(1, 0, 1, 2))
    x = spikes(rng, 2, first + second, 2, 5, 6)
    parts = (x[:, :first], x[:, first:])
    totals = [
        synops(measured(one_layer(op, (2, 5, 6), part.shape[1]), part))["layer"] for part in (x, *parts)
    ]
    assert totals[0] == [a + b for a, b in zip(totals[1], totals[2], strict=True)]


def test_full_activity_is_steps_times_border_aware_macs() -> None:
    op = ir.Conv2d(weights(RNG, 6, 2, 3, 3), stride=(2, 1), padding=(0, 1, 2, 1), dilation=(1, 2), groups=2)
    graph = one_layer(op, (4, 7, 9), T=5)
    m = measured(graph, np.ones((1, 5, 4, 7, 9)))
    (layer,) = m.inventory.layers
    assert synops(m)["layer"] == [5 * layer.macs.border_aware]


def test_folding_batch_norm_moves_work_into_the_bias_and_nothing_else() -> None:
    graph = small_snn()
    x = spikes(np.random.default_rng(4), 4, 4, 2, 8, 12)
    plain, folded = measured(graph, x), measured(fold_batch_norm(graph), x)
    assert synops(plain) == synops(folded)
    before, after = operations(plain), operations(folded)
    assert {k: v for k, v in before.items() if not k[0].startswith("bn")} == {
        k: v for k, v in after.items() if k[1] != "bias"
    }
    assert before["bn1", "scale and offset"] == after["conv1", "bias"]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_exact_never_exceeds_the_rate_formula_by_more_than_the_centre(seed: int) -> None:
    # The mean dense fan-out of a padded 3x3 convolution is that of its centre, so the formula is an upper
    # bound.
    m = measured(small_snn(), spikes(np.random.default_rng(seed), 2, 4, 2, 8, 12))
    for layer in m.inventory.trunk:
        assert (m.synops(layer).per_recording() <= m.synops_by_rate(layer).per_recording()).all()


def test_activity_of_another_network_is_refused() -> None:
    m = measured(small_snn(), spikes(RNG, 1, 4, 2, 8, 12))
    assert join(small_snn(), m.activity).synops(m.inventory.layers[0]).events.tolist()
    with pytest.raises(UnsupportedError, match="recorded from network"):
        join(small_snn(seed=6), m.activity)


# -- types -----------------------------------------------------------------------------------------------------------
def test_a_rate_cannot_be_multiplied() -> None:
    rate, ops, macs = Rate(1, 4), Ops(np.array([3, 5])), Macs(9, 4, 2)
    for left, right in (
        (rate, ops),
        (ops, rate),
        (rate, macs),
        (macs, rate),
        (rate, rate),
        (ops, ops),
        (rate, 0.5),
        (3, rate),
    ):
        with pytest.raises(TypeError):
            left * right  # type: ignore[operator]
    with pytest.raises(TypeError, match="int64"):
        Ops(np.array([0.5, 1.0]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fraction"):
        Ops(np.array([1]), 0.5)  # type: ignore[arg-type]


def test_layers_say_what_they_are() -> None:
    layers: dict[str, SynapticLayer] = {layer.node: layer for layer in take_inventory(small_snn()).layers}
    assert layers["conv1"].first
    assert not layers["conv2"].first
    assert layers["conv2"].kind is Kind.BINARY
    assert layers["fc"].kind is Kind.GRADED
