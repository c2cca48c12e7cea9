"""Options of exports to Lava."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.target import Engined, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Labelled = Iterable[tuple[NDArray[Any], NDArray[np.int64] | None]]

__all__ = ["LavaOptions", "LavaVerification"]


@dataclass(frozen=True, slots=True)
class LavaOptions(Engined):
    """How to quantise, and which data to measure on.

    Attributes:
        gate_bits: A gate of one becomes the integer 2**gate_bits.
        weight_bits: Bits of a weight, the sign included; fewer than the eight of Lava's synapses save memory on a chip.
        threshold_rule: "unbiased", or "ties": a membrane exactly at the threshold fires, at the price of
            firing up to 63/64 of a weight step too early; for networks whose weights were integers.
        per_channel: A scale and threshold per channel: finer weights, but a chip has one threshold per
            population.
        margin: Headroom of currents above the calibrated peak, as a factor.
        percentile: Percentile of the frames' peaks that is taken as the peak, 0 to 100.
        compensate: Round weights so that their errors cancel on the calibration data, instead of each to the nearest
            integer: fewer spikes change, but the weights depend on the data.
        correct_bias: Let biases compensate the mean error of each channel on the calibration data.
        input_scale: The integer that stands for one in inputs of real numbers; if None, 255, or at most 64 where the
            calibration data hold nothing but multiples of a 64th or a coarser part (pictures of few grey levels).
        wide_input: Send the input twice, once times 128 (2**(weight_bits - 1)): the first layer's weights get 15 bits from
            pairs of 8-bit synapses. Every later layer amplifies the rounding errors of the first one.
        device: Where torch runs the float network, such as "cuda".
        test: Frames `[T, n, ...]` with labels `[n]` on which to compare the float and the integer network; the
            calibration data if not given.

    Raises:
        UsageError: If a value makes no sense.
    """

    gate_bits: int = field(default=6, metadata=option("A gate of one becomes 2**bits."))
    weight_bits: int = field(default=8, metadata=option("Bits of a weight, the sign included."))
    threshold_rule: Literal["unbiased", "ties"] = field(
        default="unbiased", metadata=option("unbiased or ties.")
    )
    per_channel: bool = field(
        default=False, metadata=option("A threshold per channel; beyond what chips have.")
    )
    margin: float = field(default=1.25, metadata=option("Headroom over the calibrated peak."))
    percentile: float = field(default=100.0, metadata=option("Percentile of the peaks that is used."))
    compensate: bool = field(
        default=False, metadata=option("Round weights so that their errors cancel on the calibration data.")
    )
    correct_bias: bool = True
    input_scale: int | None = None
    wide_input: bool = True
    device: str = field(default="cpu", metadata=option("Where the float network runs: cpu or cuda."))
    test: Labelled | None = field(
        default=None,
        metadata=option(
            "Labelled recordings to compare float and integer network on.", reads="labelled recordings"
        ),
        repr=False,
        compare=False,
    )

    def __post_init__(self) -> None:
        if not 1 <= self.gate_bits <= 14:
            raise UsageError(f"gate bits must lie in 1..14, got {self.gate_bits}")
        if not 2 <= self.weight_bits <= 8:
            raise UsageError(f"weight bits must lie in 2..8, got {self.weight_bits}")
        if self.threshold_rule not in ("unbiased", "ties"):
            raise UsageError(f"unknown threshold rule {self.threshold_rule!r}", hint="unbiased or ties")
        if not 1 <= self.margin < math.inf:
            raise UsageError(
                f"a margin of {self.margin:g} would plan for wrapping currents",
                hint="a finite number, at least 1",
            )
        if not 0 < self.percentile <= 100:
            raise UsageError(f"a percentile is in 0..100, got {self.percentile:g}")
        if self.input_scale is not None and not 1 <= self.input_scale < math.inf:
            raise UsageError(f"the input scale must be positive, got {self.input_scale}")

    @property
    def weight_max(self) -> int:
        """The largest weight of a synapse."""
        return (1 << (self.weight_bits - 1)) - 1

    @property
    def pair_max(self) -> int:
        """The largest joint weight of two synapses, the first of which reads the input `weight_max + 1` times as large."""
        limb = self.weight_max + 1
        return limb * self.weight_max + limb // 2 - 1

    @property
    def quantisation(self) -> dict[str, Any]:
        """The options of quantisation as a dictionary, without the test data."""
        return {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("test", "device", "engine")
        }


@dataclass(frozen=True)
class LavaVerification:
    """How to compare a bundle with the twin of its own files.

    Attributes:
        backend: `"lava"` runs the real lava-dl, several windows per run. `"twin"` needs no Lava: it recomputes the golden
            sample.
        fast_conv: Use matrix products instead of Lava's convolution loops.
        python: Interpreter that has lava-dl; `None` to find one.
        timeout: Seconds for each run of Lava.

    Raises:
        UsageError: If the backend is unknown, or the timeout below a second.
    """

    backend: Literal["lava", "twin"] = field(
        default="lava", metadata=option("lava (the real one) or twin; lava if not given.")
    )
    fast_conv: bool = field(
        default=False, metadata=option("Matrix products instead of Lava's convolution loops.")
    )
    python: Path | None = field(default=None, metadata=option("Interpreter that has lava-dl."))
    timeout: float = field(default=3600.0, metadata=option("Seconds for a run of Lava."))

    def __post_init__(self) -> None:
        if self.backend not in ("lava", "twin"):
            raise UsageError(f"unknown backend {self.backend!r}", hint="lava or twin")
        if not self.timeout >= 1:
            raise UsageError(f"a run of Lava takes at least a second, got --timeout {self.timeout:g}")
