"""What a written-out neuron is beyond the neurons of targets, and the current-based neuron that some of them are.

A step is computed twice with numbers that are sums of the input, the states and a constant: once as if the neuron had not
fired, once as if it had. Whatever is not such a sum does not fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tcja_deploy.ir.ops import LI, PLIF, Recurrence
from tcja_deploy.ir.ops.arithmetic import COMPARISONS, FUNCTIONS
from tcja_deploy.unsupported import Unsupported

__all__ = ["CurrentBased", "current_based", "why_not_leaky"]

_CLOSE = 1e-6
"""Relative difference up to which two parameters are taken to be equal: they are quotients of float32 numbers."""

_INPUT, _CONSTANT = "x", "1"
_NAMES = {
    "abs": "takes the absolute value of", "ceil": "rounds", "exp": "takes the exponential of", "floor": "rounds",
    "max": "limits", "min": "limits", "round": "rounds", "sigmoid": "takes the sigmoid of", "sign": "takes the sign of",
    "sqrt": "takes the square root of", "tanh": "takes the hyperbolic tangent of",
}  # fmt: skip
"""What functions that are not sums do, as a predicate."""


@dataclass(frozen=True)
class CurrentBased:
    """A neuron with a synaptic current: `I = (1 - q_I) I + X` and `H = (1 - q) V + q V_rest + I`, which fires and is reset.

    Attributes:
        current: The current.
        neuron: The membrane that it flows into.
        gain: The factor of the input.
    """

    current: LI
    neuron: PLIF
    gain: float


@dataclass(frozen=True)
class _Sum:
    """Coefficients of the input, the states (by their numbers) and the constant 1; those that are 0 are left out."""

    terms: dict[int | str, float]

    @classmethod
    def of(cls, terms: dict[int | str, float]) -> _Sum:
        return cls({k: v for k, v in terms.items() if v})

    def __getitem__(self, term: int | str) -> float:
        return self.terms.get(term, 0.0)

    def plus(self, other: _Sum, factor: float = 1.0) -> _Sum:
        keys = {**self.terms, **other.terms}
        return _Sum.of({k: self[k] + factor * other[k] for k in keys})

    def times(self, factor: float) -> _Sum:
        return _Sum.of({k: v * factor for k, v in self.terms.items()})

    @property
    def number(self) -> float | None:
        """Its value, if it is a constant."""
        return self[_CONSTANT] if self.terms.keys() <= {_CONSTANT} else None


_Both = tuple[_Sum, _Sum]
"""A value if the neuron has not fired, and if it has."""


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_CLOSE, abs_tol=_CLOSE)


class _Step:
    """One step of a recurrence.

    Attributes:
        compared: What is compared, less what it is compared with; the neuron fires where it is above 0.
        strict: Whether it has to be above.
        after: What each state holds afterwards.

    Raises:
        Unsupported: Names the first thing that is not a sum, or not part of a neuron.
    """

    _fires: _Both | None = None

    def __init__(self, op: Recurrence) -> None:
        self._op, self.compared, self.strict = op, _Sum({}), False
        result, self.after, _ = op.computed(
            _both(_Sum({_INPUT: 1.0})),
            [_both(_Sum({i: 1.0})) for i in range(len(op.initial))],
            self._row,
            lambda number: _both(_Sum.of({_CONSTANT: number})),
            self._call,
        )
        if self._fires is None:
            raise Unsupported("never compares its membrane with a threshold")
        if result != self._fires:
            raise Unsupported("passes on something other than spikes of 0 and 1")

    def _row(self, k: int) -> _Both:
        values = self._op.table[k]
        if self._op.per_step:
            raise Unsupported("has constants that differ from step to step")
        if (values != values.flat[0]).any():
            raise Unsupported("has constants for each channel")
        return _both(_Sum.of({_CONSTANT: float(values.flat[0])}))

    def _call(self, function: str, *given: _Both) -> _Both:
        if function in COMPARISONS:
            return self._compared(function, *given)
        if function == "where" and given[0] == self._fires:
            return given[2][0], given[1][1]
        found = [_call(function, *(value[fired] for value in given)) for fired in (0, 1)]
        return found[0], found[1]

    def _compared(self, function: str, a: _Both, b: _Both) -> _Both:
        known = [(p.number, q.number) for p, q in zip(a, b, strict=True)]
        if a[0] != a[1] and all(p is not None and q is not None for p, q in known):  # such as `spike > 0`
            found = [float(FUNCTIONS[function][1](*map(np.float32, pair))) for pair in known]
            return _Sum.of({_CONSTANT: found[0]}), _Sum.of({_CONSTANT: found[1]})
        if function not in ("ge", "gt", "le", "lt") or a[0] != a[1] or b[0] != b[1]:
            raise Unsupported("compares more than its membrane with one threshold")
        if function in ("le", "lt"):
            a, b = b, a
        if self._fires is not None:
            raise Unsupported("compares more than its membrane with one threshold")
        self.compared, self.strict = a[0].plus(b[0], -1.0), function in ("gt", "lt")
        self._fires = _Sum({}), _Sum({_CONSTANT: 1.0})
        return self._fires


def _both(value: _Sum) -> _Both:
    return value, value


def _call(function: str, *given: _Sum) -> _Sum:
    numbers = [value.number for value in given]
    match function, given, numbers:
        case "add", (a, b), _:
            return a.plus(b)
        case "sub", (a, b), _:
            return a.plus(b, -1.0)
        case "neg", (a,), _:
            return a.times(-1.0)
        case "mul", (a, _), (_, float(factor)):
            return a.times(factor)
        case "mul", (_, b), (float(factor), _):
            return b.times(factor)
        case "div", (a, _), (_, float(divisor)) if divisor:
            return a.times(1.0 / divisor)
        case (("mul" | "div"), _, _):
            raise Unsupported("multiplies its membrane, input or states by each other")
    raise Unsupported(f"{_NAMES.get(function, f'computes {function} of')} its membrane or input")


def current_based(op: Recurrence) -> CurrentBased:
    """The current-based neuron that computes the same up to rounding.

    Raises:
        Unsupported: If there is none; names what does not fit.
    """
    step = _Step(op)
    if len(op.initial) != 2:
        raise Unsupported(
            f"has {len(op.initial)} states"
            if op.initial[1:]
            else "changes its membrane by something other than a leak"
        )
    for current, membrane in ((0, 1), (1, 0)):
        silent, fired = step.after[current]
        if silent == fired and silent.terms.keys() <= {current, _INPUT}:
            return _flowing(op, step, current, membrane)
    raise Unsupported("has a second state that is not a leaky sum of its input")


def _flowing(op: Recurrence, step: _Step, current: int, membrane: int) -> CurrentBased:
    """Raises `Unsupported` if what a current flows into is not a leaky membrane."""
    into, _ = step.after[current]
    silent, fired = step.after[membrane]
    keep, inlet = into[current], into[_INPUT]
    left, flow = silent[membrane], silent[_INPUT]
    offset, q = silent[_CONSTANT], 1.0 - left
    if not 0 <= keep < 1 or not 0 < q <= 1:
        raise Unsupported("has a current or a membrane that does not leak")
    if not inlet or not flow / inlet > 0 or not _near(silent[current], keep * flow / inlet):
        raise Unsupported("adds something other than its current to the membrane")
    if flow < 0:
        raise Unsupported(f"multiplies its input by {flow:g}, which is not positive")
    threshold = silent.plus(step.compared, -1.0).number
    if threshold is None:
        raise Unsupported("compares something other than its membrane with a threshold")
    if fired.number is None:
        raise Unsupported("lowers its membrane by a spike (soft reset), or keeps a part of it")
    rest, begun = offset / q, op.initial[membrane]
    if not _near(rest, fired.number):
        raise Unsupported(f"leaks to {rest:g} but is reset to {fired.number:g}")
    if not _near(begun, fired.number) or op.initial[current]:
        raise Unsupported("begins with a current, or with a membrane that is not the reset value")
    if fired.number >= threshold:
        raise Unsupported(f"its threshold {threshold:g} is not above its reset {fired.number:g}")
    neuron = PLIF(threshold, fired.number, step.strict, decay=q, decay_input=False)
    return CurrentBased(LI(1.0 - keep, decay_input=False), neuron, flow)


def why_not_leaky(op: Recurrence) -> str:
    """What a written-out neuron does that a neuron with one state, one leak and one threshold does not, as a predicate."""
    try:
        current_based(op)
    except Unsupported as error:
        return error.reason
    return "has a current beside its membrane"
