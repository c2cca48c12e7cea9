"""Current-based neurons that are read by their arithmetic become `nir.CubaLIF`; of others it is said what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run

FRAMES = np.random.default_rng(0).poisson(0.5, (8, 3, 2, 5, 5)).astype(np.float32)


def network(spiking: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(2, 3, 3, padding=1), spiking, layer.Flatten(), layer.Linear(75, 4))
    functional.set_step_mode(net, "m")
    return net.eval()


class Own(nn.Module):
    """A current that the membrane reads with a gain, written as authors do."""

    def __init__(self, keep: float, gain: float, leak: float, rest: float, threshold: float = 1.0) -> None:
        super().__init__()
        self.keep, self.gain, self.leak, self.rest, self.threshold = keep, gain, leak, rest, threshold

    def forward(self, x: Tensor) -> Tensor:
        current, v, spikes = torch.zeros_like(x[0]), torch.full_like(x[0], self.rest), []
        for frame in x:
            current = current * self.keep + frame * self.gain
            v = v - (v - self.rest) * self.leak + current
            spikes.append((v >= self.threshold).float())
            v = torch.where(spikes[-1] > 0, torch.full_like(v, self.rest), v)
        return torch.stack(spikes)


@pytest.mark.parametrize(
    ("make", "syn", "mem"),
    [
        (neuron.CUBALIFNode, 2.0, 4.0),
        (lambda: neuron.CUBALIFNode(v_reset=0.0, v_threshold=0.3, c_decay=0.75, v_decay=0.5), 4.0, 2.0),
        (lambda: Own(0.5, 2.0, 0.25, 0.0, 1.5), 2.0, 4.0),
        (lambda: Own(0.75, 0.5, 0.5, -0.25, 0.5), 4.0, 2.0),
    ],
)
def test_current_based_neurons(tmp_path: Path, make: Callable[[], nn.Module], syn: float, mem: float) -> None:
    net = network(make())
    graph = td.load(net, timesteps=8, input_shape=(2, 5, 5))
    assert isinstance(graph["1"].op, ir.Recurrence)
    report = td.export(graph, "nir", tmp_path / "x.nir", data=[FRAMES])
    assert report.agreement is not None
    assert [layer.mismatches for layer in report.agreement.layers] == [0]
    assert report.agreement.layers[0].spikes > 50
    (written,) = (n for n in nir.read(report.path).nodes.values() if isinstance(n, nir.CubaLIF))
    dt = 1e-4
    assert np.allclose(written.tau_syn / dt, syn)
    assert np.allclose(written.tau_mem / dt, mem)
    with torch.no_grad():
        expected = net(torch.from_numpy(FRAMES)).numpy()
    again = td.load(report.path, timesteps=8)
    assert np.allclose(run(again, FRAMES), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (neuron.KLIFNode, "limits its membrane"),
        (neuron.QIFNode, "by each other"),
        (neuron.EIFNode, "exponential of its membrane"),
        (neuron.IzhikevichNode, "by each other"),
        (neuron.ILIFNode, "limits its membrane"),
        (neuron.TernaryIFNode, "more than its membrane with one threshold"),
        (lambda: neuron.CUBALIFNode(v_reset=None), r"soft reset"),
        (lambda: Own(1.0, 1.0, 0.5, 0.0), "does not leak"),
        (lambda: Own(0.5, -1.0, 0.5, 0.0), "not positive"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, make: Callable[[], nn.Module], reason: str) -> None:
    graph = td.load(network(make()), timesteps=8, input_shape=(2, 5, 5))
    for target, kind in (("nir", "NIR's neurons have"), ("lava", "Lava's neuron has")):
        if "soft" not in reason:
            with pytest.raises(UnsupportedError, match=reason) as caught:
                td.export(graph, target, tmp_path / "x", data=[FRAMES])
            assert kind in str(caught.value)
        elif target == "nir":
            with pytest.raises(UnsupportedError, match=reason):
                td.export(graph, target, tmp_path / "x", data=[FRAMES])
