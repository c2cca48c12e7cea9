"""The exact stream equals the sequence form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_graphs import DISTANCE, SMALL, graphs, random_frames, run_stream, strong

from tcja_deploy import zoo
from tcja_deploy.errors import DataError, UnsupportedError, UsageError
from tcja_deploy.ir import Graph, GraphBuilder
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.agreement import BOUND
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import plan, run_by_frame, stream
from tcja_deploy.runtime.stream.plan import CELLS
from tcja_deploy.runtime.synthetic import synthetic_frames


def assert_equal_with_same_kernels(graph: Graph, frames: np.ndarray, schedule: str) -> None:
    windows = len(frames) // graph.T
    stepper = stream(graph, samples=frames.shape[1], schedule=schedule)
    results, values = run_stream(stepper, frames, windows)
    for w in range(windows):
        part = slice(w * graph.T, (w + 1) * graph.T)
        reference = {}
        keep = reference.__setitem__
        expected = run_by_frame(graph, frames[part], observe=lambda node, x, keep=keep: keep(node.name, x))
        assert torch.equal(results[w], expected)
        for node in graph.neurons:
            assert np.array_equal(values[node.name][part], reference[node.name].numpy()), node.name


def assert_close_to_batched(graph: Graph, frames: np.ndarray) -> int:
    """Against kernels over T frames; returns the number of flipped spikes."""
    results, values = run_stream(stream(graph, samples=frames.shape[1]), frames)
    agreement = compare(graph, frames, results[0].numpy(), values, bound=BOUND)
    assert agreement.passed, agreement
    for layer in agreement.layers:
        if layer.first is not None and layer.first.distance is not None:
            assert abs(layer.first.distance) < DISTANCE
    return agreement.mismatches


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.integers(1, 2), st.sampled_from(["burst", "paced"]), st.integers(0, 100))
def test_equals_the_sequence_form_bit_for_bit_with_the_same_kernels(graph, samples, schedule, seed):
    assert_equal_with_same_kernels(graph, random_frames(graph, 2, samples, seed), schedule)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.integers(0, 100))
def test_differs_from_batched_kernels_only_by_rounding(graph, seed):
    frames = random_frames(graph, 1, 2, seed)
    results, values = run_stream(stream(graph, samples=2), frames)
    flips = 0
    if graph.neurons:
        agreement = compare(graph, frames, results[0].numpy(), values, bound=BOUND)
        flips = agreement.mismatches
        for layer in agreement.layers:
            if layer.first is not None and layer.first.distance is not None:
                assert abs(layer.first.distance) < DISTANCE
    if flips == 0:
        np.testing.assert_allclose(results[0].numpy(), run(graph, frames).numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(zoo.BUILDERS))
@pytest.mark.parametrize("schedule", ["burst", "paced"])
def test_zoo_networks_are_equal_over_windows_back_to_back(name, schedule):
    graph = strong(zoo.build(name, seed=1, **SMALL.get(name, {})))
    frames = np.concatenate([synthetic_frames(graph, 2, seed=s) for s in range(2)])
    assert_equal_with_same_kernels(graph, frames, schedule)


@pytest.mark.parametrize("name", list(zoo.BUILDERS))
def test_zoo_networks_against_batched_kernels(name):
    graph = strong(zoo.build(name, seed=2, **SMALL.get(name, {})))
    assert assert_close_to_batched(graph, synthetic_frames(graph, 2, seed=5)) == 0


@pytest.mark.slow
def test_the_authors_dvs128_checkpoint(golden):
    from tcja_deploy.frontend.load import load

    graph, frames = load(golden.checkpoint), golden.frames
    results, values = run_stream(stream(graph), frames)
    assert np.array_equal(results[0].numpy(), golden.output)
    for node in graph.neurons:
        assert np.count_nonzero(values[node.name]) == golden.counts[node.name]
    assert_equal_with_same_kernels(graph, frames, "burst")


def test_emits_exactly_when_the_gate_is_known():
    frames_of = lambda graph: synthetic_frames(graph, 1)  # noqa: E731
    full = zoo.build("events34", channels=(4, 4, 4))
    stepper, steps = stream(full), []
    for t, frame in enumerate(frames_of(full)):
        steps += [t for _ in stepper.push(frame)]
    assert steps == [full.T - 1]


def test_wrong_options_and_frames_are_refused():
    graph = zoo.build("events34", channels=(2, 2, 2))
    for options in ({"lookahead": -1}, {"lookahead": graph.T}, {"schedule": "eager"}, {"samples": 0}):
        with pytest.raises(UsageError):
            stream(graph, **options)
    for name in ("block:gate", "block:pooled", "last:mean"):
        b = GraphBuilder(2)
        x = b.add("block", ir.TCJA(np.ones((1, 1, 2), np.float32), None), b.add("input", ir.Input((1, 4, 4))))
        x = b.add(name, ir.LIF(), b.add("pool", ir.MaxPool2d((2, 2), (2, 2)), x))
        with pytest.raises(UsageError, match=f"the names of nodes: {name}"):
            stream(b.finish(b.add("last", ir.ReLU(), x)))
    with pytest.raises(DataError, match=r"\[1, 2, 34, 34\]"):
        stream(graph).push(np.zeros((2, 2, 34, 34), np.float32))
    with pytest.raises(UsageError, match="another network"):
        type(stream(graph))(stream(graph).plan, stream(graph, lookahead=1).state)


@pytest.mark.parametrize("name", sorted(n for n, op in ir.OPS.items() if op.stateful and n != "TCJA"))
def test_a_state_that_no_cell_holds_is_an_error(name, monkeypatch):
    """It is never evaluated frame by frame without its state."""
    made = {
        "LI": lambda: ir.LI(0.5),
        "Recurrence": lambda: ir.Recurrence(("add v0 x",), "h0", ("h0",), (0.0,)),
    }
    op = made.get(name, ir.OPS[name])()
    b = GraphBuilder(3)
    graph = b.finish(b.add("op", op, b.add("input", ir.Input((4,)))))
    plan(graph)
    monkeypatch.delitem(CELLS, ir.OPS[name])
    with pytest.raises(UnsupportedError, match=f"op: {name} has a state"):
        plan(graph)
