"""Fixtures: SpikingJelly's integration, and an encoder of the `.bin` format."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tcja_deploy.events import Events

Integration = Callable[..., NDArray[np.float64]]


@pytest.fixture(scope="session")
def spikingjelly_utils() -> object:
    """SpikingJelly's `datasets/utils.py`, loaded by itself.

    `import spikingjelly.datasets` also imports torchaudio, which fails beside a torch built for another CUDA.
    """
    package = importlib.util.find_spec("spikingjelly")
    if package is None or not package.submodule_search_locations:
        pytest.skip("SpikingJelly is not installed")
    file = Path(package.submodule_search_locations[0]) / "datasets" / "utils.py"
    spec = importlib.util.spec_from_file_location("spikingjelly.datasets.utils", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        pytest.skip(f"SpikingJelly's data set utilities cannot be imported: {error}")
    return module


@pytest.fixture(scope="session")
def spikingjelly_integrate(spikingjelly_utils: object) -> Integration:
    function = spikingjelly_utils.integrate_events_by_fixed_frames_number  # type: ignore[attr-defined]

    def run(events: Events, *, timesteps: int, sensor: tuple[int, int], split_by: str) -> NDArray[np.float64]:
        columns = {"t": events.t, "x": events.x, "y": events.y, "p": events.p}
        return function(columns, split_by, timesteps, *sensor)

    return run


@pytest.fixture(scope="session")
def encode_bin() -> Callable[[Events], bytes]:
    """Encode events bit by bit as the format's description says: x8, y8, p1, t23, most significant first."""

    def encode(events: Events) -> bytes:
        rows = zip(*(column.tolist() for column in (events.x, events.y, events.p, events.t)), strict=True)
        return b"".join(int(f"{x:08b}{y:08b}{p:01b}{t:023b}", 2).to_bytes(5, "big") for x, y, p, t in rows)

    return encode
