"""Neurons of the user's own become ops that give the module's own results, and what is none is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_neurons import Analog, Cell, Charged, LateSubtract, LeakySum, PerChannel, Window
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError, UnsupportedError
from tcja_deploy.frontend.confirm import Identified
from tcja_deploy.frontend.identify import identify
from tcja_deploy.frontend.probe import Layout
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run

FEATURES, T = (3, 4, 4), 6
FEW = settings(max_examples=12)
decays = st.sampled_from([0.25, 0.3, 0.5, 0.9, 0.99, 0.123456])
thresholds = st.sampled_from([0.3, 0.5, 1.0, 1.7])


def check(module: nn.Module, layout: Layout, *, exact: bool = True) -> Identified:
    """The module and what it was found to be, on frames that were not used to find it."""
    found = identify(module, FEATURES, layout, T)
    assert found is not None
    assert found.exact or not exact
    x = torch.randn(T, 5, *FEATURES, generator=torch.Generator().manual_seed(11)) * 1.3
    y = x.numpy()
    for op in found.ops:
        y = op.apply(y)
    with torch.no_grad():
        if layout == "frame":
            expected = torch.stack([module(frame) for frame in x])
        else:
            expected = module(x) if layout == "time first" else module(x.transpose(0, 1)).transpose(0, 1)
    assert float((expected != 0).float().mean()) > 0
    if exact:
        assert np.array_equal(y, expected.numpy())
    else:
        assert np.mean(y != expected.numpy()) < 1e-3
    return found


@FEW
@given(decays, st.sampled_from([0.0, 0.1, -0.05]), thresholds)
def test_cells_that_are_reset_to_their_threshold(alpha: float, beta: float, threshold: float) -> None:
    found = check(Cell(alpha, beta, threshold), "frame", exact=beta == 0)
    (op,) = found.ops
    assert isinstance(op, ir.AffineNeuron)
    assert op.leak == np.float32(alpha)
    assert op.v_threshold == pytest.approx(threshold)
    assert op.v_reset == pytest.approx(threshold)
    assert not op.strict


@FEW
@given(decays, thresholds, st.booleans(), st.booleans())
def test_loops_over_a_window(decay: float, threshold: float, soft: bool, batch_first: bool) -> None:
    module = Window(decay, threshold, soft, batch_first)
    found = check(module, "batch first" if batch_first else "time first")
    (op,) = found.ops
    assert isinstance(op, ir.AffineNeuron)
    assert op.strict
    assert (op.v_reset is None) == soft


@FEW
@given(decays, thresholds)
def test_membranes_that_go_on_themselves(decay: float, threshold: float) -> None:
    found = check(Analog(decay, threshold), "time first")
    assert [type(op) for op in found.ops] == [ir.AffineIntegrator, ir.ReLU]


@FEW
@given(st.floats(-2, 2), st.sampled_from([0.0, None, -0.2]))
def test_subclasses_that_define_their_charge(w: float, v_reset: float | None) -> None:
    """Fire and reset as SpikingJelly 0.0.0.0.14, which ran such classes; its 2.0 has no code that does."""
    found = identify(Charged(w, v_reset=v_reset), FEATURES, "frame", T)
    assert found is not None
    (op,) = found.ops
    assert isinstance(op, ir.PLIF | ir.LIF | ir.AffineNeuron)
    q = float(torch.sigmoid(torch.tensor(w)))
    leak = (
        1 - op.decay
        if isinstance(op, ir.PLIF)
        else 1 - 1 / op.tau
        if isinstance(op, ir.LIF)
        else float(op.leak[0])
    )
    assert leak == pytest.approx(1 - q, abs=1e-6)


@FEW
@given(decays, thresholds)
def test_late_subtraction_is_within_rounding(decay: float, threshold: float) -> None:
    (op,) = check(LateSubtract(decay, threshold), "frame", exact=False).ops
    assert isinstance(op, ir.AffineNeuron)
    assert op.v_reset is None
    assert op.lowered_by == pytest.approx(threshold / decay)


def test_a_leak_for_each_channel() -> None:
    (op,) = check(PerChannel([0.9, 0.5, 0.7]), "frame").ops
    assert isinstance(op, ir.AffineNeuron)
    assert np.array_equal(op.leak.ravel(), np.float32([0.9, 0.5, 0.7]))


@FEW
@given(decays, st.sampled_from([1.0, 0.5, 0.1]))
def test_leaky_sums(decay: float, gain: float) -> None:
    (op,) = check(LeakySum(decay, gain), "frame").ops
    assert isinstance(op, ir.AffineIntegrator)


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > x.mean(1, keepdim=True)).float()


class Ahead(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.cumsum(0).flip(0) > 1).float()


class Quadratic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for frame in x:
            v = 0.5 * v + 0.2 * v * v.clamp(-1, 1) + frame
            spike = (v > 1).float()
            v = v * (1 - spike)
            out.append(spike)
        return torch.stack(out)


@pytest.mark.parametrize(
    ("module", "layout"),
    [
        (Mixing(), "time first"), (Ahead(), "time first"), (nn.Tanh(), "frame"),
        (LeakySum(0.5, 1.0), "time first"),  # takes steps, not windows
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value,
)  # fmt: skip
def test_what_is_no_such_neuron(module: nn.Module, layout: Layout) -> None:
    assert identify(module, FEATURES, layout, T) is None


def test_what_no_op_is_is_written_out() -> None:
    (op,) = check(Quadratic(), "time first").ops
    assert isinstance(op, ir.Recurrence)


# -- in networks -------------------------------------------------------------------------------------------------------
def loaded(module: nn.Module, x: Tensor) -> tuple[Graph, Tensor]:
    graph = td.load(module, timesteps=len(x), input_shape=tuple(x.shape[2:]))
    assert graph.source["proof"].startswith("equal")
    return graph, run(graph, x)


def test_a_window_of_own_neurons_in_a_network() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(8, 6), Window(0.3, 0.5, False, False), nn.Linear(6, 4), Window(0.5, 0.2, True, False)
    ).eval()
    x = torch.randn(T, 3, 8)
    graph, y = loaded(net, x)
    with torch.no_grad():
        assert torch.equal(y, net(x))
    assert [type(n.op) for n in graph.neurons] == [ir.AffineNeuron] * 2
    assert [n.name for n in graph.neurons] == ["1", "3"]


def test_targets_take_it_or_name_the_constant(tmp_path: Path) -> None:
    folder = tmp_path
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(8, 6), Window(0.3, 0.5, False, False), nn.Linear(6, 4), Window(0.5, 0.2, False, False)
    ).eval()
    graph = td.load(net, timesteps=T, input_shape=(8,))
    for target, name in (("onnx", "m.onnx"), ("onnx-step", "s.onnx"), ("nir", "n.nir")):
        report = td.export(graph, target, folder / name)
        assert report.agreement is not None
        assert report.agreement.passed
    other = nn.Sequential(nn.Linear(8, 6), Reset(0.3, 0.4, 0.5)).eval()
    graph = td.load(other, timesteps=T, input_shape=(8,))
    assert td.export(graph, "onnx", folder / "o.onnx").agreement.mismatches == 0  # type: ignore[union-attr]
    with pytest.raises(UnsupportedError, match=r"is reset to 0\.4"):
        td.export(graph, "nir", folder / "p.nir")


class Reset(nn.Module):
    """Hard reset to a value that is not where it leaks to."""

    def __init__(self, decay: float, reset: float, threshold: float) -> None:
        super().__init__()
        self.decay, self.level, self.threshold = decay, reset, threshold

    def forward(self, x: Tensor) -> Tensor:
        mem, out = torch.zeros_like(x[0]), []
        for frame in x:
            mem = mem * self.decay + frame
            spike = (mem > self.threshold).float()
            mem = mem * (1 - spike) + self.level * spike
            out.append(spike)
        return torch.stack(out)


@pytest.mark.parametrize(
    ("make", "mode"),
    [
        (neuron.HalfThresholdIFNode, "m"), (neuron.DSRIFNode, "m"), (neuron.DSRLIFNode, "m"), (neuron.OTTTLIFNode, "s"),
        (neuron.SLTTLIFNode, "s"),
    ],
)  # fmt: skip
def test_neurons_of_spikingjelly_without_a_rule(make: type[nn.Module], mode: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), make(step_mode=mode), nn.Linear(6, 4)).eval()
    graph = td.load(net, timesteps=T, input_shape=(8,))
    assert "1 of 1 layers of neurons spiked" in graph.source["proof"]


class Product(nn.Module):
    """The product of a frame with another place of the one before: a memory, but no neuron's."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | float = 1.0

    def reset(self) -> None:
        self.last = 1.0

    def forward(self, x: Tensor) -> Tensor:
        y = x * (self.last.flip(-1) if isinstance(self.last, Tensor) else self.last)
        self.last = x
        return y


def test_a_state_that_is_no_neuron_is_named() -> None:
    net = nn.Sequential(
        nn.Linear(8, 5), Window(0.5, 0.2, False, False), layer.MultiStepContainer(Product())
    ).eval()
    with pytest.raises(TraceError, match="'last'"):
        td.load(net, timesteps=T, input_shape=(8,))
