"""Confirms what a module was found to be: it is run beside the module in float32, on windows that were not used to find it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.frontend.probe import Box, random_frames
from tcja_deploy.frontend.recurrences import recurrences
from tcja_deploy.ir import Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.membranes import Membrane, integrate, margin

__all__ = ["NEAR", "Identified", "confirmed", "nearness", "written_out"]

Float = NDArray[np.float32]

NEAR = 1e-5
"""How near the threshold, relative to the largest membrane, rounding may decide about a neuron's first differing spike."""


@dataclass(frozen=True)
class Identified:
    """What a module was found to be.

    Attributes:
        ops: What it computes, one after the other.
        exact: Whether it was equal bit for bit.
    """

    ops: tuple[Op, ...]
    exact: bool


def written_out(box: Box, steps: int) -> Identified | None:
    """A module that is not a known neuron, as the arithmetic of its steps; `None` if that does not reproduce it."""
    windows = [(x, y) for x, y, _ in _windows(box, steps, None)]
    near = None
    for op in recurrences(box, steps):
        ours = [integrate(op, torch.from_numpy(x))[0].numpy() for x, _ in windows]
        if all(np.array_equal(a, y) for a, (_, y) in zip(ours, windows, strict=True)):
            return Identified((op,), True)
        if near is None and all(_nearly(op, x, a, y) for a, (x, y) in zip(ours, windows, strict=True)):
            near = Identified((op,), False)
    return near


def _nearly(op: ir.Recurrence, x: Float, ours: Float, y: Float) -> bool:
    """Whether results differ by rounding alone."""
    if not op.spiking:
        return float(np.abs(ours - y).max()) <= NEAR * float(np.abs(y).max())
    differs = ours != y
    begins = differs & (np.cumsum(differs, 0) == 1)
    return bool((nearness(op, torch.from_numpy(x)).numpy()[begins] <= NEAR).all())


def nearness(op: Membrane, x: Tensor, v: Tensor | None = None) -> Tensor:
    """Distance of each membrane from the threshold before the comparison, relative to the largest; arguments as in `integrate`.

    For a recurrence it is the distance of the nearest decision, relative to the largest input, or to 1.
    """
    distance, threshold = margin(op, x, v).abs(), abs(op.constants().get("v_threshold", 0.0))
    if isinstance(op, ir.Recurrence):
        return distance / max(1.0, float(x.abs().max()))
    return distance / ((float(distance.max()) + threshold) or 1.0)


def confirmed(
    box: Box, steps: int, candidates: list[tuple[Op, ...]], place: int | None = None
) -> Identified | None:
    """The first candidate that is equal bit for bit, else the first that differs by rounding.

    `place` is the number of the comparison with the threshold; what is compared has to be equal as well.
    """
    windows = _windows(box, steps, place)
    sound = [c for c in candidates if not any(op.faults() for op in c)]
    for candidate in sound:
        if all(
            np.array_equal(_applied(candidate, x), y) and (c is None or _same_membrane(candidate[0], x, c))
            for x, y, c in windows
        ):
            return Identified(candidate, True)
    for candidate in sound:
        if all(_near(candidate, x, y) for x, y, _ in windows):
            return Identified(candidate, False)
    return None


def _windows(box: Box, steps: int, place: int | None) -> list[tuple[Float, Float, Float | None]]:
    """Windows, the module's results on them, and what it compares at one place."""
    windows = []
    for seed in (7, 8, 9):
        x: NDArray[np.float32] = random_frames(np.random.default_rng(seed), steps, box.features).astype(
            np.float32
        )
        if seed == 9:
            x = (np.round(x * 4) / 4).astype(np.float32)  # numbers that hit thresholds
        found = box.run(x.astype(np.float64), torch.float32)
        compared = None if place is None else found.compared[place][0].astype(np.float32)
        windows.append((x, found.y.astype(np.float32), compared))
    return windows


def _applied(ops: tuple[Op, ...], x: NDArray[np.float32]) -> NDArray[np.float32]:
    for op in ops:
        x = op.apply(x)
    return x


def _near(ops: tuple[Op, ...], x: NDArray[np.float32], y: NDArray[np.float32]) -> bool:
    """Whether results differ by rounding alone."""
    ours, op = _applied(ops, x), ops[0]
    if not isinstance(op, ir.Neuron):
        return float(np.abs(ours - y).max()) <= NEAR * float(np.abs(y).max())
    differs = ours != y
    begins = differs & (np.cumsum(differs, 0) == 1)
    h = _membranes(op, x)
    largest = max(float(np.abs(h).max()), abs(op.v_threshold))
    return bool((np.abs(h - op.v_threshold)[begins] <= NEAR * largest).all())


def _membranes(op: ir.Neuron, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """`H` of each step."""
    v, membranes = np.full_like(x[0], op.v_rest), []
    for frame in x:
        membranes.append(op.charge(frame, v))
        _, (v,) = op.step((frame,), (v,))
    return np.stack(membranes)


def _same_membrane(op: Op, x: NDArray[np.float32], compared: NDArray[np.float32]) -> bool:
    """Whether the membrane minus the threshold is what the module compares with 0, to the last bit."""
    return isinstance(op, ir.Neuron) and np.array_equal(
        _membranes(op, x) - np.float32(op.v_threshold), compared
    )
