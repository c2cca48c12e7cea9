"""The elementary functions that a recurrence is written in: what each computes, on numbers and on sets of possible values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tcja_deploy.ir.op import Array
from tcja_deploy.ir.ops.numeric import float32, sigmoid

__all__ = ["COMPARISONS", "FUNCTIONS", "ROUNDINGS", "Range"]

COMPARISONS = ("ge", "gt", "le", "lt", "eq", "ne")
"""Functions that give 1 where a relation holds and 0 where not."""

ROUNDINGS = ("round", "floor", "ceil")
"""Functions that give integers."""

FUNCTIONS: Mapping[str, tuple[int, Callable[..., Array]]] = {
    "abs": (1, np.abs),
    "add": (2, np.add),
    "ceil": (1, np.ceil),
    "div": (2, np.divide),
    "eq": (2, lambda a, b: float32(a == b)),
    "exp": (1, np.exp),
    "floor": (1, np.floor),
    "ge": (2, lambda a, b: float32(a >= b)),
    "gt": (2, lambda a, b: float32(a > b)),
    "le": (2, lambda a, b: float32(a <= b)),
    "lt": (2, lambda a, b: float32(a < b)),
    "max": (2, np.maximum),
    "min": (2, np.minimum),
    "mul": (2, np.multiply),
    "ne": (2, lambda a, b: float32(a != b)),
    "neg": (1, np.negative),
    "round": (1, np.round),
    "sigmoid": (1, lambda a: sigmoid(float32(a))),
    "sign": (1, np.sign),
    "sqrt": (1, np.sqrt),
    "sub": (2, np.subtract),
    "tanh": (1, np.tanh),
    "where": (3, lambda c, a, b: float32(np.asarray(np.where(c != 0, a, b)))),
}
"""Each function by name: how many arguments it takes and what it computes, in float32. `round` goes to the nearest integer,
halves to the even one; `where(c, a, b)` is `a` where `c` is not 0."""

_MANY = 64
"""Largest number of values that a set of possible ones keeps."""


@dataclass(frozen=True)
class Range:
    """What values a number can take.

    Attributes:
        low: Smallest.
        high: Largest.
        values: All of them, if they are few and known.
        whole: Whether they are integers.
        silent: Whether most are expected to be 0: products with a spike, rectified numbers.
    """

    low: float = -math.inf
    high: float = math.inf
    values: frozenset[float] | None = None
    whole: bool = False
    silent: bool = False

    @classmethod
    def of(cls, values: frozenset[float]) -> Range:
        """One of a few numbers."""
        return cls(min(values), max(values), values, all(v.is_integer() for v in values), 0.0 in values)

    @classmethod
    def computed(cls, function: str, *args: Range) -> Range:
        """The range of a function's result."""
        known = [a.values for a in args]
        if function in COMPARISONS:
            return cls.of(frozenset((0.0, 1.0)))
        if all(known) and math.prod(len(k) for k in known if k) <= _MANY:
            compute = FUNCTIONS[function][1]
            with np.errstate(all="ignore"):
                found = {
                    float(compute(*map(np.float32, given)))
                    for given in itertools.product(*(k or () for k in known))
                }
            if all(map(math.isfinite, found)):
                return cls.of(frozenset(found))
        return _bounded(function, *args)


_ROUNDINGS: dict[str, Callable[[float], int]] = {"round": round, "floor": math.floor, "ceil": math.ceil}


def _bounded(function: str, *args: Range) -> Range:
    """The range of a result by the bounds of its arguments."""
    first = args[0]
    match function:
        case "max" | "min":
            choose, other = (max if function == "max" else min), args[1]
            low, high = choose(first.low, other.low), choose(first.high, other.high)
            return Range(low, high, None, first.whole and other.whole, low == 0 or high == 0)
        case "round" | "floor" | "ceil":
            rounding = _ROUNDINGS[function]
            bounds = [v if math.isinf(v) else float(rounding(v)) for v in (first.low, first.high)]
            few = math.isfinite(bounds[1] - bounds[0]) and bounds[1] - bounds[0] < _MANY
            values = frozenset(map(float, range(int(bounds[0]), int(bounds[1]) + 1))) if few else None
            return Range.of(values) if values else Range(bounds[0], bounds[1], None, True, first.silent)
        case "sign":
            return Range.of(frozenset((-1.0, 0.0, 1.0)))
        case "neg":
            return Range(-first.high, -first.low, None, first.whole, first.silent)
        case "abs":
            return Range(0.0, max(abs(first.low), abs(first.high)), None, first.whole, first.silent)
        case "mul":
            ends = [0.0 if not a or not b else a * b for a in _ends(first) for b in _ends(args[1])]
            whole, silent = first.whole and args[1].whole, first.silent or args[1].silent
            return Range(min(ends), max(ends), None, whole, silent)
        case "add" | "sub":
            other = args[1] if function == "add" else _bounded("neg", args[1])
            whole, silent = first.whole and other.whole, first.silent and other.silent
            return Range(first.low + other.low, first.high + other.high, None, whole, silent)
        case "div":
            return Range(silent=first.silent)
        case "where":
            _, a, b = args
            either = a.values | b.values if a.values is not None and b.values is not None else None
            if either is not None and len(either) <= _MANY:
                return Range.of(either)
            silent = any(r.values == frozenset((0.0,)) for r in (a, b)) or (a.silent and b.silent)
            return Range(min(a.low, b.low), max(a.high, b.high), None, a.whole and b.whole, silent)
        case "sigmoid":
            return Range(0.0, 1.0)
        case "tanh":
            return Range(-1.0, 1.0, silent=first.silent)
        case "sqrt" | "exp":
            return Range(0.0, silent=first.silent and function == "sqrt")
    return Range()


def _ends(r: Range) -> tuple[float, float]:
    return r.low, r.high
