"""Neurons of SpikingJelly and a user's own: what the module computes, bit for bit, in all targets that take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from live_neurons import NEURONS, OwnNode, T, network, randomised
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.energy.measure import measure
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir_file import load_graph, save_graph
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream.check import compare_stream

ROUNDED = ("PSN", "MaskedPSN", "MaskedPSN in training", "SlidingPSN")
"""Sums over frames that SpikingJelly leaves to a matrix product."""


def window(seed: int, samples: int = 5) -> Tensor:
    x = torch.randn(T, samples, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
    return x * torch.tensor([0.3, 1.0, 1.0, 3.0, 8.0]).view(-1, 1, 1, 1)


def read(module: nn.Module) -> Graph:
    return td.load(module, timesteps=T, input_shape=(4, 3, 3))


def own(module: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(module)
    if hasattr(module, "reset"):
        module.reset()
    with torch.no_grad():
        return module(x)


@pytest.mark.parametrize("name", NEURONS)
def test_the_module_itself(name: str) -> None:
    module = randomised(NEURONS[name]("m"))
    graph = read(module)
    for seed in (1, 2):
        x = window(seed)
        expected = own(module, x)
        assert 0 < float((expected != 0).float().mean()) < 1
        assert torch.equal(run(graph, x), expected) or name in ROUNDED
        assert float((run(graph, x) != expected).float().mean()) < 1e-3
    assert any(n.op.spiking for n in graph)


@pytest.mark.parametrize("name", NEURONS)
def test_in_a_network(name: str, tmp_path: Path) -> None:
    """Loaded and proven; onnxruntime and the stream give the sequence's spikes; rates count them, energy covers all."""
    graph = td.load(network(NEURONS[name]), timesteps=T, input_shape=(2, 6, 6), input_kind="count")
    assert graph.source["proof"].startswith("equal")
    assert len(graph.neurons) == 2
    frames = np.random.default_rng(4).poisson(1.0, (T, 3, 2, 6, 6)).astype(np.float32)
    for target in ("onnx", "onnx-step"):
        report = td.export(graph, target, tmp_path / f"{target}.onnx", data=[frames])
        assert report.agreement is not None
        assert report.agreement.mismatches == 0
        assert all(layer.spikes > 0 for layer in report.agreement.layers)
    assert compare_stream(graph, [frames]).mismatches == 0
    found = measure(graph, [(frames[:, n], None) for n in range(3)])
    assert not found.inventory.unsupported
    spikes: dict[str, int] = {}
    run(graph, frames, observe=lambda node, y: spikes.update({node.name: int((y != 0).sum())}))
    for node in graph.neurons:
        assert int(found.activity[node.name].counts().sum()) == spikes[node.name]


@pytest.mark.parametrize("name", ["KLIF", "CLIF", "ILIF", "TernaryLIF", "GatedLIF", "PSN", "EIF"])
@pytest.mark.parametrize("target", ["nir", "lava"])
def test_refused_by_targets_that_have_no_such_neuron(name: str, target: str, tmp_path: Path) -> None:
    graph = td.load(network(NEURONS[name]), timesteps=T, input_shape=(2, 6, 6), input_kind="count")
    with pytest.raises(
        UnsupportedError,
        match=r"computes differently from|NIR computes frame by frame|counterpart|(neuron has|neurons have) one leak",
    ):
        td.export(graph, target, tmp_path / "x", data=[np.ones((T, 1, 2, 6, 6), np.float32)])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ILIF", Kind.COUNT),
        ("TernaryLIF", Kind.GRADED),
        ("KLIF", Kind.BINARY),
        ("plain, ternary", Kind.GRADED),
    ],
)
def test_kinds(name: str, kind: Kind) -> None:
    (node,) = read(NEURONS[name]("m").eval()).neurons
    assert node.signal.kind is kind


def equal_graphs(*modules: nn.Module) -> bool:
    return len({tuple(repr(n.op) for n in read(m.eval())) for m in modules}) == 1


@pytest.mark.parametrize(
    "make", [neuron.KLIFNode, neuron.EIFNode, neuron.TernaryLIFNode, OwnNode], ids=lambda c: c.__name__
)
def test_what_only_training_sees_changes_nothing(make: Any) -> None:
    """Surrogates, detach_reset and stored membranes."""
    options: dict[str, Any] = {"channels": 4} if make is OwnNode else {}
    made = [
        make(step_mode="m", surrogate_function=function, detach_reset=detach, store_v_seq=store, **options)
        for function, detach, store in (
            (surrogate.ATan(), False, False), (surrogate.Sigmoid(alpha=2.0), True, False), (surrogate.ATan(), False, True),
        )
    ]  # fmt: skip
    assert equal_graphs(*made)


def test_what_is_no_step_over_and_over_is_refused() -> None:
    class Moody(nn.Module):
        """Leaks in every second step only."""

        def forward(self, x: Tensor) -> Tensor:
            v, out = torch.zeros_like(x[0]), []
            for t, frame in enumerate(x):
                v = (v * 0.5 if t % 2 else v) + frame
                s = (v > 1).float()
                v = v * (1 - s)
                out.append(s)
            return torch.stack(out)

    with pytest.raises(td.DeployError):
        read(Moody())


def test_recurrences_are_saved_and_loaded(tmp_path: Path) -> None:
    graph = read(randomised(NEURONS["GatedLIF"]("m")))
    save_graph(graph, tmp_path / "h.tcja")
    again = load_graph(tmp_path / "h.tcja")
    assert again.hash == graph.hash
    assert any(isinstance(n.op, ir.Recurrence) and n.op.per_step for n in again)
