"""The scale of a population: how many integer steps lie between rest and threshold.

One rule for a layer and for a population in which several synapses meet. With the unit G that stands for a payload of one,
the scale S of the weights, and v in thresholds:

    V = 64 S G v,   fire at v >= 1, that is V > 64 threshold:   threshold = floor(S G - 1/64),  S = (threshold + 1/64) / G

S is as large as the budget allows: the bits of the weights, currents without wrapping (|sum W x| < 2**17, by the peak seen
in calibration times a margin; biases do not pass through currents), threshold < 2**17 and |bias| < 2**15. What several
synapses share is the unit A = S G of their sum: there G is one, and the narrowest synapse is the one whose bits count.

A strict neuron fires above its threshold only: threshold = S G, whichever rule is chosen for the others. With the rule "ties"
these fire exactly where v >= 1 for sums that are integers: threshold = S G - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.float_graph import FloatArray
from tcja_deploy.exporters.lava.float_neuron import FloatNeuron
from tcja_deploy.exporters.lava.options import LavaOptions

__all__ = [
    "BIAS_MAX",
    "CURRENT_MAX",
    "MOST_SHRINK",
    "SHRINK",
    "Budget",
    "largest_scale",
    "population_scale",
    "threshold_at",
]

CURRENT_MAX = (1 << 17) - 1
THRESHOLD_MAX = (1 << 17) - 1
BIAS_MAX = (1 << 15) - 1
CHIP_BIAS_MAX = (1 << 12) - 1
SHRINK, MOST_SHRINK = 0.85, 0.1
"""Factor of the room for currents while some wrap on the calibration data, and the smallest one."""


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """What bounds the scale of a population; each array is `[1]`, or `[O]` with a threshold per channel.

    Attributes:
        finest: Largest scale that the bits of the weights allow.
        plain: The same for weights without a second synapse; None if no weight has one.
        peaks: Largest magnitudes of the sums without biases, in thresholds, with their margin.
        bias: Largest magnitudes of the biases, in thresholds.
    """

    finest: FloatArray
    plain: FloatArray | None
    peaks: FloatArray
    bias: FloatArray


def largest_scale(budget: Budget, unit: float) -> FloatArray:
    """The largest scale within the budget, `[1]` or `[O]`; no threshold need go with it."""
    with np.errstate(divide="ignore"):
        limits = [
            budget.finest,
            CURRENT_MAX / (budget.peaks * unit),
            np.full_like(budget.finest, THRESHOLD_MAX / unit),
        ]
        chip, lava = (end / (budget.bias * unit) for end in (CHIP_BIAS_MAX, BIAS_MAX))
    scale: FloatArray = np.minimum.reduce(np.broadcast_arrays(*limits, lava))
    if budget.plain is not None and (np.minimum(scale, chip) >= budget.plain).any():
        scale = np.minimum(scale, chip)  # finer weights do not justify biases that no chip has
    return scale


def population_scale(
    budget: Budget, unit: float, neuron: FloatNeuron, options: LavaOptions, where: str
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Scale S and threshold, both `[1]` or `[O]`.

    Args:
        budget: What bounds the scale.
        unit: The integer G that stands for a payload of one.
        neuron: The neuron's rule.
        options: How to quantise.
        where: Name of the population, for errors.

    Raises:
        UnsupportedError: If the threshold would be less than one.
    """
    scale = largest_scale(budget, unit)
    if neuron.strict:
        threshold = np.floor(scale * unit)
        scale = threshold / unit
    elif options.threshold_rule == "ties":
        threshold = np.floor(scale * unit) - 1
        scale = (threshold + 1) / unit
    else:
        threshold = np.floor(scale * unit - 1 / 64)
        scale = (threshold + 1 / 64) / unit
    if threshold.min() < 1:
        raise UnsupportedError(
            f"no scale fits: one threshold is {scale.min() * unit:.3g} steps of the largest weight, and the neuron needs two",
            where=where,
            hint="fewer gate bits, a smaller margin, or per-channel thresholds",
        )
    return scale, threshold.astype(np.int64)


def threshold_at(unit: float, *, strict: bool) -> int:
    """The threshold for sums that come in a unit of their own, as a stream's do where no weight can be fitted to it.

    A sum of integers that is exactly at the threshold fires unless the neuron is strict.
    """
    return math.floor(unit) if strict else math.ceil(unit) - 1
