"""The sequence runtime: the authors' golden run, SpikingJelly spike for spike, and the NumPy rules over whole graphs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import Golden
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from op_samples import values

import tcja_deploy as td
from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.sequence import evaluate, run

Array = NDArray[np.float32]


# -- the authors' own run ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("folded", [False, True])
def test_golden(golden: Golden, folded: bool, record_property: Any) -> None:
    """Outputs equal; spike counts equal, up to a few flips in a million where a machine adds up in another order.

    On the machine of the golden run's kind (AVX-512, torch 2.15) no count differs, folded or not.
    """
    graph = td.load(golden.checkpoint)
    graph = fold_batch_norm(graph) if folded else graph
    counts: dict[str, int] = {}
    rates: dict[str, float] = {}
    steps = 0

    def observe(node: Node, value: torch.Tensor) -> None:
        nonlocal steps
        if node.name in golden.counts:
            counts[node.name] = int((value != 0).sum())
            rates[node.name] = float(value.mean(dtype=torch.float64))
            steps += value.numel()

    output = run(graph, golden.frames, observe=observe).numpy()
    assert counts.keys() == golden.counts.keys()
    differing = sum(abs(counts[k] - golden.counts[k]) for k in counts)
    record_property("differing spikes", differing)
    record_property("neuron steps", steps)
    assert differing <= 3e-6 * steps
    assert np.array_equal(output, golden.output) or differing > 0
    # Sums of up to 42 million numbers, by torch in float64, by the golden run in float32.
    assert all(abs(rates[k] - golden.rates[k]) < 1e-6 for k in rates if counts[k] == golden.counts[k])


# -- whole graphs by the NumPy rules ----------------------------------------------------------------------------------------
def by_numpy(graph: Graph, frames: Array) -> dict[str, Array]:
    known: dict[str, Array] = {}
    for node in graph:
        known[node.name] = node.op.apply(*([known[i] for i in node.inputs] if node.inputs else [frames]))
    return known


def dyadic_network(seed: int, T: int) -> Graph:
    """Branches, pools, neurons of every kind and a readout, in numbers that are never rounded."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> Array:
        return (rng.integers(-4, 5, shape) / 4).astype(np.float32)

    b = GraphBuilder(T)
    x = b.add("input", ir.Input((2, 8, 8)))
    x = b.add("conv", ir.Conv2d(weight(4, 2, 3, 3), weight(4), padding=(0, 1, 2, 1)), x)
    stats = weight(4), weight(4), weight(4), np.full(4, 0.75, np.float32)
    x = b.add("bn", ir.BatchNorm2d(*stats, eps=0.25), x)
    left = b.add("left", ir.LIF(), x)
    right = b.add("right", ir.IF(v_reset=None, strict=True), x)
    x = b.add("join", ir.Concat(2), left, right)
    skip = b.add("skip", ir.AvgPool2d((2, 2), (2, 2)), x)
    x = b.add("pool", ir.MaxPool2d((2, 2), (2, 2)), x)
    x = b.add("sum", ir.Add(), x, skip)
    x = b.add("depthwise", ir.Conv2d(weight(8, 1, 3, 3), padding=(1, 1, 1, 1), groups=8), x)
    x = b.add("plif", ir.PLIF(decay=0.5, v_reset=-0.5, decay_input=False), x)
    z = b.add("mean", ir.Reduce("max", (3, 4), True), x)
    x = b.add("gated", ir.Mul(), x, z)
    x = b.add("flat", ir.Flatten(), x)
    x = b.add("fc", ir.Linear(weight(6, 128)), x)
    x = b.add("out", ir.IF(), x)
    x = b.add("counts", ir.Reduce("sum", (0,)), x)
    return b.finish(b.add("vote", ir.Vote(2), x))


@given(st.integers(0, 2**16), st.integers(1, 4))
@settings(max_examples=30)
def test_every_value_of_a_graph_equals_the_numpy_rules(seed: int, T: int) -> None:
    graph = dyadic_network(seed, T)
    frames = values(np.random.default_rng(seed), Kind.COUNT, (T, 2, 2, 8, 8))
    expected = by_numpy(graph, frames)
    seen: list[str] = []

    def observe(node: Node, value: torch.Tensor) -> None:
        seen.append(node.name)
        assert tuple(value.shape) == node.signal.shape(T, 2)
        assert np.array_equal(value.numpy(), expected[node.name]), node.name

    output = run(graph, frames, observe=observe)
    assert seen == [n.name for n in graph]
    assert np.array_equal(output.numpy(), expected["vote"])


# -- input --------------------------------------------------------------------------------------------------------------
def small() -> Graph:
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((2, 4, 4)))
    return b.finish(b.add("spikes", ir.IF(), x))


FRAMES = np.random.default_rng(0).poisson(0.5, (3, 2, 2, 4, 4))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float16, np.float32, np.float64, np.bool_]
)
def test_any_number_type(dtype: Any) -> None:
    given = FRAMES.astype(dtype)
    assert torch.equal(run(small(), given), run(small(), given.astype(np.float32)))


def test_input_of_any_layout_is_left_as_it_was() -> None:
    original = FRAMES.astype(np.float32)
    expected = run(small(), original.copy())
    turned = np.ascontiguousarray(original.transpose(4, 3, 2, 1, 0)).transpose(4, 3, 2, 1, 0)
    fixed = original.copy()
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that must not be written to
        for given in (original.copy(), turned, original[:, ::-1, :, ::-1][:, ::-1, :, ::-1], fixed):
            assert torch.equal(run(small(), given), expected)
            assert np.array_equal(given, original)
    tensor = torch.from_numpy(original.copy()).requires_grad_()
    result = run(small(), tensor)
    assert torch.equal(result, expected)
    assert not result.requires_grad
    assert torch.equal(tensor, torch.from_numpy(original))


def test_runs_do_not_depend_on_each_other_or_on_the_batch() -> None:
    together = run(small(), FRAMES)
    for n in range(2):
        assert torch.equal(run(small(), FRAMES[:, n : n + 1])[:, 0], together[:, n])
    assert torch.equal(run(small(), FRAMES), together)
    assert run(small(), FRAMES[:, :0]).shape == (3, 0, 2, 4, 4)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (FRAMES[:2], r"the frames have shape \[2, 2, 2, 4, 4\], the model expects \[T=3, N, 2, 4, 4\]"),
        (FRAMES.swapaxes(0, 1), "the model expects"),
        (FRAMES[..., :3], "the model expects"),
        (FRAMES[:, 0], "the model expects"),
        (np.float32(1.0), "the model expects"),
        (np.ones(3, np.float32), "the model expects"),
        (np.full((3, 1, 2, 4, 4), "x"), "the frames hold no numbers"),
        (np.full((3, 1, 2, 4, 4), None), "the frames hold no numbers"),
    ],
)
def test_frames_that_do_not_fit(frames: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        run(small(), frames)


def test_weights_that_must_not_be_written_to() -> None:
    weight = np.ones((2, 3), np.float32)
    weight.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = evaluate(ir.Linear(weight), torch.ones(1, 1, 3))
    assert y.tolist() == [[[3.0, 3.0]]]
