"""Comparing runs: disagreements that are put in are found, where they are and as far from the threshold as they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.agreement import Agreement, FirstMismatch, LayerAgreement
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.predictions import predictions
from tcja_deploy.runtime.sequence import run

T, N, C = 5, 4, 6
BOUND = 1e-3
Array = NDArray[np.float32]


def network(first: ir.Neuron) -> Graph:
    """Two layers and an output per step; the second layer sees the first one's spikes, halved."""
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((C,), Kind.REAL))
    x = b.add("first", first, x)
    x = b.add("half", ir.Affine(0.5), x)
    return b.finish(b.add("second", ir.IF(), x))


def frames(seed: int = 0) -> Array:
    return (np.random.default_rng(seed).integers(-2, 6, (T, N, C)) / 4).astype(np.float32)


def reference(graph: Graph, x: Array) -> tuple[Array, dict[str, Array]]:
    spikes: dict[str, Array] = {}
    output = run(graph, x, observe=lambda n, v: spikes.__setitem__(n.name, v.numpy().copy()))
    return output.numpy().copy(), {n.name: spikes[n.name] for n in graph.neurons}


def membrane(op: Any, x: Array, t: int, n: int, c: int) -> float:
    """`H[t]` of one neuron, with the rules written out."""
    rest = op.v_reset or 0.0
    v = rest
    for s in range(t + 1):
        h = v + float(x[s, n, c]) if isinstance(op, ir.IF) else v + (float(x[s, n, c]) - (v - rest)) / op.tau
        v = (h - op.v_threshold if op.v_reset is None else op.v_reset) if h >= op.v_threshold else h
    return h


NEURONS = [
    ir.IF(),
    ir.IF(v_reset=None),
    ir.LIF(),
    ir.LIF(v_threshold=0.5, v_reset=-0.25),
    ir.LIF(v_reset=None),
]


def test_equal_runs_agree() -> None:
    graph, x = network(ir.IF()), frames()
    output, spikes = reference(graph, x)
    agreement = compare(graph, x, output, spikes, bound=BOUND)
    assert agreement.passed
    assert (agreement.mismatches, agreement.neuron_steps, agreement.samples) == (0, 2 * T * N * C, N)
    assert (agreement.predictions_equal, agreement.output_difference) == (N, 0.0)
    assert [(a.name, a.first) for a in agreement.layers] == [("first", None), ("second", None)]
    for layer in agreement.layers:
        assert layer.spikes == layer.other_spikes == spikes[layer.name].sum() > 0


@pytest.mark.parametrize("op", NEURONS)
@given(data=st.data())
@settings(max_examples=25)
def test_flips_are_found(op: ir.Neuron, data: st.DataObject) -> None:
    graph, x = network(op), frames(data.draw(st.integers(0, 99)))
    output, spikes = reference(graph, x)
    where = st.tuples(st.integers(0, T - 1), st.integers(0, N - 1), st.integers(0, C - 1))
    flips = sorted(data.draw(st.sets(where, min_size=1, max_size=5)))
    other = {k: v.copy() for k, v in spikes.items()}
    for at in flips:
        other["first"][at] = 1 - other["first"][at]
    offset = data.draw(st.integers(0, 9))
    agreement = compare(graph, x, output, other, bound=BOUND, first_sample=offset)
    layer, untouched = agreement.layers
    t, n, c = flips[0]  # earliest step first, then sample
    assert layer.mismatches == agreement.mismatches == len(flips)
    assert layer.other_spikes - layer.spikes == sum(1 - 2 * int(spikes["first"][at]) for at in flips)
    assert layer.first is not None
    assert (layer.first.sample, layer.first.t, layer.first.index) == (offset + n, t, (c,))
    assert layer.first.expected == spikes["first"][t, n, c]
    assert layer.first.distance == pytest.approx(membrane(op, x, t, n, c) - op.v_threshold, abs=1e-6)
    assert (layer.first.distance >= 0) == bool(layer.first.expected)
    assert (untouched.mismatches, untouched.first) == (0, None)
    assert agreement.mismatch_rate == len(flips) / (2 * T * N * C)


def test_distance_in_a_layer_of_maps() -> None:
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((2, 3, 4), Kind.REAL))
    graph = b.finish(b.add("spikes", ir.IF(strict=True), x))
    given_frames = np.full((3, 2, 2, 3, 4), 0.25, np.float32)
    given_frames[:, 1, 1, 2, 3] = 0.5  # reaches the threshold in step 1 and, strict, does not fire
    output, spikes = reference(graph, given_frames)
    assert spikes["spikes"][:, 1, 1, 2, 3].tolist() == [0, 0, 1]
    spikes["spikes"][1, 1, 1, 2, 3] = 1
    (layer,) = compare(graph, given_frames, output, spikes, bound=BOUND).layers
    assert layer.first == FirstMismatch(sample=1, t=1, index=(1, 2, 3), expected=0, distance=0.0)


def test_what_follows_from_an_earlier_layer_has_no_distance() -> None:
    """In sample 0 the first layer differs too, so the second layer's inputs are not the same; in sample 2 they are."""
    graph, x = network(ir.IF()), frames()
    output, spikes = reference(graph, x)
    spikes["first"][2, 0, 0] = 1 - spikes["first"][2, 0, 0]
    follows, own = spikes["second"].copy(), spikes["second"].copy()
    follows[3, 0, 0] = 1 - follows[3, 0, 0]
    own[3, 2, 1] = 1 - own[3, 2, 1]
    first, second = compare(graph, x, output, {**spikes, "second": follows}, bound=BOUND).layers
    assert first.first is not None
    assert second.first is not None
    assert first.first.distance is not None
    assert (second.first.sample, second.first.distance) == (0, None)
    first, second = compare(graph, x, output, {**spikes, "second": own}, bound=BOUND).layers
    assert second.first is not None
    assert second.first.sample == 2
    assert second.first.distance is not None


# -- outputs ---------------------------------------------------------------------------------------------------------------
def test_outputs_and_predictions() -> None:
    graph, x = network(ir.IF()), frames()
    output, spikes = reference(graph, x)
    other = output.copy()
    best = predictions(output, streams=True)
    other[:, 1, (best[1] + 1) % C] += 7.5
    agreement = compare(graph, x, other, spikes, bound=BOUND)
    assert (agreement.predictions_equal, agreement.output_difference, agreement.mismatches) == (N - 1, 7.5, 0)
    assert not agreement.passed


def test_predictions() -> None:
    frames_of_two = np.array([[[1, 0, 0], [0, 0, 1]], [[0, 3, 0], [0, 0, 0]]], np.float32)  # [T=2, N=2, K=3]
    assert predictions(frames_of_two, streams=True).tolist() == [1, 2]
    assert predictions(frames_of_two[0], streams=False).tolist() == [0, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_no_number_does_not_pass(bad: float) -> None:
    graph, x = network(ir.IF()), frames()
    output, spikes = reference(graph, x)
    other = output.copy()
    other[0, 0, 0] = bad
    agreement = compare(graph, x, other, spikes, bound=BOUND)
    assert agreement.output_difference == np.inf
    for total in (
        agreement + compare(graph, x, output, spikes, bound=BOUND),
        compare(graph, x, output, spikes, bound=BOUND) + agreement,
    ):
        assert total.output_difference == np.inf
        assert not total.passed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda o, s: s.pop("second"), r"second: the other run has nothing, the reference \[5, 4, 6\]"),
        (
            lambda o, s: s.update(first=s["first"].swapaxes(0, 1)),
            r"first: the other run has values of shape \[4, 5, 6\]",
        ),
        (lambda o, s: s.update(first=np.float32(0)), r"first: the other run has values of shape \[\]"),
        (
            lambda o, s: o.__setitem__("y", o["y"][:, :1]),
            r"second: the other run has values of shape \[5, 1, 6\]",
        ),
    ],
)
def test_runs_of_other_shapes_are_refused(change: Any, reason: str) -> None:
    """NumPy would stretch some of them to fit."""
    graph, x = network(ir.IF()), frames()
    output, spikes = reference(graph, x)
    holder = {"y": output}
    change(holder, spikes)
    with pytest.raises(DataError, match=reason):
        compare(graph, x, holder["y"], spikes, bound=BOUND)


# -- sums over a data set ----------------------------------------------------------------------------------------------------
@given(st.lists(st.integers(1, N), min_size=1, max_size=3), st.integers(0, 9))
@settings(max_examples=20)
def test_batches_add_up_to_the_whole(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph, x = network(ir.LIF()), np.concatenate([frames(seed + i)[:, :n] for i, n in enumerate(sizes)], 1)
    output, spikes = reference(graph, x)
    other = {k: np.where(rng.random(v.shape) < 0.05, 1 - v, v) for k, v in spikes.items()}
    noisy = output + rng.integers(0, 2, output.shape).astype(np.float32)
    total, start = Agreement((), 0, 0, 0.0, BOUND), 0
    firsts: list[tuple[FirstMismatch | None, ...]] = []
    for n in sizes:
        part = slice(start, start + n)
        mine = {k: v[:, part] for k, v in other.items()}
        batch = compare(graph, x[:, part], noisy[:, part], mine, bound=BOUND, first_sample=start)
        firsts.append(tuple(layer.first for layer in batch.layers))
        total, start = total + batch, start + n
    whole = compare(graph, x, noisy, other, bound=BOUND)
    assert (total.samples, total.predictions_equal, total.output_difference) == (
        whole.samples,
        whole.predictions_equal,
        whole.output_difference,
    )
    for a, b in zip(total.layers, whole.layers, strict=True):
        assert (a.name, a.neuron_steps, a.spikes, a.other_spikes, a.mismatches) == (
            b.name, b.neuron_steps, b.spikes, b.other_spikes, b.mismatches,
        )  # fmt: skip
        # The first of all batches is the first one of the earliest batch that has any, and not of the earliest step.
        assert (a.first is None) == (b.first is None)
    for i, layer in enumerate(total.layers):
        assert layer.first == next((batch[i] for batch in firsts if batch[i]), None)
    assert json.loads(json.dumps(total.as_dict()))["mismatches"] == whole.mismatches


@pytest.mark.parametrize(
    ("mismatches", "equal", "bound", "passed"),
    [
        (0, 10, 0.0, True),  # no mismatch is always few enough
        (0, 9, 1e-3, False),
        (1, 10, 1e-3, False),  # 1 in 1000 is not below 1e-3
        (1, 10, 1.1e-3, True),
        (2, 10, 1.1e-3, False),
        (1000, 10, 1.0, False),
    ],
)
def test_passed(mismatches: int, equal: int, bound: float, passed: bool) -> None:
    layer = LayerAgreement("a", 1000, 5, 5, mismatches)
    agreement = Agreement((layer,), 10, equal, 0.5, bound)
    assert agreement.passed is passed
    assert agreement.as_dict()["passed"] is passed


def test_what_comes_after_the_last_spikes_is_compared_too() -> None:
    """A last layer with other weights gives the same spikes everywhere, and often the same classes."""
    graph, x = network(ir.IF()), frames()
    output, spikes = reference(graph, x)
    agreement = compare(graph, x, output * np.float32(1 + 1e-3), spikes, bound=BOUND)
    assert (agreement.mismatches, agreement.predictions_equal) == (0, N)
    assert agreement.output_error == pytest.approx(1e-3, rel=1e-3)
    assert not agreement.passed
    assert compare(graph, x, output * np.float32(1 + 1e-6), spikes, bound=BOUND).passed
    # Behind a spike that differs the output may differ as well.
    flipped = {k: v.copy() for k, v in spikes.items()}
    for t in range(T):
        flipped["second"][t, :, 0] = 1 - flipped["second"][t, :, 0]
    assert compare(graph, x, output + 1, flipped, bound=1.1).passed


def test_a_network_without_neurons() -> None:
    b = GraphBuilder(2)
    graph = b.finish(b.add("mean", ir.TimeMean(), b.add("input", ir.Input((3,)))))
    x = np.eye(3, dtype=np.float32)[None].repeat(2, 0)
    agreement = compare(graph, x, x[0], {}, bound=BOUND)
    assert (agreement.passed, agreement.mismatch_rate, agreement.layers) == (True, 0.0, ())


def test_scores_that_differ_by_rounding_alone_are_one_prediction() -> None:
    scores = np.array([[0.2, 0.5, 0.5, 0.1]], np.float32)
    nudged = scores.copy()
    nudged[0, 2] = np.nextafter(np.float32(0.5), np.float32(1))
    assert predictions(scores, streams=False).tolist() == predictions(nudged, streams=False).tolist() == [1]
    nudged[0, 2] = 0.5001
    assert predictions(nudged, streams=False).tolist() == [2]
