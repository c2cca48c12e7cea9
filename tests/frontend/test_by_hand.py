"""Membranes that `forward` keeps by hand become the neurons that they are, with the module's own results."""

from __future__ import annotations

import itertools
from typing import Any

import by_hand_nets as nets
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run

T = 4


def check(net: Any, frame: tuple[int, ...], *, static: bool = False, rounding: bool = False) -> Graph:
    """The network's own results, on frames that were not used to translate it."""
    net = net.eval()
    graph = td.load(net, input_shape=frame, timesteps=T)
    x = torch.randn(*(() if static else (T,)), 3, *frame, generator=torch.Generator().manual_seed(2)) * 8
    with torch.no_grad():
        expected = net(x.clone())
    ours = run(graph, x.expand(T, *x.shape).contiguous() if static else x)
    assert float(expected.std()) > 0
    if rounding:
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    else:
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    return graph


def neurons(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in graph if n.op.membrane]


@pytest.mark.parametrize(
    ("net", "found"),
    [
        (nets.Stbp, ["AffineNeuron"] * 3),
        (nets.LearntLeak, ["AffineNeuron"]),
        (nets.Listed, ["AffineNeuron"] * 3),
        (nets.Current, ["Recurrence", "AffineIntegrator"]),
        (nets.Readout, ["LIF", "AffineIntegrator"]),
        (nets.Adaptive, ["Recurrence"]),
        (nets.Residual, ["Recurrence"]),
        (nets.Branches, ["AffineNeuron"] * 3),
        (nets.InPlace, ["AffineNeuron"]),
        (nets.Ternary, ["Recurrence"]),
        (nets.Skipping, ["Recurrence", "AffineNeuron"]),
        (nets.NormPerStep, ["Recurrence", "AffineNeuron"]),
    ],
)
def test_networks_with_membranes_by_hand(net: Any, found: list[str]) -> None:
    torch.manual_seed(0)
    assert neurons(check(net(), net.frame)) == found


@pytest.mark.parametrize("net", [nets.StaticImage, nets.StaticLayers])
def test_an_image_that_all_steps_see(net: Any) -> None:
    torch.manual_seed(0)
    assert set(neurons(check(net(), net.frame, static=True))) == {"AffineNeuron"}


def test_spikes_stay_binary_streams() -> None:
    torch.manual_seed(0)
    graph = check(nets.Stbp(), nets.Stbp.frame)
    kinds = {n.signal.kind.value for n in graph if isinstance(n.op, ir.AffineNeuron)}
    assert kinds == {"binary"}


def test_spikes_that_go_back_through_weights_are_refused() -> None:
    with pytest.raises(
        TraceError, match=r"back: feeds a state of the previous step to a layer: the network is recurrent"
    ):
        td.load(nets.Recurrent().eval(), input_shape=(8,), timesteps=T)


class _Kept(nn.Module):
    """The same in single-step code, with the spikes in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.h: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.h is None:
            self.h = torch.zeros(x.shape[0], 8)
        y = torch.relu(self.fc(x) + self.back(self.h))
        self.h = y
        return y


def test_a_state_in_an_attribute_that_goes_through_weights_is_refused() -> None:
    with pytest.raises(TraceError, match="back: feeds a state of the previous step to a layer"):
        td.load(_Kept().eval(), input_shape=(8,), timesteps=T)


# -- random networks -----------------------------------------------------------------------------------------------------
class Random(nn.Module):
    """Layers with membranes by hand, each written in one of the usual ways."""

    def __init__(self, layers: list[dict[str, Any]], readout: str) -> None:
        super().__init__()
        widths = [6, *(8 for _ in layers)]
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.out, self.layers, self.readout = nn.Linear(widths[-1], 4), layers, readout

    def forward(self, x: Tensor) -> Tensor:
        mem: list[Any] = [torch.zeros(x.shape[1], 8) if c["begun"] == "zeros" else 0.0 for c in self.layers]
        total, rec = torch.zeros(x.shape[1], 4), []
        for t in range(x.shape[0]):
            h = x[t]
            for i, (fc, c) in enumerate(zip(self.fcs, self.layers, strict=True)):
                mem[i], h = self.cell(fc(h), mem[i], c)
            y = self.out(h)
            total = total * 0.5 + y if self.readout == "leaky" else total + y
            rec.append(y)
        return torch.stack(rec, 1).mean(1) if self.readout == "stack" else total

    @staticmethod
    def cell(x: Tensor, m: Any, c: dict[str, Any]) -> tuple[Tensor, Tensor]:
        m = c["decay"] * m + x if c["form"] == "leak first" else m * c["decay"] + x
        spike = (m >= c["threshold"]).float() if c["at"] == ">=" else (m - c["threshold"] > 0).to(x.dtype)
        match c["reset"]:
            case "zero":
                m = m * (1 - spike)
            case "where":
                m = torch.where(spike.bool(), torch.full_like(m, 0.1), m)
            case "soft":
                m = m - spike * c["threshold"]
        return m, spike


CELLS = st.fixed_dictionaries(
    {
        "decay": st.sampled_from([0.25, 0.5, 0.9, 1.0]),
        "threshold": st.sampled_from([0.1, 0.25, 0.5]),
        "at": st.sampled_from([">=", ">"]),
        "reset": st.sampled_from(["zero", "where", "soft"]),
        "form": st.sampled_from(["leak first", "leak last"]),
        "begun": st.sampled_from(["zeros", "number"]),
    }
)


@settings(max_examples=12, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=3), st.sampled_from(["sum", "leaky", "stack"]))
def test_random_networks(layers: list[dict[str, Any]], readout: str) -> None:
    torch.manual_seed(0)
    graph = check(Random(layers, readout), (6,), rounding=True)
    assert sum(n.signal.kind.value == "binary" for n in graph) == len(layers)
