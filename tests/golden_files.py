"""Where the data of the tests lie, and what the golden files hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parent / "data"
"""What comes with the tests; its README tells sources and licences."""

LARGER = Path(__file__).resolve().parents[2] / "shared"
"""Larger sets beside the checkout, an addition."""

NMNIST = next(
    folder for folder in (LARGER / "data" / "n-mnist", DATA / "n-mnist") if (folder / "Test").is_dir()
)
"""The larger set of N-MNIST recordings at hand."""


def golden_runs() -> list[tuple[Path, Path]]:
    """Checkpoint and results of each golden run at hand."""
    small, large = DATA / "golden" / "dvs128_16channels", LARGER / "golden" / "dvs128"
    files = [(Path(f"{stem}_checkpoint_max.pth"), Path(f"{stem}_io.npz")) for stem in (small, large)]
    return [pair for pair in files if all(file.is_file() for file in pair)]


def count_recordings(folder: Path) -> int:
    """How many recordings of N-MNIST a folder holds."""
    return sum(1 for _ in folder.glob("**/*.bin"))


@dataclass(frozen=True)
class Golden:
    """A checkpoint of the authors' DVS128 script, and what their own code computed with it.

    Attributes:
        checkpoint: As `torch.save` wrote it.
        frames: Event frames `[T, 1, 2, 128, 128]`, float32.
        output: `[1, 11]`.
        counts: Non-zero values over all steps, by module name.
        rates: Mean value over all steps, by module name.
    """

    checkpoint: Path
    frames: NDArray[np.float32]
    output: NDArray[np.float32]
    counts: dict[str, int]
    rates: dict[str, float]
