"""Builds a window program step by step: integers with their units, their bounds, and bounds on their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.runtime.integers.window.program import OPS, Program
from tcja_deploy.runtime.integers.window.steps import LIMIT
from tcja_deploy.unsupported import Unsupported

__all__ = ["Builder", "ProgramValue"]

EXACT_BITS = 52
"""Bits of weighted sums, which stay in the range in which float64 adds integers exactly."""
WEIGHT_BITS = 15
"""Bits of the largest weight's magnitude."""
FACTOR_BITS = 24
"""Bits of the factor that converts between units."""
WORK_BITS = 30
"""Bits of values that are added to values of another unit, or multiplied."""
INDEX_BITS, TABLE_BITS = 10, 14
"""Fraction bits of a sigmoid's argument and of its result."""
REACH = 11
"""Largest argument of the table: beyond it, a sigmoid is 0 or 1 to within half a step of the table."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProgramValue:
    """A value of the program under construction.

    Attributes:
        index: Its number in the program.
        shape: Its shape without the axis of samples; time is an axis like any other.
        unit: The integer that stands for one.
        bounds: Smallest and largest integer.
        error: Bound on the difference between integer / unit and the real number that it stands for.
    """

    index: int
    shape: Shape
    unit: Fraction
    bounds: tuple[int, int]
    error: float

    @property
    def most(self) -> int:
        """Largest magnitude."""
        return max(map(abs, self.bounds))

    @property
    def real(self) -> float:
        """Largest magnitude of the real numbers."""
        return float(self.most / self.unit) + self.error


class Builder:
    """Collects the steps of a program."""

    def __init__(self) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []
        self.arrays: dict[str, NDArray[np.int64]] = {}

    def input(self, shape: Shape, bounds: tuple[int, int], unit: Fraction) -> ProgramValue:
        """Add an input window; all inputs have to be added before the first step."""
        self.inputs.append({"shape": list(shape), "low": bounds[0], "high": bounds[1]})
        return ProgramValue(len(self.inputs) - 1, shape, unit, bounds, 0.0)

    def add(
        self, op: str, terms: Sequence[ProgramValue], unit: Fraction, error: float, **settings: Any
    ) -> ProgramValue:
        """Add one step; arrays among its settings are stored by name.

        Raises:
            Unsupported: If values could exceed 62 bits.
        """
        kind, step = OPS[op], {"op": op, "inputs": [t.index for t in terms]}
        for name, value in settings.items():
            if isinstance(value, np.ndarray):
                settings[name] = value = value.astype(np.int64)
                step[name] = self._named(value)
            else:
                step[name] = list(value) if isinstance(value, tuple) else value
        made, shapes = kind(**settings), [t.shape for t in terms]
        if {f.name for f in fields(kind)} != set(settings):
            raise TypeError(f"{op} has settings other than {sorted(settings)}")
        shape = made.shape(*shapes)
        low, high, magnitude = made.bounds(*(t.bounds for t in terms), shapes=shapes)
        if magnitude >= LIMIT:
            raise Unsupported(f"the integers of a window program could reach {magnitude}, beyond 62 bits")
        self.steps.append(step)
        return ProgramValue(len(self.inputs) + len(self.steps) - 1, shape, unit, (int(low), int(high)), error)

    def _named(self, value: NDArray[np.int64]) -> str:
        """The name of an array; equal arrays, such as those of a module used twice, are stored once."""
        for name, known in self.arrays.items():
            if np.array_equal(known, value):
                return name
        name = f"array_{len(self.arrays)}"
        self.arrays[name] = value
        return name

    def program(self) -> Program:
        """The finished program, checked by the reader that Lava's process uses."""
        return Program({"inputs": self.inputs, "steps": self.steps}, self.arrays)

    # -- moves ---------------------------------------------------------------------------------------------
    def reshape(self, x: ProgramValue, shape: Shape) -> ProgramValue:
        """The same elements under other axes."""
        return x if shape == x.shape else self.add("reshape", [x], x.unit, x.error, dims=shape)

    def permute(self, x: ProgramValue, order: Shape) -> ProgramValue:
        """Axes in another order."""
        return self.add("permute", [x], x.unit, x.error, order=order)

    # -- units ---------------------------------------------------------------------------------------------
    def to_unit(self, x: ProgramValue, unit: Fraction) -> ProgramValue:
        """The same real numbers in another unit, rounded."""
        ratio = unit / x.unit
        if ratio == 1:
            return x
        if ratio.denominator == 1:
            return self.add("rescale", [x], unit, x.error, factor=int(ratio), shift=0)
        spare = x.most.bit_length() + FACTOR_BITS - 61
        if spare > 0 and ratio * (1 << spare) < 1:  # shifted first, so that the factor has room
            coarser = x.unit / (1 << spare)
            error = x.error + float(Fraction(1, 2) / coarser)
            return self.to_unit(self.add("rescale", [x], coarser, error, factor=1, shift=spare), unit)
        shift = max(0, FACTOR_BITS - math.floor(math.log2(ratio)) - 1)
        factor = round(ratio * (1 << shift)) if shift < 62 else 0
        while shift >= 62 or (x.most * abs(factor)).bit_length() > 61:
            shift -= 1
            factor = round(ratio * (1 << shift))
        off = abs(Fraction(factor, 1 << shift) / ratio - 1)
        error = x.error + float(Fraction(1, 2) / unit) + float(off * x.most / x.unit)
        return self.add("rescale", [x], unit, error, factor=factor, shift=shift)

    def limited(self, x: ProgramValue, bits: int) -> ProgramValue:
        """The same real numbers in at most `bits` bits: if they have more, in a coarser unit that is a power of two."""
        if x.most.bit_length() <= bits:
            return x
        real = x.most / x.unit
        exponent = bits - math.ceil(math.log2(real)) if real else 0
        unit = Fraction(2) ** exponent
        while (real * unit + 1) >= 1 << bits:
            unit /= 2
        return self.to_unit(x, unit)

    def alike(self, terms: Sequence[ProgramValue]) -> list[ProgramValue]:
        """The same values converted to a common unit."""
        if len({t.unit for t in terms}) == 1:
            return list(terms)
        finest = max(t.unit for t in terms)
        whole = all((finest / t.unit).denominator == 1 for t in terms)
        if whole and all((t.most * finest / t.unit) < 1 << WORK_BITS for t in terms):
            return [self.to_unit(t, finest) for t in terms]
        real = max(*(t.most / t.unit for t in terms), Fraction(1, 1 << WORK_BITS))
        exponent = min(WORK_BITS - 1 - math.ceil(math.log2(real)), 2 * INDEX_BITS)
        return [self.to_unit(t, Fraction(2) ** exponent) for t in terms]

    # -- arithmetic ----------------------------------------------------------------------------------------
    def total(self, x: ProgramValue, axes: Shape, *, mean: bool) -> ProgramValue:
        """Sum or mean over axes, which are kept with length 1; a mean is a sum in a larger unit."""
        n = math.prod(x.shape[a] for a in axes)
        return self.add(
            "sum", [x], x.unit * n if mean else x.unit, x.error if mean else n * x.error, axes=axes
        )

    def plus(self, terms: Sequence[ProgramValue]) -> ProgramValue:
        """Sum of values, broadcast."""
        terms = self.ranked(self.alike(terms))
        return self.add("add", terms, terms[0].unit, sum(t.error for t in terms))

    def times(self, a: ProgramValue, b: ProgramValue) -> ProgramValue:
        """Product of two values, broadcast."""
        if (a.most * b.most).bit_length() > 2 * WORK_BITS:
            a, b = self.limited(a, WORK_BITS), self.limited(b, WORK_BITS)
        a, b = self.ranked([a, b])
        error = (a.real - a.error) * b.error + (b.real - b.error) * a.error + a.error * b.error
        return self.add("multiply", [a, b], a.unit * b.unit, error)

    def ranked(self, terms: Sequence[ProgramValue]) -> list[ProgramValue]:
        """The values with equal numbers of axes: leading axes of length 1 are added."""
        rank = max(len(t.shape) for t in terms)
        return [self.reshape(t, (1,) * (rank - len(t.shape)) + t.shape) for t in terms]

    def constant(self, values: NDArray[np.floating[Any]], unit: Fraction) -> ProgramValue:
        """Constant numbers in a unit, rounded."""
        exact = np.asarray(values, np.float64)
        integers = np.floor(exact * float(unit) + 0.5).astype(np.int64)
        off = float(np.abs(integers / float(unit) - exact).max())
        bounds = int(integers.min()), int(integers.max())
        made = self.add("constant", [], unit, off, values=integers)
        return replace(made, bounds=bounds)

    def weighted(
        self,
        x: ProgramValue,
        weight: NDArray[np.floating[Any]],
        bias: NDArray[np.floating[Any]] | None,
        *,
        stride: Shape = (),
        before: Shape = (),
        after: Shape = (),
        dilation: Shape = (),
        groups: int = 1,
    ) -> ProgramValue:
        """A matrix product (if `stride` is empty), or a cross-correlation over as many axes as `stride` has numbers."""
        exact = weight.astype(np.float64)
        flat = np.abs(exact).reshape(len(exact), -1)
        largest, fan = float(flat.max()), max(float(flat.sum(1).max()), 1e-300)
        fraction = WEIGHT_BITS - math.ceil(math.log2(largest)) if largest else 0
        ratio = fan / largest if largest else 1.0  # largest sum over largest weight
        x = self.limited(x, EXACT_BITS - 2 - WEIGHT_BITS - math.ceil(math.log2(ratio)))
        added = np.zeros(len(exact)) if bias is None else bias.astype(np.float64)
        while float(np.abs(added).max() * float(x.unit)) * 2.0**fraction >= 1 << (EXACT_BITS - 2):
            fraction -= 1
        unit = x.unit * Fraction(2) ** fraction
        integers = np.floor(exact * 2.0**fraction + 0.5).astype(np.int64)
        off = float(np.abs(integers / 2.0**fraction - exact).reshape(len(exact), -1).sum(1).max())
        biases = np.floor(added * float(unit) + 0.5)
        off_bias = float(np.abs(biases / float(unit) - added).max())
        error = fan * x.error + off * x.real + off_bias
        return self.add(
            "convolve", [x], unit, error, weight=integers, bias=biases.astype(np.int64), stride=stride,
            before=before, after=after, dilation=dilation, groups=groups,
        )  # fmt: skip

    def clipped(self, x: ProgramValue, low: float | None, high: float | None) -> ProgramValue:
        """min(max(x, low), high); None stands for no bound."""
        least, most = (-LIMIT + 1, LIMIT - 1)
        ends = [end if v is None else round(Fraction(v) * x.unit) for v, end in ((low, least), (high, most))]
        off = [
            0.0 if v is None else float(abs(end / x.unit - Fraction(v)))
            for v, end in zip((low, high), ends, strict=True)
        ]
        return self.add(
            "clip", [x], x.unit, x.error + max(off), low=max(ends[0], least), high=min(ends[1], most)
        )

    def sigmoid(self, x: ProgramValue) -> ProgramValue:
        """Sigmoid by a table; its slope is at most 1/4."""
        x = self.to_unit(self.limited(x, WORK_BITS), Fraction(1 << INDEX_BITS))
        first = -REACH << INDEX_BITS
        argument = np.arange(first, -first) / (1 << INDEX_BITS)
        table = np.floor((1 << TABLE_BITS) / (1 + np.exp(-argument)) + 0.5).astype(np.int64)
        error = x.error / 4 + 0.5 / (1 << TABLE_BITS) + math.exp(-REACH)
        return self.add("table", [x], Fraction(1 << TABLE_BITS), error, values=table, first=first)
