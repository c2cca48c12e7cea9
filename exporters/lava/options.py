"""How to quantise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tcja_deploy.errors import UsageError

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to quantise.

    Attributes:
        gate_bits: A gate of one becomes the integer 2**gate_bits.
        threshold_rule: "unbiased", or "ties": a membrane exactly at the threshold fires, at the price of
            firing up to 63/64 of a weight step too early; for networks whose weights were integers.
        per_channel: A scale and threshold per channel: finer weights, but a chip has one threshold per
            population.
        margin: Head room of the current over the calibrated peak.
        percentile: Percentile of the frames' peaks that counts as the peak.
        compensate: Round weights so that their errors cancel on the calibration data, not each to the nearest: fewer
            spikes move, weights depend on the data.
        correct_bias: Let biases make up for the mean error of each channel on the calibration data.
        input_scale: The integer that stands for one, for inputs of real numbers.
        wide_input: Send the input twice, once times 128: the first layer's weights get 15 bits from pairs of
            8-bit synapses. Its rounding errors are those that every later layer amplifies.
    """

    gate_bits: int = 6
    threshold_rule: Literal["unbiased", "ties"] = "unbiased"
    per_channel: bool = False
    margin: float = 1.25
    percentile: float = 100.0
    compensate: bool = False
    correct_bias: bool = True
    input_scale: int = 255
    wide_input: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.gate_bits <= 14:
            raise UsageError(f"gate bits must lie in 1..14, got {self.gate_bits}")
        if self.threshold_rule not in ("unbiased", "ties"):
            raise UsageError(f"unknown threshold rule {self.threshold_rule!r}", hint="unbiased or ties")
        if self.margin < 1:
            raise UsageError(
                f"a margin of {self.margin:g} would plan for wrapping currents", hint="at least 1"
            )
        if not 0 < self.percentile <= 100:
            raise UsageError(f"a percentile lies in 0..100, got {self.percentile:g}")
        if self.input_scale < 1:
            raise UsageError(f"the input scale must be positive, got {self.input_scale}")
