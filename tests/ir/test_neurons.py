"""Neurons against SpikingJelly, bit for bit: reference rule and torch runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron

from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import evaluate

T = 50


def drive(seed: int, scale: float) -> torch.Tensor:
    """Input with silent stretches, strong pulses, and values that land on the threshold exactly."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.3, 1, (T, 3, 40)) * rng.integers(0, 2, (T, 3, 40)) * scale
    x[:, 0] = np.round(x[:, 0] * 4) / 4
    return torch.from_numpy(x.astype(np.float32))


def check(op: ir.Neuron, node: Any, scale: float = 1.0) -> None:
    node.step_mode, node.store_v_seq = "m", True
    x = drive(7, scale)
    with torch.no_grad():
        expected = node.eval()(x)
    assert 0.01 < expected.mean() < 0.9, "a neuron that never or always fires shows nothing"
    assert torch.equal(evaluate(op, x), expected)
    assert np.array_equal(op.apply(x.numpy()), expected.numpy())
    v = np.full_like(x[0].numpy(), op.v_rest)
    for t in range(T):  # membranes as well, not only what they lead to
        _, (v,) = op.step((x[t].numpy(),), (v,))
        assert np.array_equal(v, node.v_seq[t].numpy())


RESETS = [0.0, None, -0.3, 0.25]
THRESHOLDS = [1.0, 0.7]


@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("v_threshold", THRESHOLDS)
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("tau", [2.0, 3.0, 1.7, 20.0])
def test_lif(tau: float, decay_input: bool, v_threshold: float, v_reset: float | None) -> None:
    node = neuron.LIFNode(tau=tau, decay_input=decay_input, v_threshold=v_threshold, v_reset=v_reset)
    op = ir.LIF(v_threshold, v_reset, tau=tau, decay_input=decay_input)
    check(op, node, scale=tau if decay_input else 1.0)


@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("v_threshold", THRESHOLDS)
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("init_tau", [2.0, 3.0, 1.3])
def test_plif(init_tau: float, decay_input: bool, v_threshold: float, v_reset: float | None) -> None:
    node = neuron.ParametricLIFNode(
        init_tau=init_tau, decay_input=decay_input, v_threshold=v_threshold, v_reset=v_reset
    )
    decay = float(node.w.detach().sigmoid())
    op = ir.PLIF(v_threshold, v_reset, decay=decay, decay_input=decay_input)
    check(op, node, scale=init_tau if decay_input else 1.0)


@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("v_threshold", THRESHOLDS)
def test_if(v_threshold: float, v_reset: float | None) -> None:
    check(ir.IF(v_threshold, v_reset), neuron.IFNode(v_threshold=v_threshold, v_reset=v_reset), scale=0.5)


@pytest.mark.parametrize(("strict", "spikes"), [(False, [0, 1, 0, 1]), (True, [0, 0, 1, 0])])
def test_at_the_threshold(strict: bool, spikes: list[int]) -> None:
    """Membrane 0.5, 1, ... with threshold 1: Theta(0) = 1 unless strict."""
    x = np.full((4, 1, 1), 0.5, np.float32)
    assert ir.IF(strict=strict).apply(x).ravel().tolist() == spikes
    assert evaluate(ir.IF(strict=strict), torch.from_numpy(x)).ravel().tolist() == spikes


def test_soft_reset_keeps_what_is_above_the_threshold() -> None:
    op = ir.IF(v_reset=None)
    (s,), (v,) = op.step((np.array([[2.75]], np.float32),), (np.zeros((1, 1), np.float32),))
    assert (s.item(), v.item()) == (1.0, 1.75)


@pytest.mark.parametrize(
    ("op", "fault"),
    [
        (ir.IF(v_threshold=0.0), "the threshold 0.0 is not above the resting membrane 0.0"),
        (ir.IF(v_threshold=float("nan")), "the threshold nan is not above the resting membrane 0.0"),
        (ir.IF(v_reset=1.5), "the threshold 1.0 is not above the resting membrane 1.5"),
        (
            ir.IF(v_threshold=-1.0, v_reset=None),
            "the threshold -1.0 is not above the resting membrane 0.0",
        ),
        (ir.LIF(tau=0.5), "tau = 0.5 is below 1"),
        (ir.LIF(tau=float("nan")), "tau = nan is below 1"),
        (ir.PLIF(decay=0.0), "the decay 0.0 is outside (0, 1]"),
        (ir.PLIF(decay=1.5), "the decay 1.5 is outside (0, 1]"),
    ],
)
def test_faults(op: ir.Neuron, fault: str) -> None:
    assert op.faults() == [fault]
