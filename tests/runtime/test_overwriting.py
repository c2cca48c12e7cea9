"""Values that make room for those after them, and work in portions: not one bit differs from keeping everything whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron

from tcja_deploy.ir import Graph, GraphBuilder, Kind, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime import device, sequence
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.membranes import integrate, margin, neuron_step
from tcja_deploy.runtime.sequence import evaluate, overwriting, run

T, N = 6, 3


def network(neurons: ir.Neuron) -> Graph:
    """Weights, batch normalisation and neurons, twice; the second weights are read by a sum as well."""
    rng = np.random.default_rng(5)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.normal(0, 1, shape).astype(np.float32)

    def norm(channels: int) -> ir.BatchNorm2d:
        shape, spread = normal(3, channels), normal(channels) ** 2 + 0.5
        return ir.BatchNorm2d(*shape, spread)

    b = GraphBuilder(T)
    x = b.add("input", ir.Input((2, 8, 9), Kind.REAL))
    x = b.add("weights1", ir.Conv2d(normal(5, 2, 3, 3), padding=(1, 1, 1, 1)), x)
    x = b.add("spikes1", neurons, b.add("norm1", norm(5), x))
    x = b.add("pool", ir.MaxPool2d((2, 3), (2, 3)), x)
    kept = b.add("weights2", ir.Conv2d(normal(5, 5, 1, 1), normal(5)), x)
    x = b.add("spikes2", neurons, b.add("norm2", norm(5), kept))
    return b.finish(b.add("sum", ir.Add(), x, kept))


def frames() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(1).normal(0, 2, (T, N, 2, 8, 9)).astype(np.float32)


def every_value(graph: Graph) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    run(graph, frames(), observe=lambda node, value: found.__setitem__(node.name, value.clone()))
    return found


NEURONS = [ir.LIF(), ir.LIF(tau=3.0, v_reset=None), ir.PLIF(decay=0.3, strict=True, v_reset=-0.2), ir.IF()]


@pytest.mark.parametrize("op", NEURONS)
def test_watched_values_are_those_of_a_run_that_keeps_all(op: ir.Neuron) -> None:
    graph = network(op)
    whole = every_value(graph)
    assert overwriting(graph, ()) == {"norm1", "spikes1", "spikes2"}
    for watched in ({"spikes1", "spikes2"}, {"norm1", "sum"}, {"weights1"}, {"weights2", "spikes2"}):
        seen: dict[str, torch.Tensor] = {}

        def observe(node: Node, value: torch.Tensor, seen: dict[str, torch.Tensor] = seen) -> None:
            seen[node.name] = value

        output = run(graph, frames(), observe=observe, watched=watched)
        assert seen.keys() == watched
        assert all(
            torch.equal(value, whole[name]) for name, value in seen.items()
        )  # after the run, when all is written
        assert torch.equal(output, whole["sum"])


def test_frames_of_the_caller_are_not_written_to() -> None:
    b = GraphBuilder(T)
    graph = b.finish(b.add("spikes", ir.IF(), b.add("input", ir.Input((4,), Kind.REAL))))
    x = torch.randn(T, N, 4, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    run(graph, x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("op", NEURONS)
def test_distance_of_a_mismatch_after_normalisation_was_written_over_weights(op: ir.Neuron) -> None:
    graph = network(op)
    whole = every_value(graph)
    spikes = {name: whole[name].numpy().copy() for name in ("spikes1", "spikes2")}
    at = (4, 1, 2, 5, 6)
    spikes["spikes1"][at] = 1 - spikes["spikes1"][at]
    first = compare(graph, frames(), whole["sum"].numpy(), spikes, bound=1).layers[0].first
    assert first is not None
    assert (first.t, first.sample, first.index) == (at[0], at[1], at[2:])
    assert first.distance == float(margin(op, whole["norm1"])[at])


def test_two_layers_of_neurons_on_one_current_are_both_compared() -> None:
    b = GraphBuilder(T)
    x = b.add("weights", ir.Linear(np.eye(4, dtype=np.float32)), b.add("input", ir.Input((4,), Kind.REAL)))
    fired = [b.add(f"spikes{k}", ir.IF(k), x) for k in (1, 2)]
    graph = b.finish(b.add("sum", ir.Add(), *fired))
    given = np.random.default_rng(3).normal(1, 1, (T, N, 4)).astype(np.float32)
    spikes = {name: graph[name].op.apply(given) for name in fired}
    found = compare(graph, given, spikes["spikes1"] + spikes["spikes2"], spikes, bound=1)
    assert [(layer.name, layer.mismatches) for layer in found.layers] == [("spikes1", 0), ("spikes2", 0)]
    assert found.passed


@pytest.mark.parametrize("op", [*NEURONS, ir.LI(decay=0.2)])
def test_blocks_of_neurons(op: ir.Neuron | ir.LI, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.from_numpy(frames())
    whole = [evaluate(op, x), integrate(op, x)[1]]
    monkeypatch.setattr(device, "_CACHED", 50)  # 432 neurons do not divide into blocks of it
    assert torch.equal(evaluate(op, x), whole[0])
    assert torch.equal(integrate(op, x)[1], whole[1])
    assert np.array_equal(whole[0].numpy(), op.apply(frames()))


@pytest.mark.parametrize(
    ("shape", "outputs", "kernel"), [((2, 40, 40), 24, 3), ((24, 20, 20), 24, 3), ((16, 9, 9), 40, 1), ((8, 7, 7), 8, 7)]
)  # fmt: skip
@pytest.mark.parametrize("portion", [1, 3])
def test_portions_of_frames(
    shape: tuple[int, ...], outputs: int, kernel: int, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normalised and pooled frames do not depend on how many are computed together."""
    rng = np.random.default_rng(2)
    weight = rng.normal(0, 1, (outputs, shape[0], kernel, kernel)).astype(np.float32)
    conv = ir.Conv2d(weight, weight[:, 0, 0, 0].copy(), (1, 1), (kernel // 2,) * 4)
    norm = ir.BatchNorm2d(*(np.abs(weight[:, 0, 0, 0]) + k for k in range(4)))
    pool = ir.MaxPool2d((2, 2), (2, 2))
    x = torch.from_numpy((rng.random((20, 1, *shape)) < 0.2).astype(np.float32))
    y = evaluate(conv, x)
    size = y[0].numel()
    whole = [evaluate(norm, y), evaluate(pool, y)]
    monkeypatch.setattr(device, "_CACHED", size * portion)
    assert torch.equal(evaluate(pool, y), whole[1])
    assert torch.equal(sequence._overwrite(norm, y), whole[0])


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=20),
    st.sampled_from([1.0, 0.0, -0.5, 0.1]),
    st.sampled_from([0.0, -0.3, 2.0]),
    st.booleans(),
)
@settings(max_examples=200)
def test_reset(values: list[float], threshold: float, reset: float, strict: bool) -> None:
    """Against `torch.where`, for any membrane: at the threshold, next to it, infinite, or not a number."""
    near = np.float32(threshold)
    near_by = [near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9)), -0.0]
    x = torch.tensor([*values, *map(float, near_by)], dtype=torch.float32)
    spikes, v = neuron_step(ir.IF(threshold, reset, strict), x, torch.zeros_like(x))
    fired = x > threshold if strict else x >= threshold
    assert torch.equal(spikes, fired.float())
    assert torch.equal(v.nan_to_num(77.0), torch.where(fired, torch.tensor(reset), x).nan_to_num(77.0))
    assert torch.equal(v.isnan(), x.isnan())


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_gradients_pass_the_membrane(v_reset: float | None) -> None:
    """As through SpikingJelly's membrane, whose spikes pass none on either."""
    x = torch.full((1, 4), 0.25, requires_grad=True)
    _, v = neuron_step(ir.LIF(v_reset=v_reset), x, torch.full((1, 4), 0.5))
    v.sum().backward()
    node = neuron.LIFNode(v_reset=v_reset, detach_reset=True)
    node.v = torch.full((1, 4), 0.5)
    y = torch.full((1, 4), 0.25, requires_grad=True)
    node(y)
    node.v.sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(x.grad, y.grad)
