"""Running a bundle in the real Lava for its result alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.exporters.lava.driver import run_lava
from tcja_deploy.exporters.lava.environment import lava_python
from tcja_deploy.exporters.target import Opened, Ran
from tcja_deploy.runtime.integers.twin import encode

__all__ = ["open_bundle"]


@contextmanager
def open_bundle(path: Path) -> Iterator[Opened]:
    """A bundle that was just written; every call is a run of Lava, whose seconds are those of compiling and running.

    Args:
        path: The bundle.

    Raises:
        ToolchainError: If the environment with lava-dl has not been set up.
    """
    lava_python()
    bundle = read_bundle(path)
    network = bundle.network
    last = network.stages[-1].name

    def run(frames: NDArray[np.float32]) -> Ran:
        lava = run_lava(bundle, encode(network.host_input, frames), record=[last])
        return Ran(network.readout(lava.stages[last], network.unit), lava.run_seconds)

    yield run
