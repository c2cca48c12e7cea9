"""From events to frames: counts per frame, polarity and pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import UsageError
from tcja_deploy.events.recording import Events

__all__ = ["SplitBy", "integrate"]

SplitBy = Literal["number", "time", "duration"]


def integrate(
    events: Events,
    *,
    timesteps: int,
    sensor: tuple[int, int],
    split_by: SplitBy = "number",
    frame_time: int | None = None,
    where: str = "",
) -> NDArray[np.int32]:
    """Count events in `timesteps` frames.

    With N events and T frames, event k at time t belongs to frame min(b, T - 1), where

    - `number`: b = k // (N // T), in recorded order, whatever the timestamps say;
    - `time`: b = (t - t_min) // ((t_max - t_min) // T), whatever the recorded order.

    The last frame takes what the division leaves over.

    - `duration`: b = (t - t_min) // `frame_time`, as cameras run: a recording of length L fills the first
      ceil(L / `frame_time`) frames (an event at its very end belongs to the last of them), what comes after T frames is
      left out, and missing frames are zeros. Equal to SpikingJelly's `integrate_events_by_fixed_duration`, cut or padded
      to T frames.

    For `number` and `time` this is the rule of SpikingJelly's
    `integrate_events_by_fixed_frames_number`, with equal counts on every stream that it accepts and whose
    timestamps do not run backwards. Where the divisor is 0 (fewer events than frames; a recording shorter
    than T microseconds) everything goes into the last frame; a stretch of time without events gives a frame
    of zeros (SpikingJelly raises IndexError); no events at all give zeros.

    Args:
        events: The recording.
        timesteps: Number of frames T.
        sensor: Rows and columns `[H, W]`.
        split_by: Equal numbers of events per frame, equal parts of the recording's time, or a fixed duration.
        frame_time: Length of a frame in microseconds, for `duration`.
        where: File named in errors.

    Returns:
        Counts `[T, 2, H, W]`, int32; channel 0 is OFF, channel 1 ON.

    Raises:
        UsageError: `timesteps`, `sensor` or `frame_time` is not positive, or `split_by` unknown.
        DataError: An event lies outside the sensor.
    """
    height, width = sensor
    if min(timesteps, height, width) < 1:
        raise UsageError(f"timesteps = {timesteps} and sensor = {height} x {width} must be positive")
    events.check_inside(sensor, where=where)
    frame = _frame_of_events(events, timesteps, split_by, frame_time)
    position = ((frame * 2 + events.p) * height + events.y) * width + events.x
    if split_by == "duration":
        position = position[frame < timesteps]
    counts = np.bincount(position, minlength=timesteps * 2 * height * width)
    return counts.reshape(timesteps, 2, height, width).astype(np.int32)


def _frame_of_events(
    events: Events, timesteps: int, split_by: str, frame_time: int | None
) -> NDArray[np.int64]:
    n = len(events)
    start, stop = (int(events.t.min()), int(events.t.max())) if n and split_by != "number" else (0, 0)
    if split_by == "duration":
        if frame_time is None or frame_time < 1:
            raise UsageError(f"frame_time = {frame_time} must be positive microseconds")
        frames = max(1, -(-(stop - start) // frame_time))
        return np.minimum((events.t - start) // frame_time, frames - 1)
    if split_by == "number":
        position, step = np.arange(n, dtype=np.int64), n // timesteps
    elif split_by == "time":
        position, step = events.t - start, (stop - start) // timesteps
    else:
        raise UsageError(f"split_by = {split_by!r} is unknown", hint="use 'number', 'time' or 'duration'")
    if step == 0:
        return np.full(n, timesteps - 1, dtype=np.int64)
    return np.minimum(position // step, timesteps - 1)
