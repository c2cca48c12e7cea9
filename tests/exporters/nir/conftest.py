"""Real recordings for the tests of NIR."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tcja_deploy.events import open_data

if importlib.util.find_spec("nir") is None:  # test_installed.py says so
    collect_ignore_glob = ["test_nir_*.py", "test_reader_facts.py"]


@pytest.fixture(scope="session")
def recordings(nmnist: Path) -> NDArray[np.float32]:
    """Ten N-MNIST recordings, one of each digit: `[10, 10, 2, 34, 34]`."""
    data = open_data(nmnist / "Test", timesteps=10, sensor=(34, 34), limit=10)
    ((frames, _),) = data.batches(10)
    return np.asarray(frames, np.float32)
