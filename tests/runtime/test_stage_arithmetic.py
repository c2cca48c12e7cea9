"""One step of neurons and relays against SpikingJelly and closed forms, on numbers that float32 holds exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron

from tcja_deploy.runtime.integers.stage_arithmetic import (
    NeuronParameters,
    RelayParameters,
    decayed,
    neuron_step,
    relay_step,
    stuffed,
)

ONE = 256
"""Threshold units of a membrane of one."""


@pytest.mark.parametrize("v_reset", [None, 0.0, -0.25, 0.5])
def test_the_integrator_is_spikingjellys(v_reset):
    """Integrate and fire on multiples of 1/256: soft reset, hard reset to zero and to other values, at and above 1."""
    rng = np.random.default_rng(3)
    x = rng.integers(-200, 400, (12, 300))
    node = neuron.IFNode(v_threshold=1.0, v_reset=v_reset, step_mode="m")
    node.v = torch.zeros(300)  # states start at zero, whatever the reset
    want = node(torch.as_tensor(x / ONE, dtype=torch.float32)).numpy()
    soft = v_reset is None
    p = NeuronParameters(
        np.zeros(300, np.int64), np.asarray(ONE - 1), v_decay=0,  # integers fire above 255: at 256 = one
        drop=64 * ONE if soft else 0, reset_value=0 if soft else int(v_reset * ONE),
    )  # fmt: skip
    u = v = np.zeros(300, np.int64)
    for frame, spikes in zip(x, want, strict=True):
        got, u, v, wraps = neuron_step(p, frame, u, v)
        assert wraps == 0
        assert (got == spikes).all()
    assert (v == node.v.numpy() * 64 * ONE).all()
    assert want.any(1).all()


@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 4096))
def test_a_decay_truncates_towards_zero(s, d):
    assert int(decayed(np.array([s]), d)[0]) == int(np.sign(s)) * ((abs(s) * (4096 - d)) // 4096)


@given(
    st.integers(-(1 << 31), 1 << 31), st.integers(-(1 << 20), 1 << 20), st.integers(-(1 << 23), 1 << 23),
    st.integers(0, 31), st.integers(1, (1 << 23) - 1),
)  # fmt: skip
def test_a_relay_rounds_half_up_and_cuts_off(total, bias, multiplier, shift, most):
    p = RelayParameters(np.array([bias]), multiplier, shift, None, most)
    got, cut = relay_step(p, np.array([total]), np.array([0]))
    rounded = (2 * (total + bias) * multiplier + (1 << shift)) // (2 << shift)  # floor(x + 1/2)
    assert int(got[0]) == max(-most, min(most, rounded))
    assert cut == (abs(rounded) > most)


def test_a_leaky_relay_is_the_sum_of_its_past():
    p = RelayParameters(np.array([0]), decay=2048)
    v = np.array([0])
    for x in (1 << 12, 0, 0, 1 << 12):
        v, _ = relay_step(p, np.array([x]), v)
    assert int(v[0]) == (1 << 12) + (1 << 9)


def test_currents_wrap_once_and_voltages_saturate():
    p = NeuronParameters(np.array([0]), np.asarray((1 << 17) - 1), v_decay=0)
    _, u, v, wraps = neuron_step(p, np.array([(1 << 17) + 5]), np.array([0]), np.array([0]))
    assert (int(u[0]), int(v[0]), wraps) == (64 * (5 - (1 << 17)), 64 * (5 - (1 << 17)), 1)
    _, _, v, _ = neuron_step(p, np.array([-(1 << 16)]), np.array([0]), v)
    assert int(v[0]) == 1 - (1 << 23)


def test_a_grid_holds_the_values_and_zeros_between():
    x = np.arange(1, 13).reshape(1, 3, 4)
    grid = stuffed(x, (2, 3), (6, 10), (1, 2))
    assert grid.shape == (1, 6, 10)
    assert (grid[:, ::2, ::3] == x).all()
    assert grid.sum() == x.sum()
