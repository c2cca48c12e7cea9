"""Running one of the user's modules as a black box: small windows, what comes out, and what it compares on the way."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tcja_deploy.frontend.elementary import Unlike
from tcja_deploy.frontend.subject import copied

__all__ = ["Box", "Float64Array", "Layout", "random_frames"]

Float64Array = NDArray[np.float64]

Layout = Literal["frame", "time first", "batch first"]
"""What the module takes: one frame after the other, `[T, N, ...]` or `[N, T, ...]`."""

_SAMPLES = 10
_SCALES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Sizes of random input; each window holds samples of all of them."""


Noted = TypeVar("Noted")


class ArithmeticLog(AbstractContextManager[Any], Protocol[Noted]):
    """What records the arithmetic of a module, as the box uses it."""

    def feed(self, x: Tensor, step: int) -> None:
        """Declare a tensor to be the frame of a step."""

    def feed_window(self, x: Tensor, axis: int) -> None:
        """Declare a tensor to be the frames of all steps."""

    def frame(self, y: Any) -> Noted:
        """What a frame was computed from."""

    def window(self, y: Any) -> list[Noted]:
        """What the frames of all steps were computed from."""


class _Comparisons(TorchDispatchMode):
    """Writes down what is compared: differences `c`, and whether it asks for `c > 0` or `c >= 0`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.found: list[tuple[Tensor, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).split(".")[1]
        if name in ("ge", "gt", "le", "lt") and isinstance(result, Tensor):
            c = args[0] - args[1] if name in ("ge", "gt") else args[1] - args[0]
            self.found.append((c.detach().clone(), name in ("gt", "lt")))
        return result


@dataclass(frozen=True)
class _Run:
    """Results `[T, N, ...]` of a window, and what was compared in it, of the same shape each."""

    y: Float64Array
    compared: list[tuple[Float64Array, bool]]


class Box:
    """The module, run on windows `[T, N, ...]` of small frames."""

    def __init__(self, module: nn.Module, layout: Layout, features: tuple[int, ...]) -> None:
        self._module, self._layout, self.features = module, layout, features

    @property
    def numbers(self) -> list[float]:
        """The numbers among the module's attributes."""
        return [float(v) for v in vars(self._module).values() if type(v) in (int, float)]

    def fresh(self, dtype: torch.dtype) -> nn.Module:
        """A copy that has forgotten everything."""
        module = copied(self._module).to("cpu", dtype).eval()
        for part in module.modules():
            reset = getattr(part, "reset", None)
            if callable(reset) and not isinstance(reset, nn.Module):
                try:
                    reset()
                except TypeError:
                    continue
        return module

    @property
    def samples(self) -> int:
        """Samples of each window."""
        return _SAMPLES

    @property
    def recordings(self) -> tuple[Layout, ...]:
        """How its arithmetic may be recorded.

        SpikingJelly's modules first in single steps, because their windows may run in special kernels.
        """
        windows = self._layout != "frame" and getattr(self._module, "step_mode", None) == "m"
        return ("frame", self._layout) if windows else (self._layout,)

    def record(self, recorder: ArithmeticLog[Noted], steps: int, layout: Layout) -> list[Noted]:
        """Run it on a window in one of the layouts of `recordings` while its arithmetic is recorded; what each step gives."""
        module = self.fresh(torch.float32)
        if layout != self._layout:
            for part in module.modules():
                if hasattr(part, "step_mode"):
                    setattr(part, "step_mode", "s")  # noqa: B010 -- a property of SpikingJelly's own
        x = random_frames(np.random.default_rng(5), steps, self.features)
        frames = torch.from_numpy(x).float()
        with torch.no_grad(), recorder:
            if layout == "frame":
                results = []
                for t, frame in enumerate(frames.unbind()):
                    given = frame.clone()
                    recorder.feed(given, t)
                    results.append(recorder.frame(module(given)))
                return results
            axis = int(layout == "batch first")
            window = frames.transpose(0, axis).clone()
            recorder.feed_window(window, axis)
            return recorder.window(module(window))

    def run(self, x: Float64Array, dtype: torch.dtype, module: nn.Module | None = None) -> _Run:
        """Run it on a window, as a fresh copy if no `module` is given."""
        module = self.fresh(dtype) if module is None else module
        frames = torch.from_numpy(x).to(dtype)
        watch = _Comparisons()
        with torch.no_grad(), watch:
            if self._layout == "frame":
                y = torch.stack([_tensor(module(f.clone())) for f in frames])
            elif self._layout == "time first":
                y = _tensor(module(frames.clone()))
            else:
                y = _tensor(module(frames.transpose(0, 1).clone())).transpose(0, 1)
        if y.shape != frames.shape:
            raise ValueError("another number of steps or elements")
        return _Run(y.double().numpy(), _per_step(watch.found, x.shape, self._layout))

    def sound(self, steps: int) -> bool:
        """Whether it works element by element, forward in time, and begins each window anew."""
        rng = np.random.default_rng(3)
        x = random_frames(rng, steps, self.features)
        y = self.run(x, torch.float64).y
        other = rng.random(x.shape[1:]) < 0.5
        changed = np.where(other[None], x + rng.normal(0, 1, x.shape), x)
        later = np.concatenate([x[: steps // 2], rng.normal(0, 1, x[steps // 2 :].shape)])
        by_element = np.array_equal(self.run(changed, torch.float64).y[:, ~other], y[:, ~other])
        causal = np.array_equal(self.run(later, torch.float64).y[: steps // 2], y[: steps // 2])
        if not (by_element and causal and np.array_equal(self.run(x, torch.float64).y, y)):
            return False
        if self._layout == "frame":
            return True
        again = self.fresh(torch.float64)
        self.run(x, torch.float64, again)
        if hasattr(again, "_memories"):
            getattr(again, "reset")()  # noqa: B009 -- SpikingJelly's own go on where they stopped, until they are reset
        return np.array_equal(self.run(x, torch.float64, again).y, y)


def _tensor(result: Any) -> Tensor:
    if not isinstance(result, Tensor):
        raise Unlike
    return result.detach()


def _per_step(
    found: list[tuple[Tensor, bool]], shape: tuple[int, ...], layout: Layout
) -> list[tuple[Float64Array, bool]]:
    """Comparisons of whole windows as they are, and those of single steps put together."""
    result = []
    frame = math.prod(shape[1:])
    for c, strict in found:
        if c.numel() == math.prod(shape):
            whole = c.double().numpy()
            batch_first = layout == "batch first" and c.shape[0] == shape[1]
            result.append(((whole.swapaxes(0, 1) if batch_first else whole).reshape(shape), strict))
    steps = [(c.double().numpy().reshape(shape[1:]), strict) for c, strict in found if c.numel() == frame]
    each = len(steps) // shape[0]
    if each and len(steps) == each * shape[0]:
        result += [(np.stack([c for c, _ in steps[i::each]]), steps[i][1]) for i in range(each)]
    return result


def random_frames(rng: np.random.Generator, steps: int, features: tuple[int, ...]) -> Float64Array:
    """A window `[T, N, ...]` of normal numbers, small ones in some samples and large ones in others."""
    x = rng.normal(0.3, 1, (steps, _SAMPLES, *features))
    scaled: Float64Array = x * np.resize(_SCALES, _SAMPLES).reshape(1, -1, *(1,) * len(features))
    return scaled
