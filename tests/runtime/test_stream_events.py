"""The stream on the event engine: what the torch stream gives, up to the order of float sums; its state is a value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import Golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_samples import NEURONS, Making, values
from stream_graphs import DISTANCE, SMALL, graphs, random_frames, run_stream, strong

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import FileFormatError
from tcja_deploy.events import open_data
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.agreement import BOUND
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.stream import Stepper, initial, plan, state_from_bytes, state_to_bytes, stream
from tcja_deploy.runtime.stream.check import compare_stream
from tcja_deploy.runtime.stream.event_cells import on_events
from tcja_deploy.runtime.synthetic import synthetic_frames


def exactly(graph: Graph, frames: np.ndarray, schedule: Any = "burst") -> None:
    """Every value that both streams have, bit for bit, over two windows."""
    samples = frames.shape[1]
    wanted, expected = run_stream(stream(graph, schedule=schedule, samples=samples), frames, 2)
    found, seen = run_stream(stream(graph, schedule=schedule, samples=samples, engine="events"), frames, 2)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    for name, value in seen.items():
        assert np.array_equal(value, expected[name]), name
    assert {node.name for node in graph.neurons} <= set(seen)


@given(st.data(), st.sampled_from(["burst", "paced"]))
@settings(max_examples=60, deadline=None)
def test_numbers_that_are_never_rounded(data: st.DataObject, schedule: str) -> None:
    """Neurons with biases around the threshold, over inputs silent for some steps: those that rest are brought up to date."""
    m = Making(data.draw)
    channels, height, width = m.int(1, 20), m.int(3, 7), m.int(3, 7)
    b = GraphBuilder(m.T)
    x = b.add("input", ir.Input((2, height, width), data.draw(st.sampled_from([Kind.BINARY, Kind.COUNT]))))
    bias = (m.rng.integers(-8, m.pick(0, 3, 12), channels) / 8).astype(np.float32)
    x = b.add("conv", ir.Conv2d(m.weight(channels, 2, 3, 3), bias, padding=(1, 1, 1, 1)), x)
    x = b.add("spikes", data.draw(NEURONS), x)
    pool = m.pick(ir.MaxPool2d((2, 2), (2, 2)), ir.AvgPool2d((2, 2), (1, 1)), None)
    x = x if pool is None else b.add("pool", pool, x)
    x = b.add("flat", ir.Flatten(), x)
    x = b.add("again", ir.Flatten(), x) if m.int(0, 1) else x
    x = b.add("fc", ir.Linear(m.weight(5, b.signal(x).size)), x)
    x = b.add("out", data.draw(NEURONS), x)
    graph = b.finish(b.add("mean", ir.TimeMean(), x) if m.int(0, 1) else x)
    frames = values(m.rng, graph.input.signal.kind, (2 * m.T, m.N, *graph.input_shape))
    frames *= m.rng.random((2 * m.T, m.N, 1, height, width)) < m.pick(0.1, 0.5, 1.0)
    exactly(graph, frames, schedule)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.integers(1, 2), st.sampled_from(["burst", "paced"]), st.data())
def test_random_networks_differ_by_rounding_alone(
    graph: Graph, samples: int, schedule: Any, data: st.DataObject
) -> None:
    ahead = data.draw(st.none() | st.integers(0, graph.T - 1))
    frames = random_frames(graph, 1, samples, data.draw(st.integers(0, 100)))
    results, seen = run_stream(
        stream(graph, lookahead=ahead, schedule=schedule, samples=samples, engine="events"), frames
    )
    wanted, expected = run_stream(stream(graph, lookahead=ahead, schedule=schedule, samples=samples), frames)
    neurons = {node.name for node in graph.neurons}
    if all(np.array_equal(seen[name], expected[name]) for name in neurons):
        assert torch.allclose(results[0], wanted[0], rtol=1e-4, atol=1e-4)
    elif (
        ahead is None
    ):  # compared with the window form, which says how near to the threshold the first flips were
        agreement = compare(graph, frames, results[0].numpy(), {n: seen[n] for n in neurons}, bound=BOUND)
        for layer in agreement.layers:
            if layer.first is not None and layer.first.distance is not None:
                assert abs(layer.first.distance) < DISTANCE


@pytest.mark.parametrize("name", sorted(SMALL))
def test_zoo_networks(name: str) -> None:
    graph = strong(fold_batch_norm(zoo.build(name, **SMALL[name])))
    frames = synthetic_frames(graph, 2)
    agreement = compare_stream(graph, [frames], engine="events")
    assert agreement.passed, agreement


def test_golden(golden: Golden) -> None:
    """The authors' network and frames: every spike of the torch stream; equal for any number of threads and again."""
    graph = fold_batch_norm(td.load(golden.checkpoint))
    _, expected = run_stream(stream(graph), golden.frames)
    network = plan(graph)
    outputs = []
    for threads in (1, 2, 3):
        cells = on_events(graph, network, threads=threads)
        result, seen = run_stream(Stepper(cells, initial(cells)), golden.frames)
        outputs.append(result[0])
        for node in graph.neurons:
            assert np.array_equal(seen[node.name], expected[node.name]), node.name
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_recordings(nmnist: Path) -> None:
    from tcja_deploy.data import path

    graph = fold_batch_norm(td.load(path("nmnist_checkpoint_max.pth")))
    data = open_data(nmnist / "Test", timesteps=graph.T, sensor=(34, 34), limit=20)
    found = compare_stream(graph, (frames for frames, _ in data.batches(10)), engine="events")
    assert found.passed
    assert found.samples == len(data)
    assert found.mismatches == 0


# -- the state ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def graph() -> Graph:
    return strong(fold_batch_norm(zoo.build("events34", T=6, channels=(4, 6, 6), hidden=16)))


@pytest.fixture(scope="module")
def frames(graph: Graph) -> np.ndarray:
    return np.concatenate([synthetic_frames(graph, 2, seed=seed) for seed in range(3)])


def emitted(stepper: Stepper, frames: np.ndarray) -> list[tuple[int, int | None, bytes]]:
    return [(e.window, e.frame, e.value.numpy().tobytes()) for f in frames for e in stepper.push(f)]


@pytest.mark.parametrize(
    "options", [{}, {"lookahead": 2}, {"schedule": "paced"}, {"lookahead": 1, "schedule": "paced"}]
)
@pytest.mark.parametrize("pushed", [0, 4, 6, 9])
def test_a_state_is_a_value(graph: Graph, frames: np.ndarray, options: dict[str, Any], pushed: int) -> None:
    """Membranes are changed in place only where nobody else has them: a state that was kept goes on as it was, again and
    again, from bytes too."""
    stepper = stream(graph, samples=2, engine="events", **options)
    emitted(stepper, frames[:pushed])
    kept, saved = stepper.state, state_to_bytes(stepper.state)
    twin = stepper.clone()
    expected = emitted(stepper, frames[pushed:])
    assert expected
    assert state_to_bytes(kept) == saved
    assert emitted(twin, frames[pushed:]) == expected
    stepper.state = kept
    assert emitted(stepper, frames[pushed:]) == expected
    stepper.state = state_from_bytes(stepper.plan, saved)
    assert emitted(stepper, frames[pushed:]) == expected


def test_states_of_other_engines_and_broken_ones_are_refused(graph: Graph, frames: np.ndarray) -> None:
    stepper, other = stream(graph, samples=2, engine="events"), stream(graph, samples=2)
    emitted(stepper, frames[:3])
    with pytest.raises(FileFormatError, match="another network"):
        state_from_bytes(other.plan, state_to_bytes(stepper.state))
    state = stepper.state
    name = next(name for name, cell in state.cells.items() if "seen" in cell)
    for wrong in (-1, graph.T + 1):
        part = torch.full_like(state.cells[name]["seen"], wrong)
        broken = {**state.cells, name: {**state.cells[name], "seen": part}}
        with pytest.raises(FileFormatError, match="outside the window"):
            state_from_bytes(stepper.plan, state_to_bytes(replace(state, cells=broken)))


def test_an_observer_that_raises_leaves_the_state_as_it_was(graph: Graph, frames: np.ndarray) -> None:
    one, other = (stream(graph, samples=2, engine="events") for _ in range(2))
    expected = emitted(other, frames)
    found = emitted(one, frames[:4])

    def refuse(name: str, index: int, item: torch.Tensor) -> None:
        if name == graph.neurons[1].name:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        one.push(frames[4], observe=refuse)
    assert found + emitted(one, frames[4:]) == expected


def test_the_running_result(graph: Graph, frames: np.ndarray) -> None:
    one, other = stream(graph, samples=2, engine="events"), stream(graph, samples=2)
    for frame in frames:
        one.push(frame)
        other.push(frame)
        a, b = one.running, other.running
        assert (a is None) == (b is None)
        assert a is None or b is None or torch.allclose(a, b)
