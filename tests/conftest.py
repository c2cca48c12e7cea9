"""What all tests share: the golden files beside the checkout, hypothesis' settings, the number of threads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import DATA, LARGER, NMNIST, Golden, golden_runs
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


def pytest_report_header() -> str:
    """Say which data the tests run on."""
    larger = (
        f"and the larger sets in {LARGER}" if LARGER.is_dir() else "alone; tests of larger sets are left out"
    )
    return f"data: {DATA} {larger}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the larger sets are not there, tests of figures that were measured on them are not selected."""
    if LARGER.is_dir():
        return
    left_out = [item for item in items if item.get_closest_marker("larger_sets")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", params=golden_runs(), ids=lambda files: files[0].stem)
def golden(request: pytest.FixtureRequest) -> Golden:
    """A checkpoint of the authors with input and results."""
    checkpoint, results = request.param
    with np.load(results) as io:
        arrays: dict[str, NDArray[Any]] = dict(io)
    frames = np.ascontiguousarray(arrays["x"].swapaxes(0, 1), np.float32)
    counts = {k.removeprefix("count_"): int(v) for k, v in arrays.items() if k.startswith("count_")}
    rates = {k.removeprefix("rate_"): float(v) for k, v in arrays.items() if k.startswith("rate_")}
    return Golden(checkpoint, frames, arrays["y"], counts, rates)


@pytest.fixture(scope="session")
def nmnist() -> Path:
    """Recordings of N-MNIST, in `Train` and `Test`: 1000 where the larger sets are, otherwise 20."""
    return NMNIST
