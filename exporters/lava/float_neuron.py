"""The rule of a neuron in normalised units, as Lava's neuron has it.

With w = v - v_rest, `LIF` and `PLIF` compute w <- (1 - q) w + gain x, `IF` computes w <- w + x; they fire at w >=
v_threshold - v_rest. Divided by that distance: v <- keep * v + sum(weight * x) + bias; fire at v >= 1; then v <- 0, or v
<- v - 1 with soft reset. Strict neurons fire only above the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcja_deploy.ir import ops as ir

__all__ = ["FloatNeuron", "normalise"]


@dataclass(frozen=True, slots=True)
class FloatNeuron:
    """A neuron's rule in normalised units.

    Attributes:
        gain: Factor of its input.
        v_decay: The leak as Lava takes it, in units of 1/4096.
        leak: The exact leak.
        strict: Whether it fires only above the threshold, not at it.
        drop: What a spike subtracts from the membrane, in thresholds; 0 if the membrane is reset to zero.
    """

    gain: float
    v_decay: int
    leak: float
    strict: bool
    drop: float = 0.0

    @property
    def leak_error(self) -> float:
        """Relative error of the leak; 0 where 4096 times the leak is an integer."""
        return abs(self.v_decay / 4096 / self.leak - 1) if self.leak else 0.0


def normalise(op: ir.Neuron) -> FloatNeuron:
    """A neuron's rule in normalised units."""
    factor = 1.0
    if isinstance(op, ir.AffineNeuron):
        op, factor = op.plain()
    distance = op.v_threshold - op.v_rest
    leak, gain = 0.0, factor
    if isinstance(op, ir.LIF):
        leak = 1 / op.tau
    elif isinstance(op, ir.PLIF):
        leak = op.decay
    if isinstance(op, ir.LIF | ir.PLIF) and op.decay_input:
        gain = leak
    drop = 1.0 if op.v_reset is None else 0.0
    return FloatNeuron(gain / distance, int(np.floor(4096 * leak + 0.5)), leak, op.strict, drop)
