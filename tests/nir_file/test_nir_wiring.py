"""Nodes and edges read from NIR, and what the caller has to say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nir_graphs import DT, F, T, frames, full, graph_of, lif_file, weights

from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.frontend.load import load
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.runtime.sequence import run

nir = pytest.importorskip("nir", reason="the package nir is not installed")


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
        "ghost: is named by an edge, but is not a node",
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
def test_dt_and_timesteps_are_asked_for(tmp_path: Path) -> None:
    path = lif_file(tmp_path)
    with pytest.raises(UsageError, match="how long a time step is"):
        load_nir(path, T)
    with pytest.raises(UsageError, match="number of time steps"):
        load_nir(path, dt=DT)
    with pytest.raises(UsageError, match="not a time step"):
        load_nir(path, T, dt=-1.0)
    with pytest.raises(UsageError, match="comparison"):
        load_nir(path, T, dt=DT, comparison="=")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a NIR graph"):
        load_nir(3, T)
    assert load_nir(graph_of(nir.Linear(weights(F, F))), T).T == T  # no neurons, no dt


def test_load_recognises_the_content(tmp_path: Path) -> None:
    path = lif_file(tmp_path).rename(tmp_path / "weights.pth")
    graph = load(path, timesteps=T, dt=DT)
    assert graph.source["format"] == "NIR"
    assert graph.source["dt"] == repr(DT)
    assert (graph.source["fires"], graph.source["reset"]) == ("> threshold", "hard")
    other = load_nir(path, T, dt=DT, comparison=">=", soft_reset=True)
    assert (other.source["fires"], other.source["reset"]) == (">= threshold", "soft")
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


@pytest.mark.parametrize("batched", ["input", "output", "both"])
def test_batch_axes_of_length_one(batched: str) -> None:
    """Shapes of input and output may begin with the batch; the network is that without."""
    plain = (2, 4, 4)
    kernel = weights(3, 2, 3, 3)

    def made(first: tuple[int, ...], last: tuple[int, ...]) -> Any:
        conv = nir.Conv2d((4, 4), kernel, 1, 0, 1, 1, np.zeros(3, np.float32))
        nodes = {"input": nir.Input(np.array(first)), "conv": conv, "output": nir.Output(np.array(last))}
        return nir.NIRGraph(nodes, [("input", "conv"), ("conv", "output")], type_check=False)

    inputs = (1, *plain) if batched in ("input", "both") else plain
    outputs = (1, 3, 2, 2) if batched in ("output", "both") else (3, 2, 2)
    graph = load_nir(made(inputs, outputs), T)
    assert graph.input_shape == plain
    assert graph.hash == load_nir(made(plain, (3, 2, 2)), T).hash
