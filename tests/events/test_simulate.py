"""The simulated camera: properties that follow from its model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.errors import UsageError
from tcja_deploy.events import Camera, record, record_pixels, saccades

CLEAN = Camera()
NOISY = Camera(mismatch=0.05, noise_rate=20.0)


def _image(seed: int = 0, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).random((size, size))


def _columns(events):
    return [events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()]


@given(st.floats(0, 3), st.integers(1, 30))
def test_constant_light_gives_no_events(level, steps):
    times = np.linspace(0, 1e5, steps + 1)
    assert len(record_pixels(np.full((steps + 1, 4, 5), level), times, CLEAN, seed=0)) == 0


def test_a_black_image_gives_no_events():
    assert len(record(np.zeros((8, 8)), CLEAN, magnification=3.0, seed=0)) == 0


def test_a_textured_image_gives_both_polarities_in_all_three_saccades():
    events = record(_image(), CLEAN, magnification=3.0, seed=0)
    for saccade in range(3):
        inside = (events.t >= saccade * 100_000) & (events.t < (saccade + 1) * 100_000)
        assert set(events.p[inside].tolist()) == {0, 1}
    assert events.t.min() >= 0
    assert events.t.max() <= 300_000
    events.check_inside(CLEAN.sensor)
    assert (np.diff(events.t) >= 0).all()


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(0, 0.2))
def test_inverted_contrast_swaps_polarity_and_nothing_else(seed, mismatch):
    camera = Camera(sensor=(6, 5), mismatch=mismatch)
    levels = np.cumsum(np.random.default_rng(seed).normal(0, 0.5, (20, 6, 5)), axis=0)
    times = np.linspace(0, 1e5, 20)
    plain = record_pixels(levels, times, camera, seed=seed)
    inverse = record_pixels(-levels, times, camera, seed=seed)
    assert len(plain) > 0
    np.testing.assert_array_equal(plain.p, 1 - inverse.p)
    for key in "txy":
        np.testing.assert_array_equal(getattr(plain, key), getattr(inverse, key))


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_events_track_the_light_within_one_threshold(seed):
    """First level + threshold (ON - OFF) is what the pixel remembers: within a threshold of the light."""
    camera = Camera(sensor=(4, 4), threshold=0.3)
    levels = np.cumsum(np.random.default_rng(seed).normal(0, 0.4, (15, 4, 4)), axis=0)
    events = record_pixels(levels, np.linspace(0, 1e5, 15), camera, seed=0)
    memory = levels[0].copy()
    np.add.at(memory, (events.y, events.x), camera.threshold * (2.0 * events.p - 1.0))
    # 1e-9 covers the rounding of some dozen additions of order 1 in float64.
    assert np.abs(levels[-1] - memory).max() < camera.threshold + 1e-9


def test_a_ramp_fires_at_the_crossings():
    """The level rises by 3.5 thresholds in 70 ms: one event every 20 ms, whatever the sampling."""
    camera = Camera(sensor=(1, 1), threshold=0.5)
    for steps in (1, 7, 100):
        times = np.linspace(0, 70_000, steps + 1)
        events = record_pixels((times / 40_000).reshape(-1, 1, 1), times, camera, seed=0)
        assert events.p.tolist() == [1, 1, 1]
        np.testing.assert_allclose(events.t, [20_000, 40_000, 60_000], atol=1)  # rounded down to microseconds


def test_seed_decides_mismatch_and_noise_and_nothing_else():
    first, again, other = (record(_image(), NOISY, magnification=3.0, seed=seed) for seed in (1, 1, 2))
    assert _columns(first) == _columns(again)
    assert _columns(first) != _columns(other)
    assert _columns(record(_image(), CLEAN, magnification=3.0, seed=1)) == _columns(
        record(_image(), CLEAN, magnification=3.0, seed=2)
    )


def test_noise_rate():
    camera = Camera(noise_rate=50.0)
    events = record(np.zeros((2, 2)), camera, magnification=1.0, seed=0)
    expected = 50.0 * 34 * 34 * 0.3
    # Poisson: five standard deviations
    assert abs(len(events) - expected) < 5 * np.sqrt(expected)
    assert abs(events.p.mean() - 0.5) < 5 * 0.5 / np.sqrt(expected)


def test_mismatch_spreads_the_number_of_events_over_pixels():
    times = np.linspace(0, 1e5, 2)
    levels = np.stack([np.zeros((30, 30)), np.full((30, 30), 20.0)])
    even = record_pixels(levels, times, Camera(sensor=(30, 30), threshold=0.3), seed=0)
    spread = record_pixels(levels, times, Camera(sensor=(30, 30), threshold=0.3, mismatch=0.1), seed=0)
    assert len(set(np.bincount(even.y * 30 + even.x).tolist())) == 1
    assert len(set(np.bincount(spread.y * 30 + spread.x).tolist())) > 5


def test_the_path_is_a_closed_isosceles_triangle():
    times, shifts = saccades(Camera(amplitude=4.0, samples=10))
    assert times.tolist() == [10_000.0 * step for step in range(31)]
    corners = shifts[[0, 10, 20, 30]]
    np.testing.assert_allclose(corners[0], corners[3], atol=1e-12)
    sides = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    assert sides[0] == pytest.approx(sides[1])
    assert sides[2] == pytest.approx(4.0)
    speed = np.linalg.norm(np.diff(shifts, axis=0), axis=1)[:10]
    assert speed.argmax() in (4, 5)  # fastest half-way


def test_magnification_scales_the_image():
    """A disk twice as large on the sensor touches more pixels; its events stay centred."""
    rows, columns = np.mgrid[:15, :15] - 7
    disk = (rows**2 + columns**2 < 25).astype(float)
    small, large = (record(disk, CLEAN, magnification=m, seed=0) for m in (1.0, 2.0))
    assert np.ptp(large.x) > 1.5 * np.ptp(small.x)
    for events in (small, large):
        assert abs(events.x.mean() - 16.5) < 1.0
        assert abs(events.y.mean() - 16.5) < 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0.0},
        {"threshold": float("nan")},
        {"sensor": (0, 4)},
        {"samples": 0},
        {"mismatch": -0.1},
        {"mismatch": 0.3},
        {"noise_rate": -1.0},
        {"noise_rate": float("inf")},
    ],
)
def test_senseless_cameras(wrong):
    with pytest.raises(UsageError):
        Camera(**wrong)


@pytest.mark.parametrize(
    "image", [np.full((2, 2), 1.5), np.full((2, 2), np.nan), np.zeros(4), np.zeros((0, 3))]
)
def test_senseless_images(image):
    with pytest.raises(UsageError):
        record(image, CLEAN, magnification=1.0, seed=0)


def test_senseless_magnification():
    with pytest.raises(UsageError):
        record(_image(), CLEAN, magnification=0.0, seed=0)
