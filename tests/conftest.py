"""What all tests share: the golden files beside the checkout, hypothesis' settings, the number of threads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import Golden
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

# Before anything imports torch: the cores are divided among the workers of pytest-xdist.
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))

# No limits on time: they would fail on a busy machine, not on a wrong program. The same examples on every run of CI.
_untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("tcja", _untimed)
settings.register_profile("tcja-ci", _untimed, derandomize=True, database=None, print_blob=True)
settings.load_profile("tcja-ci" if os.environ.get("CI") else "tcja")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden files and recordings, which is no part of the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"the shared files are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Golden:
    """The authors' checkpoint with input and results."""
    checkpoint, results = shared / "golden" / "dvs128_checkpoint_max.pth", shared / "golden" / "dvs128_io.npz"
    if not (checkpoint.is_file() and results.is_file()):
        pytest.skip(f"the golden files are not in {checkpoint.parent}")
    with np.load(results) as io:
        arrays: dict[str, NDArray[Any]] = dict(io)
    frames = np.ascontiguousarray(arrays["x"].swapaxes(0, 1), np.float32)
    counts = {k.removeprefix("count_"): int(v) for k, v in arrays.items() if k.startswith("count_")}
    rates = {k.removeprefix("rate_"): float(v) for k, v in arrays.items() if k.startswith("rate_")}
    return Golden(checkpoint, frames, arrays["y"], counts, rates)


@pytest.fixture(scope="session")
def nmnist(shared: Path) -> Path:
    """1000 recordings of N-MNIST, in ``Train`` and ``Test``."""
    folder = shared / "data" / "n-mnist"
    if not folder.is_dir():
        pytest.skip(f"the N-MNIST recordings are not at {folder}")
    return folder
