"""Neurons read from NIR: its equations, one Euler step per frame, written out here a second time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nir_graphs import DT, Array, F, N, T, frames, full, graph_of, result

from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.runtime.sequence import run

nir = pytest.importorskip("nir", reason="the package nir is not installed")


class Euler:
    """`tau dv/dt = leak - v + r i`, one step of DT a frame."""

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
