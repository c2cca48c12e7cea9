"""Integration: equal to SpikingJelly's where that runs, to its definition where that raises."""

import numpy as np
import pytest
from event_streams import SENSOR, streams
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events import Events, integrate, make_events, read_nmnist

SPLITS = ("number", "time")


@pytest.mark.parametrize("split_by", SPLITS)
@pytest.mark.parametrize("timesteps", [1, 4, 10, 17])
def test_real_recordings_match_spikingjelly(nmnist, spikingjelly_integrate, split_by, timesteps):
    files = sorted((nmnist / "Test").glob("*/*.bin"))[::5] + sorted((nmnist / "Train").glob("0/*.bin"))[:3]
    assert len(files) >= 3
    for file in files:
        events = read_nmnist(file)
        ours = integrate(events, timesteps=timesteps, sensor=(34, 34), split_by=split_by)
        theirs = spikingjelly_integrate(events, timesteps=timesteps, sensor=(34, 34), split_by=split_by)
        np.testing.assert_array_equal(ours, theirs)


@given(streams(), st.integers(1, 12))
def test_by_number_matches_spikingjelly(spikingjelly_integrate, events, timesteps):
    ours = integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="number")
    theirs = spikingjelly_integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="number")
    np.testing.assert_array_equal(ours, theirs)


@given(streams(ordered=False), st.integers(1, 12))
def test_by_number_ignores_timestamps(spikingjelly_integrate, events, timesteps):
    ours = integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="number")
    theirs = spikingjelly_integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="number")
    np.testing.assert_array_equal(ours, theirs)


# 60 events about 20 us apart last 1200 us, so that no sixth of the recording is empty.
@given(streams(min_size=60), st.integers(1, 6))
def test_by_time_matches_spikingjelly_on_dense_streams(spikingjelly_integrate, events, timesteps):
    events = Events(np.arange(len(events)) * 20 + np.arange(len(events)) % 3, events.x, events.y, events.p)
    ours = integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="time")
    theirs = spikingjelly_integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="time")
    np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=200)
@given(streams(max_size=40), st.integers(1, 12))
def test_by_time_follows_the_definition_on_any_stream(spikingjelly_integrate, events, timesteps):
    ours = integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="time")
    np.testing.assert_array_equal(ours, _by_definition(events, timesteps))
    try:
        theirs = spikingjelly_integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="time")
    except IndexError:  # a stretch without events
        return
    np.testing.assert_array_equal(ours, theirs)


def _by_definition(events: Events, timesteps: int) -> np.ndarray:
    """Frame i has t_0 + i d <= t < t_0 + (i + 1) d with d = (t_end - t_0) // T; the last has no end."""
    frames = np.zeros((timesteps, 2, *SENSOR))
    if not len(events):
        return frames
    start, step = int(events.t[0]), (int(events.t[-1]) - int(events.t[0])) // timesteps
    for t, x, y, p in zip(*(c.tolist() for c in (events.t, events.x, events.y, events.p)), strict=True):
        for i in range(timesteps):
            left, right = start + i * step, start + (i + 1) * step
            if left <= t and (t < right or i == timesteps - 1):
                frames[i, p, y, x] += 1
                break
    return frames


@pytest.mark.parametrize("split_by", SPLITS)
@given(events=streams(ordered=False), timesteps=st.integers(1, 12))
def test_no_event_is_lost_whatever_the_order(split_by, events, timesteps):
    frames = integrate(events, timesteps=timesteps, sensor=SENSOR, split_by=split_by)
    total = np.zeros((2, *SENSOR), dtype=int)
    np.add.at(total, (events.p, events.y, events.x), 1)
    np.testing.assert_array_equal(frames.sum(axis=0), total)


@given(streams(min_size=1, ordered=False), st.integers(1, 12))
def test_by_time_does_not_depend_on_the_recorded_order(events, timesteps):
    order = np.argsort(events.t, kind="stable")
    ordered = Events(events.t[order], events.x[order], events.y[order], events.p[order])
    np.testing.assert_array_equal(
        integrate(events, timesteps=timesteps, sensor=SENSOR, split_by="time"),
        integrate(ordered, timesteps=timesteps, sensor=SENSOR, split_by="time"),
    )


def test_fewer_events_than_frames_go_into_the_last_frame():
    events = make_events([5, 9], [0, 1], [0, 0], [1, 1])
    frames = integrate(events, timesteps=3, sensor=(1, 2), split_by="number")
    np.testing.assert_array_equal(frames.sum(axis=(1, 2, 3)), [0, 0, 2])


def test_a_gap_in_time_gives_a_frame_of_zeros(spikingjelly_integrate):
    events = make_events([0, 10, 90, 100], [0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1])
    with pytest.raises(IndexError):
        spikingjelly_integrate(events, timesteps=4, sensor=(1, 2), split_by="time")
    frames = integrate(events, timesteps=4, sensor=(1, 2), split_by="time")
    np.testing.assert_array_equal(frames.sum(axis=(1, 2, 3)), [2, 0, 0, 2])


def test_counts_beyond_16_bits_are_exact():
    zeros = np.zeros(70_000, dtype=np.int64)
    frames = integrate(make_events(zeros, zeros, zeros, zeros), timesteps=1, sensor=(1, 1))
    assert frames.tolist() == [[[[70_000]], [[0]]]]


@pytest.mark.parametrize(("x", "y"), [(7, 0), (0, 5), (-1, 0), (0, -1), (255, 255)])
def test_an_event_outside_the_sensor_is_named(x, y):
    events = make_events([0, 1], [0, x], [0, y], [0, 1])
    with pytest.raises(DataError, match=rf"first is event 1 at x = {x}, y = {y}") as caught:
        integrate(events, timesteps=2, sensor=SENSOR, where="a/b.bin")
    assert caught.value.where == "a/b.bin"
    assert caught.value.hint


@pytest.mark.parametrize("wrong", [{"timesteps": 0}, {"sensor": (0, 3)}, {"split_by": "energy"}])
def test_senseless_arguments(wrong):
    arguments = {"timesteps": 2, "sensor": SENSOR, "split_by": "number"} | wrong
    with pytest.raises(UsageError):
        integrate(make_events([0], [0], [0], [0]), **arguments)
