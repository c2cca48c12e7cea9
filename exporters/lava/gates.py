"""Quantisation of TCJA gates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import GraphError, UnsupportedError
from tcja_deploy.exporters.lava.float_graph import FloatGate
from tcja_deploy.runtime.integers.layers import GateStage
from tcja_deploy.runtime.integers.stage_runners import integer_gate

__all__ = ["gate_error", "quantise_gate"]

INDEX_BITS = 8
"""Fraction bits of the table's argument: half a step moves a sigmoid by less than 2**-11."""
FRACTION = 14
"""Largest number of fraction bits of the weights."""


def quantise_gate(stage: FloatGate, frames: int, bits: int) -> GateStage:
    """Quantise a gate: integer weights with as many fraction bits as 64-bit sums allow, and a table of the sigmoid.

    Args:
        stage: The gate.
        frames: Number of frames in a window, T.
        bits: A gate of one becomes the integer 2**bits.

    Raises:
        UnsupportedError: If no number of fraction bits fits.
    """
    one = 1 << bits
    reach = max(8, math.ceil(math.log(2 * one)))  # beyond it the sigmoid rounds to 0 or `one`
    argument = np.arange(-reach << INDEX_BITS, reach << INDEX_BITS) / (1 << INDEX_BITS)
    table = np.floor(one / (1 + np.exp(-argument)) + 0.5).astype(np.int64)
    for fraction in range(FRACTION, INDEX_BITS, -1):
        tla, cla = (
            None
            if weight is None
            else np.floor(weight.astype(np.float64) * (1 << fraction) + 0.5).astype(np.int64)
            for weight in (stage.op.tla, stage.op.cla)
        )
        try:
            return GateStage(
                stage.name,
                stage.in_shape,
                frames,
                tla,
                cla,
                stage.op.fusion,
                fraction,
                INDEX_BITS,
                table,
                one,
                stage.pool,
            )
        except GraphError as error:
            reason = error
    raise UnsupportedError(reason.reason, where=stage.name)


def gate_error(stage: FloatGate, gate: GateStage, spikes: NDArray[np.integer]) -> float:
    """Largest difference between the integer and the float gate for the same spikes `[T, N, C, H, W]`."""
    _, height, width = gate.in_shape
    counts = spikes.sum((3, 4), dtype=np.int64)  # [T, N, C]
    exact = stage.op.gate((counts / (height * width)).astype(np.float32))
    values = integer_gate(gate, counts)
    return float(np.abs(values / gate.one - exact).max())
