"""Neurons as NIR writes them, in the one form that its readers agree on.

NIR's LIF is `tau dv/dt = v_leak - v + r i`, fires at `v > v_threshold` and returns to `v_reset`. Readers take one forward
Euler step of `dt` per frame, but Norse 1.1 ignores `r` and `v_reset`, SpikingJelly 2.0 accepts only `r = 1` or `r = tau /
dt` and compares with `>=`, and snnTorch 1.0 requires `v_leak = 0`. So every neuron is written in terms of the membrane `u
= (v - v_rest) s`, with the scale `s` for which `r = 1`: it leaks to 0, is reset to 0, and fires at `s (v_threshold -
v_rest)`. With `s` a power of two nothing is rounded.

`v >= x` is written as `v > x'` with `x'` the float32 number before `x`: the same for every float32 membrane. A reader
that compares with `>=` differs only for a membrane of exactly `x'`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import nir
import numpy as np

from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported

__all__ = ["Written", "integrator", "logical_or", "power_of_two", "spiking", "spiking_with_current"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Written:
    """A neuron written as a NIR node.

    Attributes:
        node: The NIR node.
        note: What was done to it.
    """

    node: nir.NIRNode
    note: str


def power_of_two(factor: float) -> bool:
    """Whether multiplying by `factor` is exact (short of overflow and underflow)."""
    return abs(math.frexp(factor)[0]) == 0.5


def _threshold(op: ir.Neuron, scale: float) -> float:
    """The number that NIR's `>` compares with."""
    value = np.float32((op.v_threshold - op.v_rest) * scale)
    return float(value if op.strict else np.nextafter(value, np.float32(-np.inf)))


def _full(shape: Shape, value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.full(shape, value, np.float64)


def _decay(op: ir.LIF | ir.PLIF) -> float:
    return 1 / op.tau if isinstance(op, ir.LIF) else op.decay


def _leak(op: ir.LIF | ir.PLIF | ir.LI) -> dict[str, str]:
    """Metadata that tells readers that can do both whether the leak is a multiplication instead of a division."""
    return {} if isinstance(op, ir.LIF) else {"leak": "multiplication"}


def _note(op: ir.Neuron, scale: float) -> str:
    parts = []
    if op.v_rest:
        parts.append(f"membrane counted from {op.v_rest:g}")
    if scale != 1:
        parts.append(f"membrane scaled by {scale:g}" + ("" if power_of_two(scale) else ", which rounds"))
    if not op.strict:
        parts.append("v >= x written as v > the float32 number before x")
    return "; ".join(parts)


def _refuse_soft_reset(op: ir.Neuron) -> None:
    """Refuse soft reset, which NIR does not have.

    Raises:
        Unsupported: If the neuron has soft reset.
    """
    if op.v_reset is None:
        raise Unsupported(
            "a spike lowers this membrane by the threshold (soft reset), NIR's neurons can only return to v_reset"
        )


def spiking(op: ir.Neuron, shape: Shape, dt: float, scale: float = 1.0) -> Written:
    """A neuron whose input arrives multiplied by `scale`.

    Raises:
        Unsupported: If it has soft reset, or a constant that NIR's neurons do not have.
    """
    _refuse_soft_reset(op)
    zero = _full(shape, 0.0)
    if isinstance(op, ir.AffineNeuron):
        op, gain = op.plain()
        scale /= gain
    if isinstance(op, ir.IF):
        node = nir.IF(r=_full(shape, 1 / dt), v_threshold=_full(shape, _threshold(op, scale)), v_reset=zero)
        return Written(node, _note(op, scale))
    if not isinstance(op, ir.LIF | ir.PLIF):
        raise TypeError(type(op).__name__)
    if not op.decay_input:
        scale *= _decay(op)
    tau = op.tau * dt if isinstance(op, ir.LIF) else dt / op.decay
    node = nir.LIF(
        tau=_full(shape, tau),
        r=_full(shape, 1.0),
        v_leak=zero,
        v_threshold=_full(shape, _threshold(op, scale)),
        v_reset=zero,
        metadata=_leak(op),
    )
    return Written(node, _note(op, scale))


def spiking_with_current(
    current: ir.LI, op: ir.LIF | ir.PLIF, shape: Shape, dt: float, scale: float = 1.0
) -> Written:
    """A leaky integrator and the neuron after it as one current-based neuron, written so that no input is divided.

    `i += -a i + x` and `u += -b u + i` with `w_in = tau_syn / dt` and `r = tau_mem / dt`.

    Raises:
        Unsupported: If the neuron has soft reset.
    """
    _refuse_soft_reset(op)
    if current.decay_input:
        scale /= current.decay
    if op.decay_input:
        scale /= _decay(op)
    tau_syn, tau_mem = dt / current.decay, op.tau * dt if isinstance(op, ir.LIF) else dt / op.decay
    zero = _full(shape, 0.0)
    node = nir.CubaLIF(
        tau_syn=_full(shape, tau_syn),
        tau_mem=_full(shape, tau_mem),
        r=_full(shape, tau_mem / dt),
        v_leak=zero,
        v_threshold=_full(shape, _threshold(op, scale)),
        v_reset=zero,
        w_in=_full(shape, tau_syn / dt),
        metadata=_leak(op),
    )
    return Written(node, _note(op, scale))


def integrator(op: ir.LI | ir.AffineIntegrator, shape: Shape, dt: float) -> nir.NIRNode:
    """A leaky integrator, or one without leak.

    Raises:
        Unsupported: If it resets at a threshold, or its initial value is not the one to which it leaks.
    """
    if isinstance(op, ir.AffineIntegrator):
        if op.v_threshold is not None:
            raise Unsupported(
                "passes on its membrane and resets it at a threshold, NIR's neurons pass on spikes"
            )
        q, rest, gain = op.leaky()
        if rest != op.v_initial:
            raise Unsupported(f"begins at {op.v_initial:g} but leaks to {rest:g}")
        if q == 0:
            return nir.I(r=_full(shape, gain / dt))
        return nir.LI(
            tau=_full(shape, dt / q),
            r=_full(shape, gain / q),
            v_leak=_full(shape, rest),
            metadata={"leak": "multiplication"},
        )
    if op.decay == 0:
        return nir.I(r=_full(shape, 1 / dt))
    return nir.LI(
        tau=_full(shape, dt / op.decay),
        r=_full(shape, 1.0 if op.decay_input else 1 / op.decay),
        v_leak=_full(shape, op.v_leak),
        metadata=_leak(op),
    )


def logical_or(shape: Shape, dt: float) -> nir.IF:
    """Neurons that fire on a sum of one or more spikes and reset at once."""
    return nir.IF(r=_full(shape, 1 / dt), v_threshold=_full(shape, 0.5), v_reset=_full(shape, 0.0))
