"""Options of NIR exports."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.target import Bounded, Engined, option

__all__ = ["DT", "NirOptions", "NirVerification"]

DT = 1e-4
"""Default time step in seconds: SpikingJelly's default, and the only one that snnTorch reads."""


@dataclass(frozen=True)
class NirOptions(Engined):
    """How to write the graph.

    Attributes:
        gate: What to do with TCJA gates, which NIR does not have. `"refuse"`: raise an error; `"mean"`: replace each by
            its mean over time and the data, one number per channel, folded into the weights after it; `"split"`: run them
            on the host between segments of NIR, in a folder.
        dt: Length of a time step in seconds. NIR holds time constants in seconds but no time step, so it is noted in the
            file.

    Raises:
        UsageError: If the gate treatment is unknown, or the time step is not positive.
    """

    gate: Literal["refuse", "mean", "split"] = field(
        default="refuse", metadata=option("How TCJA gates are written: refuse, mean or split.")
    )
    dt: float = DT

    def __post_init__(self) -> None:
        if self.gate not in ("refuse", "mean", "split"):
            raise UsageError(f"unknown gate treatment {self.gate!r}", hint="choose refuse, mean or split")
        if not (math.isfinite(self.dt) and self.dt > 0):
            raise UsageError(f"dt = {self.dt} is not a time step")


@dataclass(frozen=True)
class NirVerification(Bounded, Engined):
    """How to verify an export.

    Attributes:
        runner: What runs the file: one of `exporters.nir.runners.RUNNERS`.
    """

    runner: str = field(
        default="sequence",
        metadata=option("What runs a NIR file: sequence, sequence>=, norse or spikingjelly."),
    )
