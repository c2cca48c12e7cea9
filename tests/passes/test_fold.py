"""Folding batch normalisation: the same function within float32, and nothing else touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tcja_deploy.ir import Graph, GraphBuilder, Kind, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.sequence import run

Array = NDArray[np.float32]
ROUNDING = 2.0**-24
"""Relative error of one float32 operation."""


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(0, 1, shape).astype(np.float32)


def norm(cls: type[Op], rng: np.random.Generator, channels: int) -> Any:
    var = rng.uniform(0.01, 2, channels).astype(np.float32)
    return cls(normal(rng, channels), normal(rng, channels), normal(rng, channels), var)  # type: ignore[call-arg]


@st.composite
def layers(draw: Any) -> tuple[Graph, NDArray[np.float64], int]:
    """Weights and normalisation; with the frames, and how many products one output adds up at most."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, a, b = draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    inputs, outputs = groups * a, groups * b
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 3)]))
    bias = normal(rng, outputs) if draw(st.booleans()) else None
    kind = draw(st.sampled_from(["conv", "transposed", "linear"]))
    op: Op
    if kind == "conv":
        op = ir.Conv2d(normal(rng, outputs, a, *kernel), bias, (1, 2), (1, 0, 2, 1), (1, 1), groups)
    elif kind == "transposed":
        op = ir.ConvTranspose2d(normal(rng, inputs, b, *kernel), bias, (2, 1), (0, 0), (1, 0), (1, 1), groups)
    else:
        op = ir.Linear(normal(rng, outputs, inputs), bias)
    shape = (inputs,) if kind == "linear" else (inputs, 4, 5)
    builder = GraphBuilder(2)
    x = builder.add("x", ir.Input(shape, Kind.REAL))
    x = builder.add("weights", op, x)
    x = builder.add("norm", norm(ir.BatchNorm1d if kind == "linear" else ir.BatchNorm2d, rng, outputs), x)
    return builder.finish(x, {"a": "b"}), rng.normal(0, 1, (2, 3, *shape)), a * kernel[0] * kernel[1] + inputs


def in_magnitudes(graph: Graph, frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of the magnitudes of all terms of the normalised result: rounding errors are relative to it."""
    weights, normalise = graph["weights"].op, graph["norm"].op
    assert isinstance(normalise, ir.BatchNorm1d | ir.BatchNorm2d)
    magnitudes = {k: np.abs(v) for k, v in weights.constants().items() if isinstance(v, np.ndarray)}
    total = replace(weights, **magnitudes).apply(np.abs(frames).astype(np.float32)).astype(np.float64)
    k, _ = normalise.scale_offset()
    shape = (-1,) + (1,) * (-normalise.channel_axis - 1)
    spread = np.abs(k).reshape(shape) * (total + np.abs(normalise.mean).reshape(shape))
    return spread + np.abs(normalise.beta).reshape(shape)


@given(layers())
@settings(max_examples=150)
def test_folding_keeps_the_function(case: tuple[Graph, NDArray[np.float64], int]) -> None:
    graph, frames, products = case
    folded = fold_batch_norm(graph)
    assert [n.name for n in folded] == ["x", "weights"]
    assert folded.output == "weights"
    assert folded.source == graph.source
    assert folded["weights"].signal == graph["norm"].signal
    x = frames.astype(np.float32)
    # Each form rounds once a product, once a sum, and a few times for the weights and the affine map (Higham, Accuracy and
    # Stability of Numerical Algorithms, 2nd ed., section 3.1: n operations, relative to the sum of magnitudes).
    bound = 2 * (2 * products + 8) * ROUNDING * in_magnitudes(graph, frames)
    assert (np.abs(run(graph, x).numpy() - run(folded, x).numpy()) <= bound).all()


def test_folding_is_exact_where_numbers_are() -> None:
    """Powers of two all along: the same bits, with groups in a transposed convolution too."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-4, 5, (4, 3, 2, 2)).astype(np.float32)
    b = GraphBuilder(2)
    x = b.add("x", ir.Input((4, 3, 3)))
    x = b.add(
        "up", ir.ConvTranspose2d(weight, rng.integers(-4, 5, 6).astype(np.float32), (2, 2), groups=2), x
    )
    gamma = 2.0 ** rng.integers(-2, 3, 6).astype(np.float32)
    beta, mean = (rng.integers(-4, 5, 6).astype(np.float32) for _ in range(2))
    x = b.add("bn", ir.BatchNorm2d(gamma, beta, mean, np.full(6, 3.75, np.float32), 0.25), x)
    graph = b.finish(x)
    frames = rng.integers(0, 5, (2, 3, 4, 3, 3)).astype(np.float32)
    folded = fold_batch_norm(graph)
    assert len(folded.nodes) == 2
    assert np.array_equal(run(graph, frames).numpy(), run(folded, frames).numpy())


def network(*, read_twice: bool, output: str = "sum") -> Graph:
    rng = np.random.default_rng(0)
    b = GraphBuilder(3)
    x = b.add("x", ir.Input((2, 4, 4)))
    conv = b.add("conv", ir.Conv2d(normal(rng, 2, 2, 1, 1)), x)
    left = b.add("left", norm(ir.BatchNorm2d, rng, 2), conv)
    right = b.add("right", norm(ir.BatchNorm2d, rng, 2), conv if read_twice else x)
    spikes = b.add("spikes", ir.LIF(), left)
    b.add("sum", ir.Add(), spikes, right)
    return b.finish(output)


def test_weights_read_twice_stay_as_they_are() -> None:
    graph = network(read_twice=True)
    assert fold_batch_norm(graph).hash == graph.hash


def test_normalisation_without_weights_before_it_stays() -> None:
    graph = network(read_twice=False)
    folded = fold_batch_norm(graph)
    assert [n.name for n in folded] == ["x", "conv", "right", "spikes", "sum"]
    assert folded["spikes"].inputs == ("conv",)
    assert folded["right"].op is graph["right"].op
    frames = np.random.default_rng(1).poisson(1, (3, 2, 2, 4, 4)).astype(np.float32)
    # No membrane of this input lies within rounding of the threshold, and the other branch is not touched.
    assert np.array_equal(run(graph, frames).numpy(), run(folded, frames).numpy())


def test_only_the_first_of_two_normalisations_is_folded() -> None:
    rng = np.random.default_rng(0)
    b = GraphBuilder(1)
    x = b.add("x", ir.Input((3,)))
    for name, op in (
        ("fc", ir.Linear(normal(rng, 2, 3))),
        ("a", norm(ir.BatchNorm1d, rng, 2)),
        ("b", norm(ir.BatchNorm1d, rng, 2)),
    ):
        x = b.add(name, op, x)
    assert [n.name for n in fold_batch_norm(b.finish(x))] == ["x", "fc", "b"]


@pytest.mark.parametrize("cls", [ir.BatchNorm1d, ir.BatchNorm2d])
def test_normalisation_of_another_axis_than_the_weights_stays(cls: type[Op]) -> None:
    """BatchNorm1d after a convolution works on its width, BatchNorm2d after a linear layer on another axis."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(1)
    x = b.add("x", ir.Input((2, 2, 2)))
    x = b.add(
        "w", ir.Conv2d(normal(rng, 2, 2, 1, 1)) if cls is ir.BatchNorm1d else ir.Linear(normal(rng, 2, 2)), x
    )
    graph = b.finish(b.add("bn", norm(cls, rng, 2), x))
    assert fold_batch_norm(graph).hash == graph.hash
