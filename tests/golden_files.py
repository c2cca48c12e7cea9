"""What the golden files hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Golden:
    """A checkpoint of the authors' DVS128 script, and what their own code computed with it.

    Attributes:
        checkpoint: As ``torch.save`` wrote it.
        frames: Event frames ``[T, 1, 2, 128, 128]``, float32.
        output: ``[1, 11]``.
        counts: Non-zero values over all steps, by module name.
        rates: Mean value over all steps, by module name.
    """

    checkpoint: Path
    frames: NDArray[np.float32]
    output: NDArray[np.float32]
    counts: dict[str, int]
    rates: dict[str, float]
