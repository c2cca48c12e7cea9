"""Preallocated tensors, such as `torch.zeros(N, T, C)`, that a loop over time fills or adds to.

Tracing sees no real batch, so nothing of the size of a batch is allocated: a blank is its shape and one number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tcja_deploy.frontend.by_hand import RECURRENT
from tcja_deploy.frontend.loops import TimeLoops
from tcja_deploy.frontend.traced import SAMPLES, Blank, Traced, tensors_in
from tcja_deploy.ir import Kind, Signal
from tcja_deploy.unsupported import Unsupported

__all__ = ["Blanks", "factories"]

_FILLS = {"zeros": 0.0, "ones": 1.0, "empty": 0.0, "full": None}
_FACTORIES = {getattr(torch, name): fill for name, fill in _FILLS.items()}


@contextmanager
def factories(blank: Callable[[tuple[int, ...], float], Any]) -> Iterator[None]:
    """Within the block, tensors of the size of the batch are made by `blank(shape, fill)`."""

    class _Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func in _FACTORIES:
                made = _size_and_fill(_FACTORIES[func], args, kwargs)
                if made is not None and any(n and n % SAMPLES == 0 for n in made[0]):
                    return blank(*made)
            return func(*args, **kwargs)

    with _Mode():
        yield


def _size_and_fill(fill: float | None, args: Any, kwargs: Any) -> tuple[tuple[int, ...], float] | None:
    if "size" in kwargs:
        args = (kwargs["size"], *args)
    if fill is None:
        fill = kwargs.get("fill_value", args[1] if len(args) > 1 else None)
        args = args[:1]
    size = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
    numbers = all(isinstance(n, int) for n in size) and isinstance(fill, int | float)
    return (tuple(size), float(fill)) if numbers and fill is not None else None


class Blanks:
    """What code does with preallocated tensors.

    Args:
        context: The tracer.
        loops: Puts frames of all steps together.
        name_of: Name of an operation.
    """

    def __init__(self, context: Any, loops: TimeLoops, name_of: Callable[[str, Any], str]) -> None:
        self._context, self._loops, self._name_of = context, loops, name_of

    def new(self, shape: tuple[int, ...], fill: float) -> Traced:
        """A blank."""
        return Traced("", Signal((), Kind.REAL), "window", blank=Blank(tuple(shape), float(fill)))

    def call(self, name: str, kind: str, target: Any, args: Any, kwargs: Any) -> Traced | Blanks | None:
        """A blank that a call makes, `self` for a part written into one, `None` for all other calls."""
        first = args[0] if args else None
        for prefix, fill in _FILLS.items():
            if not isinstance(first, Traced) or name not in (f"{prefix}_like", f"new_{prefix}"):
                continue
            if name.endswith("_like"):
                value = (
                    fill if fill is not None else kwargs.get("fill_value", args[1] if len(args) > 1 else 0)
                )
                return self.new(first.shape(self._context.T), float(value))
            made = _size_and_fill(fill, args[1:], kwargs)
            return None if made is None else self.new(*made)
        if name == "setitem" and isinstance(first, Traced) and first.blank is not None:
            self._write(first.blank, args[1], args[2])
            return self
        return None

    def _write(self, blank: Blank, index: Any, value: Any) -> None:
        items = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in items:
            i = items.index(Ellipsis)
            items[i : i + 1] = [slice(None)] * (len(blank.shape) + 1 - len(items))
        numbers = [i for i, item in enumerate(items) if type(item) is int]
        rest = all(item == slice(None) for i, item in enumerate(items) if i not in numbers)
        if len(numbers) != 1 or not rest or (blank.parts and blank.axis != numbers[0]):
            raise Unsupported(
                "writes into part of a preallocated tensor other than one time step",
                "collect the steps in a list and stack them",
            )
        if isinstance(value, Traced) and value.blank is None:
            blank.axis = numbers[0]
            blank.parts[items[blank.axis] % blank.shape[blank.axis]] = value

    def read(self, value: Any) -> Any:
        """Arguments with what the blanks among them hold now.

        Raises:
            Unsupported: If some of a blank was written, but not every time step.
        """
        if isinstance(value, Traced) and value.blank is not None:
            return self._content(value.blank)
        if isinstance(value, dict):
            return {k: self.read(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.read(v) for v in value)
        return value

    def _content(self, blank: Blank) -> Any:
        if not blank.parts:
            return torch.full((), blank.fill).expand(blank.shape)
        order = range(blank.shape[blank.axis])
        joined = self._loops.join([blank.parts.get(i) for i in order], blank.axis, new=True)
        if joined is None:
            self._context.report(
                self._loops.refusal(
                    "fills a preallocated tensor other than step by step with the frames of one stream"
                )
            )
            return next(iter(blank.parts.values()))
        return joined

    def computed(self, target: Any, kind: str, args: Any, kwargs: Any) -> Any:
        """The result of a call without any signal; of the size of the batch it is a blank again."""
        if tensors_in((args, kwargs)):
            raise TypeError("a signal among constants")
        if kind == "call_module" or self._name_of(kind, target) in _WEIGHTED:
            raise Unsupported(
                "feeds a state of the previous step to a layer: the network is recurrent", RECURRENT
            )
        uniform = [a for a in (*args, *kwargs.values()) if _is_uniform(a)]
        plain = all(_is_uniform(a) or not isinstance(a, torch.Tensor) for a in (*args, *kwargs.values()))
        if kind == "call_method":
            target = getattr(torch.Tensor, target)
        if not plain or not uniform:
            return target(*args, **kwargs)
        if self._name_of(kind, target) in _ELEMENTWISE:
            small = [a.new_full((), float(a[(0,) * a.ndim])) if _is_uniform(a) else a for a in args]
            shape = torch.broadcast_shapes(*(a.shape for a in uniform))
            return self.new(shape, float(target(*small, **kwargs)))
        result = target(*args, **kwargs)
        return self.new(result.shape, float(result[(0,) * result.ndim])) if _is_uniform(result) else result


_WEIGHTED = {"addmm", "baddbmm", "bmm", "conv1d", "conv2d", "conv3d", "einsum", "linear", "matmul", "mm"}
"""Functions that layers are made of."""

_ELEMENTWISE = {
    "add",
    "sub",
    "mul",
    "div",
    "truediv",
    "true_divide",
    "rsub",
    "neg",
    "iadd",
    "isub",
    "imul",
    "clone",
    "float",
    "to",
}


def _is_uniform(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() > 0 and not any(value.stride())
