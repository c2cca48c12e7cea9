"""Writes down the element-wise arithmetic of a module while it runs: which numbers each result is computed from, and how.

Torch calls every operation on tensors here, whatever code made it: methods, autograd functions, scripted functions. Tensors
that depend on the input are frames of one step, or windows of frames; all others are constants with their values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tcja_deploy.frontend.elementary import ELEMENTARY, Constant, Made, Unlike
from tcja_deploy.ir.ops.arithmetic import COMPARISONS

__all__ = ["ArithmeticRecorder"]


@dataclass(eq=False)
class _Window:
    """Frames of all steps, `axis` telling which is time; some may be missing while it is being filled."""

    frames: list[Made | None]
    axis: int


@dataclass
class ArithmeticRecorder(TorchDispatchMode):
    """While it is active, operations on what depends on the input are written down.

    Attributes:
        shape: One frame `[N, ...features]`.
        steps: Steps of the window.
    """

    shape: tuple[int, ...]
    steps: int
    _now: int = 0
    _dated: int = -1
    _of: dict[int, Made | _Window] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)
    _places: dict[int, tuple[Tensor, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]

    # -- what goes in and comes out -----------------------------------------------------------------------------------
    def feed(self, x: Tensor, step: int) -> None:
        """Declare a tensor to be the frame of a step."""
        self._now = step
        self._note(x, Made("input", step=step))

    def feed_window(self, x: Tensor, axis: int) -> None:
        """Declare a tensor to be the frames of all steps."""
        self._note(x, _Window([Made("input", step=t) for t in range(self.steps)], axis))

    def frame(self, y: Any) -> Made:
        """What a frame was computed from.

        Raises:
            Unlike: If it is not a frame.
        """
        found = self._of.get(id(y))
        if not isinstance(found, Made) or tuple(y.shape) != self.shape:
            raise Unlike
        return found

    def window(self, y: Any) -> list[Made]:
        """The same for the frames of all steps.

        Raises:
            Unlike: If it is not a window.
        """
        found = self._of.get(id(y))
        if not isinstance(found, _Window):
            raise Unlike
        return self._complete(found)

    # -- operations ---------------------------------------------------------------------------------------------------
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, _, overload = str(func).removeprefix("aten.").partition(".")
        inplace = name.endswith("_") and not name.startswith("_")
        flat = [*args, *kwargs.values()]
        listed = [t for a in flat if isinstance(a, list | tuple) for t in a]
        known = any(id(t) in self._of for t in (*flat, *listed) if isinstance(t, Tensor))
        known = known and not self._is_blank(name, args)
        made: Any = None
        if known and not name.startswith(_VALUELESS):
            made = self._recorded(name.rstrip("_") if inplace else name, overload, args, kwargs)
        result = func(*args, **kwargs)
        if isinstance(made, Made) and made.step == -1 and made.value is None and isinstance(result, Tensor):
            first = float(result.flatten()[0])
            made.value = first if bool((result == first).all()) else None
        if not known or name.startswith(_VALUELESS):
            self._fill(name, result, args)
        if made is not None:
            self._store(args[0] if inplace else result, made)
        elif made is None and inplace and id(args[0]) in self._of and not name.startswith(_VALUELESS):
            raise Unlike  # what was known of it is no longer true
        return result

    def _is_blank(self, name: str, args: Any) -> bool:
        """Whether a call takes a step of a window that is still to be written there."""
        window = self._of.get(id(args[0])) if name == "select" else None
        return isinstance(window, _Window) and window.frames[args[2] % self.steps] is None

    def _note(self, tensor: Tensor, made: Made | _Window) -> None:
        self._kept.append(tensor)  # kept alive, so that its id is not used again
        self._of[id(tensor)] = made

    def _store(self, result: Any, made: Any) -> None:
        if isinstance(made, list):
            for part, frame in zip(result, made, strict=True):
                self._note(part, frame)
            return
        self._note(result, made)
        if id(result) in self._places:  # a part of a window that is being filled
            whole, axis, t = self._places[id(result)]
            filled = self._of.setdefault(id(whole), _Window([None] * self.steps, axis))
            if not isinstance(filled, _Window) or filled.axis != axis or not isinstance(made, Made):
                raise Unlike
            self._kept.append(whole)
            filled.frames[t] = made

    def _fill(self, name: str, result: Any, args: Any) -> None:
        """A frame filled with one number may be where a state begins; a step of a blank window is remembered."""
        if not isinstance(result, Tensor):
            return
        if name == "select" and args[0].numel() == self.steps * math.prod(self.shape):
            axis = args[1] % args[0].ndim
            if args[0].shape[axis] == self.steps:
                self._kept.append(result)
                self._places[id(result)] = (args[0], axis, args[2] % self.steps)
        elif tuple(result.shape) == self.shape and result.is_floating_point() and name in _FILLS:
            first = float(result.flatten()[0])
            if bool((result == first).all()):
                self._note(result, Made("fill", value=first))

    def _recorded(self, name: str, overload: str, args: Any, kwargs: Any) -> Any:
        """What the result is; `Unlike` if it is not arithmetic on elements."""
        if name in _SAME:
            return self._reshaped(name, args, kwargs)
        if name in _PARTS:
            return self._part(name, args, kwargs)
        if name in ("stack", "cat"):
            return self._joined(name, args, kwargs)
        if name == "index_put":
            target, (mask,), value = args[0], args[1], args[2]
            if mask.shape != target.shape or value.numel() != 1:
                raise Unlike
            return self._elementwise("masked_fill", (target, mask, value), {})
        return self._elementwise(name, args, kwargs)

    def _elementwise(self, name: str, args: Any, kwargs: Any) -> Made | _Window:
        if name not in ELEMENTARY:
            raise Unlike
        windows = [w for a in args if isinstance(w := self._of.get(id(a)), _Window)]
        if not windows:
            made = ELEMENTARY[name](*map(self._operand, args), **kwargs)
            self._date(made)
            return made
        axis, ndim = windows[0].axis, len(self.shape) + 1
        frames = []
        for t in range(self.steps):
            taken = [self._of_step(a, axis, ndim, t) for a in args]
            frames.append(ELEMENTARY[name](*taken, **kwargs))
        return _Window([*frames], axis)

    def _date(self, made: Made) -> None:
        """Results of single frames belong to the step that is running, whatever earlier one they are computed from."""
        work, last = [made], made.order
        while work:
            made = work.pop()
            for o in made.operands:
                if isinstance(o, Made) and o.function == "input":
                    self._now = max(self._now, o.step)
                elif isinstance(o, Made) and o.order > self._dated:
                    work.append(o)
            if made.step >= 0 and made.function != "input":
                made.step = self._now
        self._dated = last

    def _of_step(self, a: Any, axis: int, ndim: int, t: int) -> Any:
        """An argument of an operation on windows in one of its steps."""
        known = self._of.get(id(a)) if isinstance(a, Tensor) else None
        if isinstance(known, _Window):
            if known.axis != axis:
                raise Unlike
            return self._complete(known)[t]
        if isinstance(a, Tensor) and known is None and a.numel() > 1:
            whole = a.detach().reshape((1,) * (ndim - a.ndim) + tuple(a.shape))
            return self._constant(whole.select(axis, t if whole.shape[axis] > 1 else 0))
        if isinstance(known, Made):
            raise Unlike  # a frame beside all frames
        return self._operand(a)

    def _operand(self, a: Any) -> Any:
        """A frame or a constant; anything that is not a tensor as it is."""
        if not isinstance(a, Tensor):
            return a
        known = self._of.get(id(a))
        if isinstance(known, _Window):
            raise Unlike
        return self._constant(a) if known is None else known

    def _constant(self, a: Tensor) -> Constant:
        """The value of a tensor that no input changes, the same for all samples."""
        values = a.detach().to(torch.float32).numpy()
        if values.size and (values == values.flat[0]).all():
            return float(values.flat[0])
        if values.ndim > len(self.shape):
            raise Unlike
        if values.ndim == len(self.shape):
            if (values != values[:1]).any():
                raise Unlike
            values = values[0]
        return np.array(values, np.float32)

    def _complete(self, window: _Window) -> list[Made]:
        frames = [f for f in window.frames if f is not None]
        if len(frames) != self.steps:
            raise Unlike
        return frames

    # -- the same numbers in other shapes -----------------------------------------------------------------------------
    def _reshaped(self, name: str, args: Any, kwargs: Any) -> Made | _Window:
        source = args[1] if name == "copy" else args[0]
        known = self._of.get(id(source))
        if name == "copy" and known is None:  # a constant is written over a frame
            return Made("fill", value=_number(self._constant(source)))
        if name == "_to_copy" and not _keeps(kwargs.get("dtype"), known):
            raise Unlike
        if known is None:
            raise Unlike
        if isinstance(known, _Window) and name in ("transpose", "permute"):
            return self._turned(known, name, args)
        if name in ("transpose", "permute", "t") or (isinstance(known, _Window) and name in _SHAPES):
            raise Unlike
        return known if isinstance(known, Made) else _Window([*known.frames], known.axis)

    def _turned(self, window: _Window, name: str, args: Any) -> _Window:
        ndim = len(self.shape) + 1
        order = [*range(ndim)]
        if name == "transpose":
            a, b = (d % ndim for d in args[1:3])
            order[a], order[b] = order[b], order[a]
        else:
            order = [d % ndim for d in args[1]]
        if sorted(order[:2]) != [0, 1] or order[2:] != [*range(2, ndim)]:
            raise Unlike
        return _Window(window.frames, order.index(window.axis))

    def _part(self, name: str, args: Any, kwargs: Any) -> Any:
        known, axis = self._of.get(id(args[0])), int(args[1]) if len(args) > 1 else 0
        if (
            isinstance(known, Made)
            and name == "unbind"
            and tuple(args[0].shape) == (1, *self.shape)
            and axis == 0
        ):
            return [known]
        if isinstance(known, Made) and name == "select" and args[0].shape[axis] == 1:
            return known
        if name == "slice":
            start, stop, stride = [*args[2:], None, None, None][:3]
            if (
                known is None
                or start not in (None, 0)
                or (stop or args[0].shape[axis]) < args[0].shape[axis]
                or stride not in (None, 1)
            ):
                raise Unlike
            return known if isinstance(known, Made) else _Window(known.frames, known.axis)
        if not isinstance(known, _Window) or axis % (len(self.shape) + 1) != known.axis:
            raise Unlike
        if name == "unbind":
            return self._complete(known)
        if name == "select":
            frame = self._complete(known)[args[2] % self.steps]
            self._now = max(self._now, frame.step)
            return frame
        raise Unlike

    def _joined(self, name: str, args: Any, kwargs: Any) -> Made | _Window:
        parts: Sequence[Tensor] = args[0]
        axis = int(args[1] if len(args) > 1 else kwargs.get("dim", 0))
        frames = [self._of.get(id(p)) for p in parts]
        ndim = len(self.shape) + 1
        if len(parts) == 1 and self.steps > 1:
            if name == "stack" and axis == 0 and isinstance(frames[0], Made):
                return frames[0]
            raise Unlike
        whole = (*self.shape[: axis % ndim], 1, *self.shape[axis % ndim :])
        shaped = all(tuple(p.shape) == (self.shape if name == "stack" else whole) for p in parts)
        if len(parts) != self.steps or not shaped or not all(isinstance(f, Made) for f in frames):
            raise Unlike
        return _Window(list(frames), axis % ndim)  # type: ignore[arg-type]


_VALUELESS = (
    "full_like",
    "zeros_like",
    "ones_like",
    "empty_like",
    "new_",
    "is_",
    "sym_",
    "_has_",
    "zero_",
    "fill_",
)
"""Operations whose result holds no value of their tensors."""

_FILLS = ("full_like", "zeros_like", "ones_like", "full", "zeros", "ones", "new_zeros", "new_full", "new_ones", "clone", "mul",
          "add", "expand", "empty_like", "detach", "alias", "to", "_to_copy", "fill_", "zero_")  # fmt: skip
"""Operations that create a frame filled with one number."""

_SHAPES = ("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "expand", "flatten")
_SAME = (
    *_SHAPES,
    "clone",
    "detach",
    "alias",
    "contiguous",
    "lift_fresh",
    "_to_copy",
    "copy",
    "transpose",
    "permute",
    "t",
)
"""Operations that give the same numbers, in the same order if it is a frame."""

_PARTS = ("select", "unbind", "slice")


def _number(value: Constant) -> float:
    if not isinstance(value, float):
        raise Unlike
    return value


def _keeps(dtype: Any, known: Made | _Window | None) -> bool:
    """Whether numbers are the same in another type."""
    if dtype in (None, torch.float32):
        return True
    frames = known.frames if isinstance(known, _Window) else [known]
    return dtype is torch.bool and all(f is not None and f.function in COMPARISONS for f in frames)
