"""How events become the frames that a model takes: integration, and the change from the camera's size to the model's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.integrate import SplitBy, integrate
from tcja_deploy.events.recording import Events
from tcja_deploy.events.resize import Resize, resize
from tcja_deploy.reading.limits import check_bytes

__all__ = ["Framing", "sensor_text", "wrong_size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """One way from events to frames `[T, C, H, W]`.

    Attributes:
        timesteps: Frames T.
        sensor: Rows and columns `[H, W]` that the model takes.
        channels: Channels C that the model takes; events have 2 (OFF, ON).
        split_by: See `integrate`.
        frame_time: Length of a frame in microseconds, for `duration`.
        resize: How frames of another size are brought to the model's; None to refuse them.
        camera: Rows and columns of the camera, for files that do not say; None if it is the model's.
    """

    timesteps: int
    sensor: tuple[int, int]
    channels: int = 2
    split_by: SplitBy = "number"
    frame_time: int | None = None
    resize: Resize | None = None
    camera: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`[T, C, H, W]`."""
        return (self.timesteps, self.channels, *self.sensor)

    def frames(self, events: Events, *, where: str) -> NDArray[np.generic]:
        """Frames of one recording: counts int32, or float32 where they were resized.

        Raises:
            DataError: The recording is empty, time runs backwards, or the events do not fit.
        """
        if self.channels != 2:
            raise DataError(
                f"events have 2 channels (OFF, ON); the model takes {self.channels}",
                where=where,
                hint="for a model with other channels store frames [T, C, H, W]",
            )
        if not len(events):
            raise DataError(
                "holds no events", where=where, hint="an empty recording is usually a broken download"
            )
        events.check_order(where=where)
        camera = events.sensor or self.camera or self.sensor
        if camera != self.sensor and self.resize is None:
            raise wrong_size(camera, self.sensor, where)
        elements = (
            self.timesteps * self.channels * camera[0] * camera[1]
        )  # one odd coordinate makes a huge camera
        check_bytes(16 * elements, f"frames of {sensor_text(camera)} pixels", where=where, error=DataError)
        counts = integrate(
            events,
            timesteps=self.timesteps,
            sensor=camera,
            split_by=self.split_by,
            frame_time=self.frame_time,
            where=where,
        )
        return (
            counts
            if self.resize is None or camera == self.sensor
            else resize(counts, self.sensor, self.resize)
        )

    def __str__(self) -> str:
        way = (
            self.split_by if self.frame_time is None else f"duration, {self.frame_time / 1000:g} ms per frame"
        )
        return way if self.resize is None else f"{way}; resized to {sensor_text(self.sensor)} ({self.resize})"


def wrong_size(camera: tuple[int, int], sensor: tuple[int, int], where: str, reason: str = "") -> DataError:
    """The error for a camera that is not of the model's size; `reason` says how its size is known."""
    known = f" ({reason})" if reason else ""
    return DataError(
        f"events of a sensor of {sensor_text(camera)} pixels{known}, the model takes {sensor_text(sensor)}",
        where=where,
        hint="--resize area, crop or nearest rescales them to the model's size, if it was trained that way; --sensor H,W "
        "gives the size of the camera, if another was assumed",
    )


def sensor_text(sensor: tuple[int, int]) -> str:
    """Rows and columns in words."""
    return f"{sensor[0]} x {sensor[1]}"
