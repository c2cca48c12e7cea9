"""Reading NIR: its equations, one Euler step a frame, written out here a second time; and files that nobody vouches for."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

import tcja_deploy as td
from tcja_deploy.errors import DeployError, FileFormatError, TraceError, UsageError
from tcja_deploy.frontend.load import load
from tcja_deploy.frontend.nir import load_nir
from tcja_deploy.frontend.nir_file import read_nir_file
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run

nir = pytest.importorskip("nir", reason="the package nir is not installed")

Array = NDArray[np.float32]
T, N, F = 12, 2, 5
DT = 1e-3


def full(value: float, *shape: int) -> NDArray[np.float64]:
    return np.full(shape or (F,), value)


def graph_of(*nodes: Any, shape: tuple[int, ...] = (F,)) -> Any:
    return nir.NIRGraph.from_list(nir.Input(np.array(shape)), *nodes)


def frames(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0.5, 2.0, (T, N, *(shape or (F,)))).astype(np.float32)


def result(node: Any, x: Array, **options: Any) -> Array:
    """What a graph of one node gives when it is read and run."""
    graph = load_nir(graph_of(node, shape=x.shape[2:]), T, dt=DT, **options)
    return run(graph, x).numpy()


# -- neurons: the differential equations, in float64 ----------------------------------------------------------------
class Euler:
    """``tau dv/dt = leak - v + r i``, one step of DT a frame."""

    def __init__(self, tau: float, r: float, leak: float) -> None:
        self.gain, self.r, self.leak, self.v = DT / tau, r, leak, np.full((N, F), leak)

    def step(self, i: Any) -> Any:
        self.v = self.v + self.gain * (self.leak - self.v + self.r * i)
        return self.v


def fire(states: Any, threshold: float, reset: float | None, at: bool = False) -> tuple[Array, float]:
    """Spikes, and how close the nearest membrane came to the threshold."""
    spikes, nearest = [], np.inf
    for step in states:
        v = step()
        nearest = min(nearest, float(np.abs(v - threshold).min()))
        s = v >= threshold if at else v > threshold
        v[...] = np.where(s, reset, v) if reset is not None else v - s * threshold
        spikes.append(s)
    return np.stack(spikes).astype(np.float32), nearest


SMALL = 1e-4
"""Nearer than this to the threshold, the rounding of T steps in float32 may decide: such examples say nothing."""

taus = st.floats(1.0, 20.0).map(lambda t: t * DT)
gains = st.sampled_from(["one", "tau"]) | st.floats(0.1, 30.0)
seeds = st.integers(0, 2**32 - 1)


def resistance(gain: str | float, tau: float) -> float:
    return {"one": 1.0, "tau": tau / DT}[gain] if isinstance(gain, str) else gain


@settings(max_examples=60)
@given(taus, gains, st.sampled_from([0.0, -0.3]), st.floats(0.2, 3.0), seeds)
def test_lif(tau: float, gain: str | float, rest: float, threshold: float, seed: int) -> None:
    r, x = resistance(gain, tau), frames(seed=seed)
    node = nir.LIF(full(tau), full(r), full(rest), full(threshold), full(rest))
    euler = Euler(tau, r, rest)
    expected, nearest = fire([lambda f=f: euler.step(f) for f in x.astype(np.float64)], threshold, rest)
    if nearest > SMALL:
        assert np.array_equal(result(node, x), expected)


@settings(max_examples=40)
@given(st.floats(0.1, 3.0), st.floats(0.2, 3.0), seeds)
def test_if(gain: float, threshold: float, seed: int) -> None:
    x = frames(seed=seed)
    v = np.zeros((N, F))

    def step(f: Any) -> Any:
        nonlocal v
        v += DT * (gain / DT) * f
        return v

    expected, nearest = fire([lambda f=f: step(f) for f in x.astype(np.float64)], threshold, 0.0)
    if nearest > SMALL:
        node = nir.IF(full(gain / DT), full(threshold), full(0.0))
        assert np.array_equal(result(node, x), expected)


@settings(max_examples=60)
@given(taus, taus, gains, gains, st.floats(0.2, 3.0), seeds)
def test_cuba_lif(
    syn: float, mem: float, w: str | float, gain: str | float, threshold: float, seed: int
) -> None:
    w_in, r, x = resistance(w, syn), resistance(gain, mem), frames(seed=seed)
    node = nir.CubaLIF(full(syn), full(mem), full(r), full(0.0), full(threshold), full(0.0), full(w_in))
    current, membrane = Euler(syn, w_in, 0.0), Euler(mem, r, 0.0)
    states = [lambda f=f: membrane.step(current.step(f)) for f in x.astype(np.float64)]
    expected, nearest = fire(states, threshold, 0.0)
    if nearest > SMALL * max(1.0, w_in * r):
        assert np.array_equal(result(node, x), expected)


@settings(max_examples=40)
@given(taus, gains, st.sampled_from([0.0, 0.4]), seeds)
def test_integrators(tau: float, gain: str | float, leak: float, seed: int) -> None:
    r, x = resistance(gain, tau), frames(seed=seed)
    euler = Euler(tau, r, leak)
    expected = np.stack([euler.step(f) for f in x.astype(np.float64)])
    got = result(nir.LI(full(tau), full(r), full(leak)), x)
    # Each of T steps rounds sums of this size a few times, by half of 2**-23 relative to them.
    assert np.abs(got - expected).max() <= 8 * T * 2**-24 * max(
        1.0, np.abs(expected).max(), r * np.abs(x).max()
    )
    two = Euler(2 * DT, 1.0, 0.0), Euler(tau, r, leak)
    expected = np.stack([two[1].step(two[0].step(f)) for f in x.astype(np.float64)])
    got = result(nir.CubaLI(full(2 * DT), full(tau), full(r), full(leak)), x)
    assert np.abs(got - expected).max() <= 16 * T * 2**-24 * max(
        1.0, np.abs(expected).max(), r * np.abs(x).max()
    )


def test_integrator_without_leak() -> None:
    x = np.round(frames()).astype(np.float32)
    assert np.array_equal(result(nir.I(full(2 / DT)), x), 2 * x.cumsum(0))


def test_threshold_holds_nothing() -> None:
    x = frames()
    assert np.array_equal(result(nir.Threshold(full(0.75)), x), (x > 0.75).astype(np.float32))


@pytest.mark.parametrize(("comparison", "fires"), [(">", 0.0), (">=", 1.0)])
def test_comparison_at_the_threshold(comparison: str, fires: float) -> None:
    x = np.ones((T, N, F), np.float32)
    node = nir.Threshold(full(1.0))
    assert (result(node, x, comparison=comparison) == fires).all()


@settings(max_examples=100)
@given(st.floats(0.0078125, 128, width=32), st.sampled_from([">", ">="]))
def test_comparison_is_kept_to_the_last_bit(threshold: float, comparison: str) -> None:
    t = np.float32(threshold)
    x = np.array([np.nextafter(t, np.float32(0)), t, np.nextafter(t, np.float32(np.inf))], np.float32)
    x = np.broadcast_to(x[:, None, None], (3, 1, 1))
    graph = load_nir(graph_of(nir.Threshold(full(float(t), 1)), shape=(1,)), 3, dt=DT, comparison=comparison)
    assert run(graph, x).flatten().tolist() == [0.0, float(comparison == ">="), 1.0]


def test_soft_reset_lowers_by_the_threshold() -> None:
    x = frames()
    node = nir.IF(full(1 / DT), full(0.7), full(0.0))
    v = np.zeros((N, F), np.float32)
    expected = []
    for f in x:
        v = v + f
        s = (v > np.float32(0.7)).astype(np.float32)
        v = v - s * np.float32(0.7)
        expected.append(s)
    assert np.array_equal(result(node, x, soft_reset=True), np.stack(expected))


def test_scalar_parameters_hold_for_all_neurons() -> None:
    node = nir.LIF(*(np.array([v]) for v in (2 * DT, 1.0, 0.0, 1.0, 0.0)))
    graph = nir.NIRGraph(
        {"input": nir.Input(np.array([F])), "lif": node, "output": nir.Output(np.array([F]))},
        [("input", "lif"), ("lif", "output")],
        type_check=False,
    )
    assert load_nir(graph, T, dt=DT).neurons[0].op.tau == 2.0


# -- weights, shapes, pooling: torch is the oracle -------------------------------------------------------------------
rng = np.random.default_rng(1)


def weights(*shape: int) -> Array:
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((3, 5), (1, 1), (0, 0), (1, 1), 1),
        ((5, 2), (2, 1), (2, 0), (1, 2), 1),
        ((3, 3), (1, 2), "same", (1, 1), 1),
        ((2, 4), (1, 1), "same", (1, 2), 1),
        ((3, 3), (1, 1), "valid", (1, 1), 1),
        ((3, 3), (1, 1), (1, 1), (1, 1), 2),
    ],
)
def test_conv2d(kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int, tmp_path: Path) -> None:
    if padding == "same":
        stride = (1, 1)
    w, b, x = weights(6, 4 // groups, *kernel), weights(6), frames(4, 9, 10)
    flat = torch.from_numpy(x).flatten(0, 1)
    conv = nn.functional.conv2d(
        flat, torch.from_numpy(w), torch.from_numpy(b), stride, padding, dilation, groups
    )
    expected = conv.unflatten(0, (T, N)).numpy()
    node = nir.Conv2d((9, 10), w, stride, padding, dilation, groups, b)
    graph = nir.NIRGraph(
        {
            "input": nir.Input(np.array([4, 9, 10])),
            "c": node,
            "output": nir.Output(np.array(expected.shape[2:])),
        },
        [("input", "c"), ("c", "output")],
        type_check=False,  # nir 1.0.8 takes the kernel's height for its width and forgets the groups
    )
    nir.write(tmp_path / "conv.nir", graph)
    for source in (graph, tmp_path / "conv.nir"):
        # Sums of 100 products in another order.
        assert np.abs(run(load_nir(source, T), x).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("padding", [0, 2, "same"])
def test_conv1d(padding: Any) -> None:
    w, b, x = weights(6, 4, 4), weights(6), frames(4, 9)
    expected = nn.functional.conv1d(
        torch.from_numpy(x).flatten(0, 1), torch.from_numpy(w), torch.from_numpy(b), 1, padding
    ).unflatten(0, (T, N))
    got = result(nir.Conv1d(9, w, 1, padding, 1, 1, b), x)
    assert np.abs(got - expected.numpy()).max() < 1e-5


def test_the_bias_of_affine_is_read(tmp_path: Path) -> None:
    """nirtorch 2.6 maps it to an attribute that nothing reads (``module.weight.bias``)."""
    w, b, x = weights(3, F), weights(3), frames()
    nir.write(tmp_path / "affine.nir", graph_of(nir.Affine(w, b)))
    expected = nn.functional.linear(torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b))
    assert np.abs(run(load_nir(tmp_path / "affine.nir", T), x).numpy() - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("kind", ["sum", "avg"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 2), (1, 1))]
)
def test_pooling(kind: str, kernel: Any, stride: Any, padding: Any) -> None:
    x = np.round(frames(3, 8, 8))
    make = nir.SumPool2d if kind == "sum" else nir.AvgPool2d
    expected = nn.functional.avg_pool2d(torch.from_numpy(x).flatten(0, 1), kernel, stride, padding)
    expected = expected * (kernel[0] * kernel[1] if kind == "sum" else 1)
    got = result(make(*map(np.array, (kernel, stride, padding))), x)
    # Means of whole numbers, multiplied back: one rounding each.
    assert np.abs(got - expected.unflatten(0, (T, N)).numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("scale", "kind"),
    [
        (np.full((3, 4, 4), 2.0), ir.Affine),
        (np.arange(1.0, 4).reshape(3, 1, 1) * np.ones((3, 4, 4)), ir.Conv2d),
        (np.arange(1.0, 6), ir.Linear),
    ],
)
def test_scale(scale: Any, kind: type) -> None:
    x = frames(*scale.shape)
    graph = load_nir(graph_of(nir.Scale(scale.astype(np.float32)), shape=scale.shape), T)
    assert isinstance(graph.nodes[1].op, kind)
    assert np.array_equal(run(graph, x).numpy(), x * scale.astype(np.float32))


@pytest.mark.parametrize(
    ("start", "end", "shape"), [(0, -1, (24,)), (-3, -1, (24,)), (1, 2, (2, 12)), (0, 1, (6, 4))]
)
def test_flatten(start: int, end: int, shape: tuple[int, ...]) -> None:
    x = frames(2, 3, 4)
    got = result(nir.Flatten(np.array([2, 3, 4]), start, end), x)
    assert np.array_equal(got, x.reshape(T, N, *shape))


def test_sums_of_spikes_that_neurons_forget_are_max_pooling() -> None:
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    neurons = nir.IF(full(1 / DT, 3, 2, 2), full(0.5, 3, 2, 2), full(0.0, 3, 2, 2))
    graph = load_nir(graph_of(pool, neurons, shape=(3, 4, 4)), T, dt=DT, input_kind=Kind.BINARY)
    assert [type(n.op).__name__ for n in graph] == ["Input", "MaxPool2d"]
    x = (frames(3, 4, 4) > 1.5).astype(np.float32)
    expected = nn.functional.max_pool2d(torch.from_numpy(x).flatten(0, 1), 2).unflatten(0, (T, N)).numpy()
    assert np.array_equal(run(graph, x).numpy(), expected)
    for r, threshold in ((0.4 / DT, 0.5), (1 / DT, 1.5)):  # these hold a single spike
        neurons = nir.IF(full(r, 3, 2, 2), full(threshold, 3, 2, 2), full(0.0, 3, 2, 2))
        graph = load_nir(graph_of(pool, neurons, shape=(3, 4, 4)), T, dt=DT, input_kind=Kind.BINARY)
        assert isinstance(graph.nodes[-1].op, ir.IF)


# -- wiring ------------------------------------------------------------------------------------------------------
def test_edges_that_meet_add_up() -> None:
    a, b = weights(F, F), weights(F, F)
    nodes = {
        "input": nir.Input(np.array([F])),
        "a": nir.Linear(a),
        "b": nir.Linear(b),
        "output": nir.Output(np.array([F])),
    }
    graph = nir.NIRGraph(nodes, [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")])
    x = frames()
    assert np.abs(run(load_nir(graph, T), x).numpy() - (x @ a.T + x @ b.T)).max() < 1e-4


def test_subgraphs() -> None:
    inner = nir.NIRGraph.from_list(nir.Linear(weights(4, F)), nir.Scale(np.full(4, 2.0, np.float32)))
    graph = nir.NIRGraph(
        {"input": nir.Input(np.array([F])), "block": inner, "output": nir.Output(np.array([4]))},
        [("input", "block"), ("block", "output")],
        type_check=False,
    )
    x = frames()
    read = load_nir(graph, T)
    assert [n.name for n in read] == ["input", "block.linear", "block.scale"]
    assert np.allclose(run(read, x).numpy(), 2 * x @ inner.nodes["linear"].weight.T, atol=1e-4)


def test_recurrence_is_refused_with_its_cycle() -> None:
    lif = nir.LIF(full(2 * DT), full(1.0), full(0.0), full(1.0), full(0.0))
    graph = nir.NIRGraph(
        {
            "input": nir.Input(np.array([F])),
            "lif": lif,
            "w": nir.Linear(weights(F, F)),
            "output": nir.Output(np.array([F])),
        },
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
    )
    with pytest.raises(TraceError, match="lif -> w -> lif"):
        load_nir(graph, T, dt=DT)


def test_all_offenders_in_one_error() -> None:
    f = [full(v) for v in (2 * DT, 1.0, 0.0, 1.0, 0.0)]
    uneven = [full(v) for v in (2 * DT, 1.0, 0.0, 1.0, 0.0)]
    uneven[0][0] *= 2
    graph = graph_of(
        nir.LIF(*uneven),
        nir.Delay(full(1.0)),
        nir.LIF(f[0], f[1], full(-0.2), f[3], f[4]),
        nir.LIF(full(DT / 10), *f[1:]),
        nir.Threshold(full(-1.0)),
        nir.Affine(np.full((F, F), np.nan, np.float32), np.zeros(F, np.float32)),
    )
    graph.nodes["extra"] = graph.nodes["delay"]
    graph.edges += [("extra", "lif_1"), ("ghost", "lif_2")]
    with pytest.raises(TraceError) as error:
        load_nir(graph, T, dt=DT)
    text = str(error.value)
    for part in (
        "lif: tau differs from neuron to neuron (0.002 to 0.004)",
        "delay: delays its input",
        "lif_1: leaks to -0.2 but is reset to 0",
        "lif_2: has a time constant of 0.1 time steps",
        "threshold: fires without input",
        "affine: weight holds numbers that are not finite",
        "ghost: is named by an edge, but is no node",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda g: g.nodes.update(second=nir.Input(np.array([F]))), "second: is a second input"),
        (lambda g: g.edges.append(("linear", "output")), "linear: is connected twice to output"),
        (lambda g: setattr(g.nodes["output"], "output_type", {"output": np.array([9])}), "is declared"),
        (lambda g: g.edges.pop(), "output: reads nothing"),
        (lambda g: g.nodes.pop("output") and g.edges.pop(), "no output can be reached"),
    ],
)
def test_broken_wiring(change: Callable[[Any], object], reason: str) -> None:
    graph = graph_of(nir.Linear(weights(F, F)))
    change(graph)
    with pytest.raises(TraceError, match=reason):
        load_nir(graph, T)


def test_matrix_on_frames_that_are_not_vectors() -> None:
    graph = nir.NIRGraph(
        {
            "input": nir.Input(np.array([2, F])),
            "linear": nir.Linear(weights(F, F)),
            "output": nir.Output(np.array([2, F])),
        },
        [("input", "linear"), ("linear", "output")],
        type_check=False,
    )
    with pytest.raises(TraceError, match="put a Flatten before it"):
        load_nir(graph, T)


# -- what the caller has to say ------------------------------------------------------------------------------------
def lif_file(folder: Path) -> Path:
    node = nir.LIF(full(2 * DT), full(1.0), full(0.0), full(1.0), full(0.0))
    nir.write(folder / "lif.nir", graph_of(nir.Linear(weights(F, F)), node))
    return folder / "lif.nir"


def test_dt_and_timesteps_are_asked_for(tmp_path: Path) -> None:
    path = lif_file(tmp_path)
    with pytest.raises(UsageError, match="how long a time step is"):
        load_nir(path, T)
    with pytest.raises(UsageError, match="number of time steps"):
        load_nir(path, dt=DT)
    with pytest.raises(UsageError, match="no time step"):
        load_nir(path, T, dt=-1.0)
    with pytest.raises(UsageError, match="comparison"):
        load_nir(path, T, dt=DT, comparison="=")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no NIR graph"):
        load_nir(3, T)
    assert load_nir(graph_of(nir.Linear(weights(F, F))), T).T == T  # no neurons, no dt


def test_load_recognises_the_content(tmp_path: Path) -> None:
    path = lif_file(tmp_path).rename(tmp_path / "weights.pth")
    graph = load(path, timesteps=T, dt=DT)
    assert graph.source["format"] == "NIR"
    assert graph.source["dt"] == repr(DT)
    assert isinstance(load(nir.read(path), timesteps=T, dt=DT), Graph)
    with pytest.raises(UsageError, match="already fixes input_shape"):
        load(path, timesteps=T, dt=DT, input_shape=(F,))


def test_leak_note_makes_it_a_multiplication() -> None:
    node = nir.LIF(
        full(3 * DT), full(1.0), full(0.0), full(1.0), full(0.0), metadata={"leak": "multiplication"}
    )
    (neuron,) = load_nir(graph_of(node), T, dt=DT).neurons
    assert isinstance(neuron.op, ir.PLIF)
    assert neuron.op.decay == np.float32(1 / 3)


# -- the file ----------------------------------------------------------------------------------------------------
def test_reads_what_nir_reads(tmp_path: Path) -> None:
    f = [full(v, 4, 8, 8) for v in (2 * DT, 1.0, 0.0, 1.0, 0.0)]
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    conv = nir.Conv2d((8, 8), weights(4, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1, weights(4))
    flat = nir.Flatten(np.array([4, 4, 4]), -3, -1)
    graph = graph_of(
        conv,
        nir.LIF(*f, metadata={"note": "é"}),
        pool,
        flat,
        nir.Affine(weights(3, 64), weights(3)),
        shape=(2, 8, 8),
    )
    graph.metadata = {"from": "a test", "nested": {"n": 3}}
    nir.write(tmp_path / "g.nir", graph)
    ours, version = read_nir_file(tmp_path / "g.nir")
    theirs = nir.read(tmp_path / "g.nir").to_dict()
    assert version == nir.version
    assert ours["metadata"] == theirs["metadata"]
    assert [tuple(e) for e in ours["edges"]] == theirs["edges"]
    for name, node in theirs["nodes"].items():
        for key, value in node.items():
            if isinstance(value, np.ndarray | np.generic | int | tuple) and key in ours["nodes"][name]:
                assert np.array_equal(ours["nodes"][name][key], np.asarray(value)), (name, key)
            elif value != {}:
                assert ours["nodes"][name][key] == value, (name, key)


def write(path: Path, fill: Callable[[h5py.Group], None]) -> Path:
    """A NIR file whose only node is filled by hand."""
    with h5py.File(path, "w") as file:
        file["version"] = "1.0.8"
        node = file.create_group("node")
        node["type"] = "NIRGraph"
        fill(node)
    return path


def external(node: h5py.Group) -> None:
    node["secret"] = h5py.ExternalLink("/etc/hostname", "/")


def soft(node: h5py.Group) -> None:
    node["loop"] = h5py.SoftLink("/node")


def outside_data(node: h5py.Group) -> None:
    node.create_dataset("weight", (10,), "f4", external=[("/etc/hostname", 0, 40)])


def virtual(node: h5py.Group) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (10,))
    node.create_virtual_dataset("weight", layout)


def bomb(node: h5py.Group) -> None:
    node.create_dataset("weight", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10), compression="gzip")


def cycle(node: h5py.Group) -> None:
    node["self"] = node


def compound(node: h5py.Group) -> None:
    node.create_dataset("weight", (2,), [("a", "f4"), ("b", "i4")])


@pytest.mark.parametrize("fill", [external, soft, outside_data, virtual, bomb, cycle, compound])
def test_hostile_files(fill: Callable[[h5py.Group], None], tmp_path: Path) -> None:
    path = write(tmp_path / "x.nir", fill)
    with pytest.raises(FileFormatError) as error:
        load(path, timesteps=T, dt=DT)
    assert "x.nir" in str(error.value)


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    path = lif_file(tmp_path)
    content = path.read_bytes()
    for length in (8, 100, len(content) // 2, len(content) - 1):
        cut = tmp_path / f"{length}.nir"
        cut.write_bytes(content[:length])
        with pytest.raises(FileFormatError):
            td.load(cut, timesteps=T)
    with h5py.File(tmp_path / "lava.net", "w") as file:
        file.create_group("layer")
    with pytest.raises(FileFormatError, match="holds no NIR graph"):
        load(tmp_path / "lava.net", timesteps=T)
    with pytest.raises(FileFormatError, match="no NIRGraph"):
        load_nir(
            write(tmp_path / "root.nir", lambda n: n.__delitem__("type") or n.__setitem__("type", "LIF")), T
        )
    with pytest.raises(FileFormatError, match="no such file"):
        load_nir(tmp_path / "nothing.nir", T)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes_never_escape_the_tree_of_errors(changes: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = lif_file(Path(name))
        content = bytearray(path.read_bytes())
        for place, value in changes:
            content[8 + int(place * (len(content) - 9))] = value
        path.write_bytes(bytes(content))
        with contextlib.suppress(DeployError):
            load(path, timesteps=T, dt=DT)


@pytest.mark.parametrize(
    "noted",
    [
        "{",
        '{"dt": -1, "T": 3, "input_kind": "count", "readout": []}',
        '{"dt": 1, "T": 3, "input_kind": "purple", "readout": []}',
        '{"dt": 1, "T": 3, "input_kind": "count", "readout": [["Vote"]]}',
        '{"dt": 1, "T": 3, "input_kind": "count", "readout": [["Vote", 99]]}',
        '{"dt": 1, "T": 3, "input_kind": "count", "readout": [["system"]]}',
        '{"dt": 1, "T": "3", "input_kind": "count", "readout": []}',
    ],
)
def test_damaged_notes(noted: str, tmp_path: Path) -> None:
    graph = graph_of(nir.Linear(weights(F, F)))
    graph.metadata = {"tcja_deploy": noted}
    nir.write(tmp_path / "x.nir", graph)
    with pytest.raises(FileFormatError):
        load_nir(tmp_path / "x.nir")


def test_notes_of_an_export_are_used(tmp_path: Path) -> None:
    graph = graph_of(nir.Linear(weights(F, F)))
    noted = {"dt": DT, "T": 3, "input_kind": "binary", "readout": [["TimeMean"], ["Vote", 2]]}
    graph.metadata = {"tcja_deploy": json.dumps(noted)}
    read = load_nir(graph)
    assert (read.T, read.input.signal.kind) == (3, Kind.BINARY)
    assert [type(n.op).__name__ for n in read] == ["Input", "Linear", "TimeMean", "Vote"]
    assert load_nir(graph, 7).T == 7


def test_parts_of_nodes_take_no_name_of_another() -> None:
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    graph = graph_of(pool, nir.Flatten(np.array([1, 2, 2])), shape=(1, 4, 4))
    graph.nodes["sumpool2d.mean"] = graph.nodes.pop("flatten")
    graph.edges = [tuple("sumpool2d.mean" if n == "flatten" else n for n in e) for e in graph.edges]
    x = np.ones((T, N, 1, 4, 4), np.float32)
    assert (run(load_nir(graph, T), x).numpy() == 4).all()
