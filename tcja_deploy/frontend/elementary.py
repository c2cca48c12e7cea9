"""What each element-wise operation of torch is in the functions of a recurrence."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ELEMENTARY", "Constant", "Made", "Operand", "Unlike"]


class Unlike(Exception):  # noqa: N818
    """The code is not a neuron, or not arithmetic, of the kind that is looked for."""


Constant = float | NDArray[np.float32]
"""A number, or numbers that broadcast to a frame `[...features]`."""


@dataclass(eq=False)
class Made:
    """One number per element of a frame: the input of a step, a fill, or the result of a function.

    Attributes:
        function: As `ir.ops.arithmetic` has it; `input` and `fill` are none of those.
        operands: What it was computed from.
        step: The step in which it was computed; -1 if it depends on no input.
        value: The number, of what depends on no input.
        order: Grows from one to the next.
    """

    function: str
    operands: tuple[Operand, ...] = ()
    step: int = -1
    value: float | None = None
    order: int = field(default_factory=itertools.count().__next__)


Operand = Made | Constant


def _call(function: str, *operands: Any) -> Made:
    given: tuple[Operand, ...] = tuple(float(o) if isinstance(o, int | float) else o for o in operands)
    if any(not isinstance(o, Made | float | np.ndarray) for o in given):
        raise Unlike
    made = [o for o in given if isinstance(o, Made)]
    return Made(function, given, max((m.step for m in made), default=-1))


def _simple(function: str, arguments: int) -> Callable[..., Made]:
    def rule(*args: Any, **kwargs: Any) -> Made:
        if len(args) != arguments or kwargs:
            raise Unlike
        return _call(function, *args)

    return rule


def _sum(function: str, reverse: bool = False) -> Callable[..., Made]:
    def rule(a: Any, b: Any, alpha: float = 1) -> Made:
        if reverse:
            a, b = b, a
        if alpha != 1:
            if reverse:
                raise Unlike
            b = _call("mul", b, alpha)
        return _call(function, a, b)

    return rule


def _clamp(a: Any, low: Any = None, high: Any = None, **named: Any) -> Made:
    low, high = named.get("min", low), named.get("max", high)
    if low is not None:
        a = _call("max", a, low)
    made: Made = a if high is None else _call("min", a, high)
    return made


def _power(a: Any, exponent: Any) -> Made:
    if exponent == 2:
        return _call("mul", a, a)
    if exponent == 3:
        return _call("mul", _call("mul", a, a), a)
    if exponent == 0.5:
        return _call("sqrt", a)
    raise Unlike


ELEMENTARY: dict[str, Callable[..., Made]] = {
    **{name: _simple(name, 1) for name in ("abs", "ceil", "exp", "floor", "neg", "round", "sigmoid", "sign", "sqrt", "tanh")},
    **{name: _simple(name, 2) for name in ("eq", "ge", "gt", "le", "lt", "mul", "ne")},
    "add": _sum("add"),
    "bitwise_and": _simple("mul", 2),
    "bitwise_not": lambda a: _call("sub", 1.0, a),
    "bitwise_or": _simple("max", 2),
    "clamp": _clamp,
    "clamp_max": lambda a, high: _call("min", a, high),
    "clamp_min": lambda a, low: _call("max", a, low),
    "div": _simple("div", 2),
    "hardtanh": lambda a, low=-1.0, high=1.0: _clamp(a, low, high),
    "logical_and": lambda a, b: _call("mul", _call("ne", a, 0.0), _call("ne", b, 0.0)),
    "logical_not": lambda a: _call("eq", a, 0.0),
    "logical_or": lambda a, b: _call("max", _call("ne", a, 0.0), _call("ne", b, 0.0)),
    "masked_fill": lambda a, mask, value: _call("where", mask, value, a),
    "max": _simple("max", 2),
    "maximum": _simple("max", 2),
    "min": _simple("min", 2),
    "minimum": _simple("min", 2),
    "pow": _power,
    "reciprocal": lambda a: _call("div", 1.0, a),
    "relu": lambda a: _call("max", a, 0.0),
    "rsub": _sum("sub", reverse=True),
    "sgn": _simple("sign", 1),
    "square": lambda a: _call("mul", a, a),
    "sub": _sum("sub"),
    "where": _simple("where", 3),
}  # fmt: skip
"""The functions of a recurrence that each operation of torch becomes."""
