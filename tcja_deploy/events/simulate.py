"""A simulated event camera that looks at a still image during three saccades, as N-MNIST was recorded.

Motion (Orchard et al., Frontiers in Neuroscience 9:437, 2015, doi:10.3389/fnins.2015.00437): the camera turns
three times, along the sides of an isosceles triangle, and is back where it began; a saccade takes 100 ms.
Here the image shifts by `(dy, dx)` pixels, along each side with the position (1 - cos(pi u)) / 2 for u from
0 to 1.

Pixel (Lichtsteiner, Posch, Delbruck, IEEE JSSC 43(2), 2008, doi:10.1109/JSSC.2007.914337): a pixel remembers
the logarithm of the intensity at its last event, and signals ON (OFF) whenever the logarithm has risen
(fallen) by the contrast threshold since. Between two samples of the motion the logarithm is taken as linear
in time, which dates each event. Thresholds differ from pixel to pixel, and pixels signal spurious events, as
far as `Camera` says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import UsageError
from tcja_deploy.events.recording import Events

__all__ = ["Camera", "record", "record_pixels", "saccades"]

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """The simulated camera.

    Attributes:
        sensor: Rows and columns `[H, W]`.
        threshold: Contrast threshold, in natural-log intensity, equal for ON and OFF.
        mismatch: Standard deviation of the threshold from pixel to pixel, relative to `threshold`.
        noise_rate: Spurious events per pixel and second.
        dark: Intensity added to the image's [0, 1] before the logarithm: what a black pixel still sees.
        amplitude: Height and base of the triangle of saccades, in sensor pixels.
        saccade_us: Length of one saccade in microseconds.
        samples: Samples of the motion in one saccade.
    """

    sensor: tuple[int, int] = (34, 34)
    threshold: float = 0.6
    mismatch: float = 0.0
    noise_rate: float = 0.0
    dark: float = 0.1
    amplitude: float = 3.0
    saccade_us: int = 100_000
    samples: int = 50

    def __post_init__(self) -> None:
        positive = (*self.sensor, self.threshold, self.dark, self.amplitude, self.saccade_us, self.samples)
        if not all(math.isfinite(value) and value > 0 for value in positive):
            raise UsageError(f"{self} needs positive sizes, threshold, dark level, amplitude and times")
        if not (0 <= self.mismatch < 0.25 and 0 <= self.noise_rate < math.inf):
            raise UsageError(
                f"mismatch = {self.mismatch} must be in [0, 0.25), and noise_rate = {self.noise_rate} not negative"
            )


def record(image: Reals, camera: Camera, *, magnification: float, seed: int) -> Events:
    """Record a still image during three saccades.

    Args:
        image: Intensities `[h, w]` in [0, 1]; black beyond its border.
        camera: The camera.
        magnification: Sensor pixels per image pixel; in between, the image is interpolated bilinearly.
        seed: Of mismatch and noise; without both, any seed gives the same events.

    Returns:
        Events in order of time (at equal times, of row, column and polarity); t from 0 to three saccades.

    Raises:
        UsageError: The image is not two-dimensional or leaves [0, 1], or `magnification` is not positive.
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 2 or not image.size or not ((image >= 0) & (image <= 1)).all():
        raise UsageError(
            f"the image has shape {list(image.shape)}; expected [h, w] with intensities in [0, 1]"
        )
    if not 0 < magnification < math.inf:
        raise UsageError(f"magnification = {magnification} must be positive")
    times, shifts = saccades(camera)
    rows = _interpolation(camera.sensor[0], image.shape[0], magnification, shifts[:, 0])
    columns = _interpolation(camera.sensor[1], image.shape[1], magnification, shifts[:, 1])
    intensity = rows @ image @ columns.transpose(0, 2, 1)
    return record_pixels(np.log(intensity + camera.dark), times, camera, seed=seed)


def saccades(camera: Camera) -> tuple[Reals, Reals]:
    """The motion: times `[K]` in microseconds and shifts `[K, 2]` (dy, dx) in pixels; K = 3 samples + 1."""
    a = camera.amplitude
    corners = np.array([[0.0, 0.0], [a, a / 2], [0.0, a], [0.0, 0.0]]) - np.array([a / 2, a / 2])
    ease: Reals = (1 - np.cos(np.pi * np.arange(camera.samples) / camera.samples)) / 2
    sides = [start + ease[:, None] * (stop - start) for start, stop in pairwise(corners)]
    times = np.linspace(0.0, 3.0 * camera.saccade_us, 3 * camera.samples + 1)
    return times, np.concatenate([*sides, corners[-1:]])


def record_pixels(log_intensity: Reals, times: Reals, camera: Camera, *, seed: int) -> Events:
    """Apply the pixel model to log intensities over time.

    Args:
        log_intensity: `[K, H, W]`, natural logarithm.
        times: `[K]`, rising, in microseconds.
        camera: Threshold, mismatch and noise.
        seed: Of mismatch and noise.

    Returns:
        Events in order of time (at equal times, of row, column and polarity).
    """
    rng = np.random.default_rng(seed)
    steps, height, width = log_intensity.shape
    levels = log_intensity.reshape(steps, height * width)
    threshold = camera.threshold * (1 + camera.mismatch * rng.standard_normal(height * width).clip(-3, 3))
    memory = levels[0].copy()
    pieces = [_noise(rng, times, height * width, camera.noise_rate)]
    for step in range(1, steps):
        change = levels[step] - memory
        count = np.floor(np.abs(change) / threshold).astype(np.int64)
        firing = np.flatnonzero(count)
        pixel = np.repeat(firing, count[firing])
        nth = np.arange(pixel.size) - np.repeat(np.cumsum(count[firing]) - count[firing], count[firing]) + 1
        sign = np.sign(change[pixel])
        crossed = memory[pixel] + nth * sign * threshold[pixel]
        before, after = levels[step - 1, pixel], levels[step, pixel]
        rise = np.where(after == before, 1.0, after - before)
        share = np.clip((crossed - before) / rise, 0.0, 1.0)
        pieces.append((times[step - 1] + share * (times[step] - times[step - 1]), pixel, sign > 0))
        memory[firing] += count[firing] * np.sign(change[firing]) * threshold[firing]
    t = np.concatenate([piece[0] for piece in pieces]).astype(np.int64)
    pixel = np.concatenate([piece[1] for piece in pieces])
    p = np.concatenate([piece[2] for piece in pieces]).astype(np.int64)
    order = np.lexsort((p, pixel, t))
    return Events(t[order], pixel[order] % width, pixel[order] // width, p[order])


def _noise(
    rng: np.random.Generator, times: Reals, pixels: int, rate: float
) -> tuple[Reals, NDArray[np.int64], NDArray[np.bool_]]:
    """Events of a Poisson process: times, pixels, and whether ON."""
    start, stop = float(times[0]), float(times[-1])
    count = int(rng.poisson(rate * pixels * (stop - start) * 1e-6))
    return rng.uniform(start, stop, count), rng.integers(0, pixels, count), rng.random(count) < 0.5


def _interpolation(size: int, length: int, magnification: float, shift: Reals) -> Reals:
    """Bilinear weights `[K, size, length]` of one axis: the image centred, moved by `shift` `[K]`."""
    centre = (size - 1) / 2
    source = (np.arange(size) - centre - shift[:, None]) / magnification + (length - 1) / 2
    return np.maximum(0.0, 1.0 - np.abs(source[:, :, None] - np.arange(length)))
