"""From events to frames of the model's size: fixed durations, other sensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from event_streams import SENSOR, streams
from hypothesis import assume, given
from hypothesis import strategies as st

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events import Events, integrate, open_data, read_nmnist
from tcja_deploy.events.resize import known_sensor, resize


def by_spikingjelly(
    utils: object, events: Events, duration: int, sensor: tuple[int, int], T: int
) -> np.ndarray:
    """SpikingJelly's frames, cut or padded with zeros to T."""
    columns = {"t": events.t, "x": events.x, "y": events.y, "p": events.p}
    frames = utils.integrate_events_by_fixed_duration(columns, duration, *sensor)[:T]  # type: ignore[attr-defined]
    return np.concatenate([frames, np.zeros((T - len(frames), *frames.shape[1:]))])


@given(streams(min_size=2), st.integers(1, 20_000), st.integers(1, 12))
def test_fixed_durations_are_those_of_spikingjelly(
    spikingjelly_utils: object, events: Events, duration: int, timesteps: int
) -> None:
    assume(events.t[-1] > events.t[0])  # SpikingJelly makes no frames of a moment
    assume((events.t[-1] - events.t[0]) // duration < 2000)
    ours = integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="duration", frame_time=duration)
    np.testing.assert_array_equal(
        ours, by_spikingjelly(spikingjelly_utils, events, duration, SENSOR, timesteps)
    )


@pytest.mark.parametrize("milliseconds", [10, 30, 33])
def test_real_recordings_by_duration(nmnist: Path, spikingjelly_utils: object, milliseconds: int) -> None:
    data = open_data(nmnist / "Test", timesteps=10, sensor=(34, 34), frame_time=1000 * milliseconds, limit=4)
    assert any(f"the first {10 * milliseconds} ms" in note for note in data.notes)
    for index, name in enumerate(data.names):
        events = read_nmnist(nmnist / "Test" / name)
        theirs = by_spikingjelly(spikingjelly_utils, events, 1000 * milliseconds, (34, 34), 10)
        np.testing.assert_array_equal(data[index][0], theirs)


def test_a_moment_is_one_frame() -> None:
    zeros = np.zeros(3, int)
    counts = integrate(
        Events(zeros, zeros, zeros, zeros), timesteps=2, sensor=(1, 1), split_by="duration", frame_time=5
    )
    assert counts[:, 0, 0, 0].tolist() == [3, 0]
    with pytest.raises(UsageError, match="must be positive"):
        integrate(Events(zeros, zeros, zeros, zeros), timesteps=2, sensor=(1, 1), split_by="duration")


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sizes, sizes, st.sampled_from(["area", "nearest"]))
def test_resizing_is_that_of_torch(size: tuple[int, int], target: tuple[int, int], way: str) -> None:
    frames = np.random.default_rng(0).integers(0, 9, (3, 2, *size))
    theirs = torch.nn.functional.interpolate(torch.from_numpy(frames).double(), target, mode=way)
    ours = resize(frames, target, way)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # float32 holds the means to 6e-8


@given(sizes, sizes)
def test_cropping_is_that_of_torchvision(size: tuple[int, int], target: tuple[int, int]) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    frames = np.random.default_rng(0).integers(0, 9, (3, 2, *size))
    theirs = functional.center_crop(torch.from_numpy(frames), target)
    np.testing.assert_array_equal(resize(frames, target, "crop"), theirs)


def write(path: Path, sensor: tuple[int, int], seed: int = 0, **more: np.ndarray) -> None:
    rng = np.random.default_rng(seed)
    n = 4000
    x, y = rng.integers(0, sensor[1], n), rng.integers(0, sensor[0], n)
    x[0], y[0] = sensor[1] - 1, sensor[0] - 1
    np.savez(path, t=np.sort(rng.integers(0, 10**6, n)), x=x, y=y, p=rng.integers(0, 2, n), **more)


@pytest.mark.parametrize(
    ("camera", "model"), [((128, 128), (34, 34)), ((34, 34), (128, 128)), ((180, 240), (48, 48))]
)
def test_another_sensor_is_refused_with_both_sizes(
    tmp_path: Path, camera: tuple[int, int], model: tuple[int, int]
) -> None:
    write(tmp_path / "a.npz", camera)
    with pytest.raises(
        DataError, match=rf"{camera[0]} x {camera[1]} pixels.*the model takes {model[0]} x {model[1]}"
    ) as caught:
        open_data(tmp_path / "a.npz", timesteps=4, sensor=model)
    assert "--resize" in caught.value.hint


@pytest.mark.parametrize("way", ["area", "crop", "nearest"])
def test_another_sensor_is_resized_on_request(tmp_path: Path, way: str) -> None:
    write(tmp_path / "a.npz", (128, 128))
    data = open_data(tmp_path / "a.npz", timesteps=4, sensor=(34, 34), resize=way)  # type: ignore[arg-type]
    full = open_data(tmp_path / "a.npz", timesteps=4, sensor=(128, 128))[0][0]
    np.testing.assert_array_equal(data[0][0], resize(full, (34, 34), way))  # type: ignore[arg-type]
    assert any("camera assumed to have 128 x 128" in note for note in data.notes)
    assert f"resized to 34 x 34 ({way})" in str(data.framing)
    told = open_data(tmp_path / "a.npz", timesteps=4, sensor=(34, 34), resize=way, camera=(130, 140))  # type: ignore[arg-type]
    assert not any("camera taken" in note for note in told.notes)
    assert any(f"resized to 34 x 34 ({way})" in note for note in told.notes)
    assert told[0][0].shape == (4, 2, 34, 34)


def test_known_sensors() -> None:
    assert known_sensor(34, 34) == (34, 34)
    assert known_sensor(120, 128) == (128, 128)
    assert known_sensor(170, 233) == (180, 240)
    assert known_sensor(2000, 10) == (2000, 10)
