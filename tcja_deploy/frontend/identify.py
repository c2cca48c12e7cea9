"""System identification: which neuron a module of the user's own is, found by running it.

A candidate must work element by element, forward in time, and begin each window anew, which is tested. It is run in float64
on random frames, and every comparison that it makes is recorded, those inside of spike functions too. What it compares is the
membrane up to a constant, `c[t]`, and it fires where `c >= 0` or `c > 0`. Least squares then give
`c[t] = a c[t-1] + g X[t] + const` for steps after silence, after a spike, and for the first one, for each channel; the
residual must vanish. From these numbers the leak, gain, offset, threshold, reset and first membrane follow.

The constants are confirmed in float32 on other windows, in each known order of operations (`AffineNeuron`, `IF`, `LIF`,
`PLIF`): the first that gives the module's membranes and results bit for bit is taken. If none does, the first is taken with
which every neuron's first other spike lies within `NEAR` of the threshold, relative to the largest membrane.

Anything else is written out: `recurrences` finds the arithmetic of its steps, whatever that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tcja_deploy.frontend.confirm import Identified, confirmed, written_out
from tcja_deploy.frontend.elementary import Unlike
from tcja_deploy.frontend.probe import Box, Float64Array, Layout, random_frames
from tcja_deploy.ir import Op
from tcja_deploy.ir import ops as ir

__all__ = ["identify"]

_STEPS = 12
"""Steps of a window for modules that take any number."""

_RESIDUAL = 1e-7
"""Largest residual of the fit in float64, relative to the largest value: float32 constants inside the module make it 1e-8."""


def identify(module: nn.Module, features: tuple[int, ...], layout: Layout, T: int) -> Identified | None:
    """The neuron or leaky sum that a module is; `None` if it is neither, or not one of these kinds.

    Args:
        module: The module; a copy is run.
        features: One frame of one sample.
        layout: How it takes time.
        T: Steps of the window that it will get.
    """
    for size in _sizes(features):
        for steps in dict.fromkeys((_STEPS, T) if layout != "frame" else (_STEPS,)):
            box = Box(module, layout, size)
            try:
                if not box.sound(steps):
                    return None
                return _named(box, steps, features) or written_out(box, steps)
            except Unlike:
                return None
            except Exception:  # the user's code, on frames that it may not be made for
                continue
    return None


def _named(box: Box, steps: int, features: tuple[int, ...]) -> Identified | None:
    """One of the neurons and sums that have an op of their own."""
    try:
        return _neuron(box, steps, features)
    except Unlike:
        return None


def _sizes(features: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Frames to try it on: all channels at a few places, else as they are."""
    small = (*features[:1], *(min(n, 2) for n in features[1:]))
    yield small
    if small != features:
        yield features


# -- fitting ---------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Fit:
    """`c[t] = leak c[t-1] + gain X[t] + rest` after silence, `... + after` after a spike, `gain X[0] + first` at first.

    Each an array with an entry per channel; `soft` tells whether the leak holds after a spike too.
    """

    leak: Float64Array
    gain: Float64Array
    rest: Float64Array
    after: Float64Array
    first: Float64Array
    soft: bool


def _fit(c: Float64Array, fired: NDArray[np.bool_] | None, x: Float64Array) -> _Fit:
    """Raises `Unlike` if the numbers do not obey such a rule."""
    channels = x.shape[2] if x.ndim > 2 else 1
    columns: dict[str, list[float]] = {k: [] for k in ("leak", "gain", "rest", "after", "first")}
    kinds = set()
    for k in range(channels):
        pick: Any = (slice(None), slice(None), k) if x.ndim > 2 else slice(None)
        cs, xs = c[pick], x[pick]
        spiked = np.zeros(cs[:-1].shape, bool) if fired is None else fired[pick][:-1]
        a, g, rest = _solve(cs[1:][~spiked], cs[:-1][~spiked], xs[1:][~spiked])
        after = rest
        if spiked.any():
            a1, g1, after = _solve(cs[1:][spiked], cs[:-1][spiked], xs[1:][spiked])
            if abs(g1 - g) > 1e-6 or not (abs(a1) < 1e-6 or abs(a1 - a) < 1e-6):
                raise Unlike
            kinds.add("hard" if abs(a1) < 1e-6 else "soft")
        elif fired is not None:
            raise Unlike
        _, g0, first = _solve(cs[0], np.zeros_like(cs[0]), xs[0])
        if abs(g0 - g) > 1e-6:
            raise Unlike
        for name, value in zip(columns, (a, g, rest, after, first), strict=True):
            columns[name].append(_snapped(value))
    if len(kinds) > 1:
        raise Unlike
    return _Fit(**{k: np.array(v) for k, v in columns.items()}, soft=kinds == {"soft"})


def _solve(y: Float64Array, before: Float64Array, x: Float64Array) -> tuple[float, float, float]:
    """`y = a before + g x + const`, without residual."""
    if y.size < 4:
        raise Unlike
    known = np.stack([before.ravel(), x.ravel(), np.ones(y.size)], 1)
    scale = np.abs(known).max(0)
    scale[scale == 0] = 1
    solution = np.linalg.lstsq(known / scale, y.ravel(), rcond=None)[0] / scale
    if np.abs(known @ solution - y.ravel()).max() > _RESIDUAL * max(1.0, float(np.abs(y).max())):
        raise Unlike
    return float(solution[0]), float(solution[1]), float(solution[2])


def _snapped(value: float) -> float:
    """The number with few digits that is within the accuracy of the fit, if there is one."""
    for digits in (6, 9):
        if abs(round(value, digits) - value) < 1e-10 * max(1.0, abs(value)):
            return round(value, digits) + 0.0
    return value


# -- from numbers to ops -----------------------------------------------------------------------------------------------------
def _neuron(box: Box, steps: int, features: tuple[int, ...]) -> Identified | None:
    x = random_frames(np.random.default_rng(5), steps, box.features)
    found = box.run(x, torch.float64)
    for place, (c, strict) in enumerate(found.compared):
        fired = c > 0 if strict else c >= 0
        if not 0 < fired[:-1].mean() < 1:
            continue
        try:
            fit = _fit(c, fired, x)
        except Unlike:
            continue
        if np.array_equal(found.y != 0, fired) and np.ptp(found.y[fired]) == 0:
            height = float(found.y[fired][0])
            ops = [(op,) for op in _spiking(fit, strict, box)]
            return confirmed(box, steps, [o if height == 1 else (*o, ir.Affine(height)) for o in ops], place)
        analog = _analog(fit, strict, c, found.y)
        if analog:
            return confirmed(box, steps, analog)
    if found.compared:
        return None
    fit = _fit(found.y, None, x)
    if np.all(np.abs(fit.leak) < 1e-9):
        return None  # no memory: plain arithmetic, which the tracer reads
    return confirmed(box, steps, [(op,) for op in _sums(fit)])


def _thresholds(fit: _Fit, told: list[float]) -> list[Float64Array]:
    """What may be added to `c` to get the membrane.

    The first membrane is then the input alone, or the rest is 0, or a number of the module is the threshold.
    """
    away = np.where(fit.leak == 1, 1.0, 1 - fit.leak)
    return [-fit.first, -fit.rest / away, *(np.full_like(fit.first, n) for n in dict.fromkeys([0.0, *told]))]


def _spiking(fit: _Fit, strict: bool, box: Box) -> Iterator[Op]:
    """Neurons with these numbers, in every order of operations that is known."""
    for shift in _thresholds(fit, box.numbers):
        if np.ptp(shift) > 1e-9 * max(1.0, float(np.abs(shift).max())):
            continue  # a threshold for each channel
        theta = _snapped(float(shift[0]))
        offset = fit.rest + theta * (1 - fit.leak)
        safe = np.where(fit.leak == 0, 1.0, fit.leak)
        reset = np.where(fit.leak == 0, 0.0, (fit.after + theta - offset) / safe)
        drop = np.where(fit.leak == 0, theta, (fit.rest - fit.after) / safe)
        initial = np.where(fit.leak == 0, 0.0, (fit.first + theta - offset) / safe)
        told = drop if fit.soft else reset
        if max(np.ptp(told), np.ptp(initial)) > 1e-7:
            continue
        v_reset, v_drop = (None, _snapped(float(drop[0]))) if fit.soft else (_snapped(float(reset[0])), theta)
        firing: dict[str, Any] = {"v_threshold": theta, "v_reset": v_reset, "strict": strict}
        rest = 0.0 if v_reset is None else v_reset
        begun = _snapped(float(initial[0]))
        plain = (
            abs(begun - rest) < 1e-7
            and v_drop == theta
            and np.abs(offset - (1 - fit.leak) * rest).max() < 1e-7
        )
        for leak in _neighbours(fit.leak):
            yield ir.AffineNeuron(
                **firing, leak=_constant(leak, box.features), offset=_constant(offset, box.features),
                gain=_constant(fit.gain, box.features), v_initial=begun, drop=None if v_drop == theta else v_drop,
            )  # fmt: skip
        if plain and np.ptp(fit.leak) == np.ptp(fit.gain) == 0 and rest < theta:
            yield from _plain(float(fit.leak[0]), float(fit.gain[0]), firing)


def _plain(a: float, g: float, firing: dict[str, Any]) -> Iterator[Op]:
    """SpikingJelly's neurons."""
    if abs(a - 1) < 1e-9:
        if g == 1:
            yield ir.IF(**firing)
        return
    q = _snapped(1 - a)
    divided = abs(g - q) < 1e-7
    if not (divided or g == 1) or not 0 < q <= 1:
        return
    yield ir.LIF(**firing, tau=_snapped(1 / q), decay_input=divided)
    for decay in _neighbours(np.array([q])):
        yield ir.PLIF(**firing, decay=float(decay[0]), decay_input=divided)


def _analog(fit: _Fit, strict: bool, c: Float64Array, y: Float64Array) -> list[tuple[Op, ...]]:
    """Neurons that pass on their membrane, rectified or not."""
    positive = y > 0
    if not positive.any() or np.ptp(fit.leak) or np.ptp(fit.gain):
        return []
    theta = _snapped(float(np.median((y - c)[positive])))
    size = 1e-7 * max(1.0, float(np.abs(y).max()))
    ops: list[Op] = []
    if np.abs(y - np.maximum(c + theta, 0)).max() < size and (y == 0).any():
        ops = [ir.ReLU()]
    elif np.abs(y - c - theta).max() > size:
        return []
    a, g = float(fit.leak[0]), float(fit.gain[0])
    offset = float(fit.rest[0]) + theta * (1 - a)
    if fit.soft and abs(float(fit.rest[0] - fit.after[0]) - a * theta) > 1e-7:
        return []
    reset = None if fit.soft else _snapped((float(fit.after[0]) + theta - offset) / a) if a else 0.0
    begun = _snapped((float(fit.first[0]) + theta - offset) / a) if a else 0.0
    made = []
    for leak in _neighbours(np.array([a])):
        made.append(
            (
                ir.AffineIntegrator(
                    leak=np.asarray(leak, np.float32),
                    offset=np.array([_snapped(offset)], np.float32),
                    gain=np.array([g], np.float32),
                    v_initial=begun,
                    v_threshold=theta,
                    v_reset=reset,
                    strict=strict,
                ),
                *ops,
            )
        )
    return made


def _sums(fit: _Fit) -> Iterator[Op]:
    """Leaky sums."""
    if np.ptp(fit.leak) or np.ptp(fit.gain) or np.ptp(fit.rest) or np.ptp(fit.first):
        return
    a, g, b = float(fit.leak[0]), float(fit.gain[0]), float(fit.rest[0])
    begun = _snapped((float(fit.first[0]) - b) / a)
    if a == 1 and g == 1 and b == begun == 0:
        yield ir.LI(0.0, decay_input=False)
    for leak in _neighbours(fit.leak[:1]):
        yield ir.AffineIntegrator(
            leak.astype(np.float32), np.array([b], np.float32), np.array([g], np.float32), begun
        )
    q = 1 - a
    if b == begun == 0 and 0 < q <= 1 and (g == 1 or abs(g - q) < 1e-7):
        for decay in _neighbours(np.array([q])):
            yield ir.LI(float(decay[0]), decay_input=abs(g - q) < 1e-7)


def _neighbours(values: Float64Array) -> Iterator[NDArray[np.float32]]:
    """A constant in float32, and the numbers beside it: the module may have rounded on its way there."""
    middle = values.astype(np.float32)
    yield middle
    for towards in (np.inf, -np.inf):
        yield np.nextafter(middle, np.float32(towards))


def _constant(values: NDArray[np.floating[Any]], features: tuple[int, ...]) -> NDArray[np.float32]:
    if np.ptp(values) == 0:
        return values[:1].astype(np.float32)
    return values.astype(np.float32).reshape(-1, *(1,) * (len(features) - 1))
