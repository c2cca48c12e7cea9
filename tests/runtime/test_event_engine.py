"""The event engine against the sequence runtime: bit for bit in numbers that are never rounded, within the bound elsewhere."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from golden_files import Golden
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from op_samples import NEURONS, Making, conv2d, conv_transpose2d, linear, values

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import DataError
from tcja_deploy.events import open_data
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime import sequence
from tcja_deploy.runtime.agreement import BOUND, Agreement
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.events import engine
from tcja_deploy.runtime.events.engine import run, run_plan
from tcja_deploy.runtime.events.plan import compile_graph
from tcja_deploy.runtime.events.values import LayerValue, Spikes
from tcja_deploy.runtime.synthetic import synthetic_frames

Array = NDArray[np.float32]


def everything(graph: Graph, frames: Array, threads: int | None = None) -> tuple[Array, dict[str, Array]]:
    """The output and every value that the engine has."""
    seen: dict[str, Array] = {}

    def observe(node: Node, value: LayerValue) -> None:
        assert tuple(value.dense.shape) == node.signal.shape(graph.T, frames.shape[1])
        seen[node.name] = value.dense

    return run_plan(compile_graph(graph), frames, threads=threads, observe=observe), seen


def agreement(graph: Graph, frames: Array) -> Agreement:
    folded = fold_batch_norm(graph)
    output, seen = everything(folded, frames)
    found = compare(folded, frames, output, seen, bound=BOUND)
    assert found.passed, found
    return found


def exactly(graph: Graph, frames: Array) -> list[str]:
    """Compare every value; the names of those that the engine has."""
    expected: dict[str, Array] = {}
    wanted = sequence.run(
        graph, frames, observe=lambda node, value: expected.update({node.name: value.numpy()})
    )
    output, seen = everything(graph, frames)
    assert np.array_equal(output, wanted.numpy())
    for name, value in seen.items():
        assert np.array_equal(value, expected[name]), name
    return list(seen)


# -- every layer ----------------------------------------------------------------------------------------------------------
@given(st.data())
@settings(max_examples=150)
def test_weights_and_neurons_of_every_kind(data: st.DataObject) -> None:
    """Numbers that float32 holds exactly: whatever the order of the sums, every spike has to be the same."""
    m = Making(data.draw)
    sample = data.draw(st.sampled_from([conv2d, conv_transpose2d, linear]))(m)
    features = sample.signals[0].dims[-1 if isinstance(sample.op, ir.Linear) else -3 :]
    assume(all(isinstance(d, int) for d in features))
    kind = data.draw(st.sampled_from([Kind.BINARY, Kind.COUNT, Kind.GRADED]))
    b = GraphBuilder(m.T)
    x = b.add("weights", sample.op, b.add("input", ir.Input(features, kind)))
    if data.draw(st.booleans()):
        x = b.add("neurons", data.draw(NEURONS), x)
    frames = values(m.rng, kind, (m.T, m.N, *features))
    names = exactly(b.finish(x), frames)
    assert names == ["input", x]


POOLS = (ir.MaxPool2d, ir.AvgPool2d, functools.partial(ir.AvgPool2d, count_include_pad=False))


@given(st.data())
@settings(max_examples=80)
def test_pooling_of_spikes(data: st.DataObject) -> None:
    m = Making(data.draw)
    kernel, stride = m.pair(1, 3), m.pair(1, 3)
    padding = (min(m.int(0, 1), kernel[0] // 2), min(m.int(0, 1), kernel[1] // 2))
    channels = m.int(1, 40)
    b = GraphBuilder(m.T)
    x = b.add("input", ir.Input((2, m.int(3, 7), m.int(3, 7))))
    x = b.add("conv", ir.Conv2d(m.weight(channels, 2, 3, 3), padding=(1, 1, 1, 1)), x)
    x = b.add("spikes", ir.IF(), x)
    x = b.add("pool", data.draw(st.sampled_from(POOLS))(kernel, stride, padding), x)
    graph = b.finish(b.add("flat", ir.Flatten(), x))
    exactly(graph, values(m.rng, Kind.COUNT, (m.T, m.N, *graph.input_shape)))


@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 33, 64, 110, 128, 129, 200, 300])
def test_any_number_of_outputs(outputs: int) -> None:
    """Blocks of every width, and neurons that fill up the last one, never fire."""
    rng = np.random.default_rng(outputs)
    b = GraphBuilder(6)
    x = b.add("input", ir.Input((37,), Kind.BINARY))
    x = b.add("fc", ir.Linear((rng.integers(-8, 12, (outputs, 37)) / 8).astype(np.float32)), x)
    x = b.add("spikes", ir.LIF(v_reset=None), x)
    graph = b.finish(b.add("votes", ir.Linear((rng.integers(-8, 9, (3, outputs)) / 8).astype(np.float32)), x))
    frames = values(rng, Kind.BINARY, (6, 3, 37))
    assert exactly(graph, frames) == ["input", "spikes", "votes"]
    plan = compile_graph(graph)
    seen: dict[str, LayerValue] = {}
    run_plan(plan, frames, observe=lambda node, value: seen.update({node.name: value}))
    spikes = seen["spikes"]
    assert isinstance(spikes, Spikes)
    expected = spikes.dense
    assert np.array_equal(spikes.by_channel, expected.transpose(1, 0, 2))
    assert spikes.events.ends[-1] == expected.sum()


@pytest.mark.parametrize("kind", [Kind.BINARY, Kind.GRADED])
@pytest.mark.parametrize("op", [ir.Conv2d, ir.ConvTranspose2d])
@pytest.mark.parametrize("soft", [False, True])
def test_long_and_short_lists(kind: Kind, op: Any, soft: bool) -> None:
    """Many channels: places with long lists, with short ones and with none, in tiles of every length."""
    rng = np.random.default_rng(5)
    channels, outputs, steps = 96, 70, 5
    shape = (outputs, channels, 3, 3) if op is ir.Conv2d else (channels, outputs, 3, 3)
    padding = (1, 2, 0, 1) if op is ir.Conv2d else (1, 2)
    b = GraphBuilder(steps)
    x = b.add("input", ir.Input((channels, 5, 37), kind))
    weight = (rng.integers(-8, 10, shape) / 8).astype(np.float32)
    bias = (rng.integers(-8, 8, outputs) / 8).astype(np.float32)
    x = b.add("weights", op(weight, bias, stride=(2, 1), padding=padding), x)
    graph = b.finish(b.add("spikes", ir.LIF(v_threshold=8.0, v_reset=None if soft else 0.0), x))
    frames = values(rng, kind, (steps, 2, channels, 5, 37))
    frames *= rng.random(frames.shape) < rng.choice([0, 0.02, 0.6], (1, 2, 1, 5, 37))
    assert exactly(graph, frames) == ["input", "spikes"]
    one, many = (run(graph, frames, threads=n) for n in (1, 3))
    assert np.array_equal(one, many)


def test_leaks_that_round_are_divided_as_the_reference_divides() -> None:
    """`tau = 3` has no exact inverse: with whole inputs many membranes lie on the threshold."""
    rng = np.random.default_rng(0)
    for decay_input in (True, False):
        b = GraphBuilder(8)
        x = b.add("input", ir.Input((16,)))
        x = b.add("fc", ir.Linear(rng.integers(-2, 4, (64, 16)).astype(np.float32)), x)
        graph = b.finish(b.add("spikes", ir.LIF(tau=3.0, v_threshold=1.0, decay_input=decay_input), x))
        exactly(graph, values(rng, Kind.COUNT, (8, 50, 16)))


@given(NEURONS, st.integers(1, 40))
@settings(max_examples=40)
def test_branches_meet_without_torch(neuron: ir.Neuron, channels: int) -> None:
    """Residual sums, neurons alone, concatenation, AND of spikes and average pools, as residual networks have them."""
    rng = np.random.default_rng(channels)

    def conv(inputs: int, outputs: int, size: int) -> ir.Conv2d:
        weight = (rng.integers(-4, 6, (outputs, inputs, size, size)) / 4).astype(np.float32)
        return ir.Conv2d(weight, padding=(size // 2,) * 4)

    b = GraphBuilder(4)
    x = b.add("stem", conv(2, channels, 3), b.add("input", ir.Input((2, 6, 6))))
    for i in (1, 2):  # a stream of real numbers, as in MS-ResNet
        spikes = b.add(f"spikes{i}", neuron, x)
        x = b.add(f"stream{i}", ir.Add(), x, b.add(f"branch{i}", conv(channels, channels, 3), spikes))
    last = b.add("last", neuron, x)
    both, either = b.add("and", ir.Mul(), last, spikes), b.add("counts", ir.Add(), last, spikes)
    mean = b.add("mean", ir.AvgPool2d((2, 2), (2, 2)), b.add("join", ir.Concat(2), both, spikes))
    pooled = b.add(
        "pool",
        ir.MaxPool2d((2, 2), (2, 2)),
        b.add("again", neuron, b.add("sums", conv(channels, 3, 3), either)),
    )
    x = b.add(
        "meet", ir.Add(), b.add("next", conv(2 * channels, 3, 3), mean), b.add("side", conv(3, 3, 1), pooled)
    )
    graph = b.finish(b.add("flat", ir.Flatten(), b.add("out", neuron, x)))
    frames = values(rng, Kind.COUNT, (4, 3, 2, 6, 6))
    exactly(graph, frames)
    with mock.patch.object(engine, "_in_torch", side_effect=AssertionError):
        run(graph, frames)


# -- what the engine leaves to torch --------------------------------------------------------------------------------------
def test_branches_and_values_that_others_read() -> None:
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> Array:
        return (rng.integers(-4, 5, shape) / 4).astype(np.float32)

    b = GraphBuilder(4)
    x = b.add("input", ir.Input((2, 8, 8)))
    current = b.add("conv", ir.Conv2d(weight(20, 2, 3, 3), padding=(1, 1, 1, 1)), x)  # read twice: not fused
    left, right = b.add("left", ir.LIF(), current), b.add("right", ir.IF(v_reset=None), current)
    x = b.add("join", ir.Concat(2), left, right)
    skip = b.add("skip", ir.AvgPool2d((2, 2), (2, 2)), x)
    x = b.add("pool", ir.MaxPool2d((2, 2), (2, 2)), x)
    x = b.add("sum", ir.Add(), x, skip)
    x = b.add("depthwise", ir.Conv2d(weight(40, 1, 3, 3), padding=(1, 1, 1, 1), groups=40), x)
    x = b.add("more", ir.PLIF(decay=0.5, v_reset=-0.5, decay_input=False), x)
    x = b.add("flat", ir.Flatten(), x)
    x = b.add("fc", ir.Linear(weight(6, 640), weight(6)), x)
    x = b.add("readout", ir.LI(0.5), x)
    graph = b.finish(b.add("mean", ir.TimeMean(), x))
    names = exactly(graph, values(rng, Kind.COUNT, (4, 3, 2, 8, 8)))
    assert {"conv", "left", "right", "fc"} <= set(names)
    assert "depthwise" not in names
    kept: list[str] = []
    frames = values(rng, Kind.COUNT, (4, 1, 2, 8, 8))
    plan = compile_graph(graph, keep=["depthwise"])
    run_plan(plan, frames, observe=lambda node, value: kept.append(node.name))
    assert "depthwise" in kept


def test_real_frames_and_frames_that_do_not_fit() -> None:
    rng = np.random.default_rng(4)
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((3, 6, 6), Kind.REAL))
    x = b.add("conv", ir.Conv2d(rng.integers(-2, 3, (8, 3, 3, 3)).astype(np.float32)), x)
    graph = b.finish(b.add("spikes", ir.IF(), x))
    assert exactly(graph, values(rng, Kind.REAL, (3, 2, 3, 6, 6))) == ["input", "conv", "spikes"]
    assert run(graph, np.zeros((3, 0, 3, 6, 6))).shape == (3, 0, 8, 4, 4)
    with pytest.raises(DataError, match="the model expects"):
        run(graph, np.zeros((2, 1, 3, 6, 6)))


# -- whole networks -------------------------------------------------------------------------------------------------------
def test_golden(golden: Golden) -> None:
    """All spikes of the authors' own run, in gated layers too; the same for any number of threads and from run to run."""
    graph = td.load(golden.checkpoint)
    found = agreement(graph, golden.frames)
    assert found.mismatches <= 3
    differing = sum(abs(layer.other_spikes - golden.counts[layer.name]) for layer in found.layers)
    assert differing <= 3
    folded = fold_batch_norm(graph)
    output, seen = everything(folded, golden.frames, threads=1)
    for threads in (1, 2, 3):
        again, others = everything(folded, golden.frames, threads=threads)
        assert np.array_equal(again, output)
        assert all(np.array_equal(others[name], seen[name]) for name in seen)


BIG = {"dvs128", "ncaltech101"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in BIG else []) for n in sorted(zoo.BUILDERS)]
)
def test_zoo_networks(name: str) -> None:
    """Every published network with random weights on made-up frames: no layer that gets the reference's spikes differs but
    where rounding decides. Random networks are dense and chaotic, so layers behind a flip are not compared."""
    graph = fold_batch_norm(zoo.build(name))
    frames = synthetic_frames(graph, 1)
    output, seen = everything(graph, frames)
    found = compare(graph, frames, output, seen, bound=BOUND)
    for layer in found.layers:
        if layer.first is not None and layer.first.distance is not None:
            assert abs(layer.first.distance) < 1e-6
    first = next((layer for layer in found.layers if layer.mismatches), None)
    assert first is None or first.mismatches <= max(1, BOUND * first.neuron_steps)


def test_recordings(nmnist: Path) -> None:
    """The shipped network on real recordings, alone and in batches: every spike, every prediction."""
    from tcja_deploy.data import path

    graph = td.load(path("nmnist_checkpoint_max.pth"))
    data = open_data(nmnist / "Test", timesteps=graph.T, sensor=(34, 34), limit=100)
    together = Agreement((), 0, 0, 0.0, BOUND)
    folded = fold_batch_norm(graph)
    for frames, _ in data.batches(20):
        together = together + agreement(graph, frames)
        output, _ = everything(folded, frames)
        alone = [everything(folded, frames[:, n : n + 1])[0] for n in (0, 7)]
        for n, single in zip((0, 7), alone, strict=True):
            assert np.array_equal(single, np.take(output, [n], axis=int(graph[graph.output].signal.streams)))
    assert together.passed
    assert together.samples == len(data)


def test_values_of_other_layouts() -> None:
    """Frames that are views of something else, and numbers of other types."""
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((2, 4, 4)))
    x = b.add("conv", ir.Conv2d(np.ones((3, 2, 3, 3), np.float32)), x)
    graph = b.finish(b.add("spikes", ir.IF(v_threshold=4.0), x))
    frames = np.random.default_rng(0).poisson(0.5, (3, 2, 2, 4, 4))
    expected = sequence.run(graph, frames).numpy()
    turned: Any = np.ascontiguousarray(frames.transpose(4, 3, 2, 1, 0)).transpose(4, 3, 2, 1, 0)
    for given_ in (frames, turned, turned.astype(np.uint8)):
        assert np.array_equal(run(graph, given_), expected)
