"""The neuron that is written out: any element-wise arithmetic on an input and a few states, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from tcja_deploy.ir.op import Array, Frames, Op, State
from tcja_deploy.ir.ops.arithmetic import FUNCTIONS, Range
from tcja_deploy.ir.ops.numeric import float32
from tcja_deploy.ir.signal import Kind, Signal

__all__ = ["Recurrence"]

Number = TypeVar("Number")


def _no_table() -> Array:
    return np.zeros((0, 1, 1), np.float32)


@dataclass(frozen=True, eq=False)
class Recurrence(Op):
    """A neuron given by its arithmetic, for those that no other op expresses.

    In each step the lines of `program` are computed one after the other, each `function operand ...`, such as `mul v0 0.5`.
    An operand is the input `x`; a state as the step before left it, `v0`, `v1`, ...; the result of a line above, `h0`, ...;
    a row of the table, `c0`, ...; or a number. The functions are those of `arithmetic.FUNCTIONS`. All in float32, each
    element by itself, in the order of the lines: the source's order of operations, so that nothing is rounded differently.

    The kind of the result follows from the program: a comparison is binary, a bounded rounding counts.

    Attributes:
        program: The lines of a step.
        result: The operand that is passed on.
        after: For each state the operand that it holds afterwards.
        initial: For each state its value before the first frame.
        table: Constants `[rows, S, ...]`, with `S = 1` or one entry for each of the `T` steps; the rest broadcasts to a frame.
    """

    membrane: ClassVar[bool] = True

    program: tuple[str, ...]
    result: str
    after: tuple[str, ...]
    initial: tuple[float, ...]
    table: Array = field(default_factory=_no_table)

    # -- what is written in it -------------------------------------------------------------------------------------
    @cached_property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """The program, split into words."""
        return tuple(tuple(line.split()) for line in self.program)

    def faults(self) -> list[str]:
        found = []
        if len(self.after) != len(self.initial):
            found.append(f"{len(self.after)} states are passed on and {len(self.initial)} begin")
        if self.table.ndim < 2 or (len(self.table) and not self.table.shape[1]):
            return [*found, f"the table of shape {list(self.table.shape)} has no axes for rows and steps"]
        for i, (function, *operands) in enumerate(line or ("",) for line in self.lines):
            if function not in FUNCTIONS:
                found.append(f"line {i}: there is no function {function!r}")
            elif len(operands) != FUNCTIONS[function][0]:
                found.append(
                    f"line {i}: {function} takes {FUNCTIONS[function][0]} operands, not {len(operands)}"
                )
            found += [f"line {i}: {o!r} is not an operand here" for o in operands if not self._known(o, i)]
        ends = (self.result, *self.after)
        return found + [f"{o!r} is not an operand" for o in ends if not self._known(o, len(self.lines))]

    def _known(self, operand: str, line: int) -> bool:
        kind, number = operand[:1], operand[1:]
        counts = {"v": len(self.initial), "h": line, "c": len(self.table)}
        if kind in counts and number.isascii() and number.isdigit():
            return int(number) < counts[kind]
        try:
            return operand == "x" or bool(np.isfinite(np.float32(float(operand))))
        except (ValueError, OverflowError):
            return False

    @cached_property
    def per_step(self) -> bool:
        """Whether constants differ from step to step."""
        return len(self.table) > 0 and self.table.shape[1] > 1

    @cached_property
    def ranges(self) -> tuple[Range, ...]:
        """What values the result of each line can take."""
        found: list[Range] = []
        for function, *operands in self.lines:
            found.append(Range.computed(function, *(self._range(o, found) for o in operands)))
        return tuple(found)

    def _range(self, operand: str, lines: Sequence[Range]) -> Range:
        match operand[0]:
            case "h":
                return lines[int(operand[1:])]
            case "c":
                values = self.table[int(operand[1:])]
                return Range(float(values.min()), float(values.max()))
            case "x" | "v":
                return Range()
        return Range.of(frozenset((float(operand),)))

    @cached_property
    def kind(self) -> Kind:
        """The kind of the result."""
        found = self._range(self.result, self.ranges)
        if found.values is not None and found.values <= {0.0, 1.0}:
            return Kind.BINARY
        if found.whole and found.low >= 0:
            return Kind.COUNT
        return Kind.GRADED if found.silent else Kind.REAL

    @property
    def spiking(self) -> bool:
        found = self._range(self.result, self.ranges)
        return found.values is not None and len(found.values) > 1 and found.silent

    # -- types -----------------------------------------------------------------------------------------------------
    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(x.streams, f"a neuron needs a stream of frames [T, N, ...], got {x}")
        self._require(
            not self.per_step or self.table.shape[1] == T,
            f"the table has constants for {self.table.shape[1] if self.per_step else 1} steps, the window has {T}",
        )
        shape = self.table.shape[2:]
        fits = all(n in (1, m) for n, m in zip(reversed(shape), reversed(x.features), strict=False))
        alone = all(n == 1 for n in shape)
        self._require(
            not len(self.table) or alone or (len(shape) <= len(x.features) and fits),
            f"constants of shape {list(shape)} do not fit frames {list(x.features)}",
        )
        return x.with_kind(self.kind)

    # -- one step --------------------------------------------------------------------------------------------------
    def computed(
        self,
        x: Number,
        states: Sequence[Number],
        constant: Callable[[int], Number],
        number: Callable[[float], Number],
        call: Callable[..., Number],
        last: bool = False,
    ) -> tuple[Number, list[Number], list[Number]]:
        """One step on any form of numbers: arrays, tensors, names in a file.

        Args:
            x: The input.
            states: The states before.
            constant: A row of the table in this step.
            number: A number of the program.
            call: `(function, *arguments) -> result` of a line.
            last: Whether the states afterwards are not needed; then lines that only they need are left out.

        Returns:
            The result, the states afterwards (none if `last`), and the results of all lines that were computed.
        """
        lines: dict[int, Number] = {}

        def read(operand: str) -> Number:
            match operand[0]:
                case "h":
                    return lines[int(operand[1:])]
                case "c":
                    return constant(int(operand[1:]))
                case "x":
                    return x
                case "v":
                    return states[int(operand[1:])]
            return number(float(operand))

        needed = self._needed_for_result if last else range(len(self.lines))
        for i in needed:
            function, *operands = self.lines[i]
            lines[i] = call(function, *map(read, operands))
        return read(self.result), [] if last else [read(o) for o in self.after], list(lines.values())

    @cached_property
    def _needed_for_result(self) -> tuple[int, ...]:
        return tuple(sorted(int(o[1:]) for o in self._reached(self.result) if o[0] == "h"))

    def _reached(self, operand: str) -> set[str]:
        """An operand and all that it is computed from."""
        found: set[str] = set()
        wanted = [operand]
        while wanted:
            operand = wanted.pop()
            if operand not in found:
                found.add(operand)
                wanted += self.lines[int(operand[1:])][1:] if operand[0] == "h" else ()
        return found

    def reads_input(self, operand: str) -> bool:
        """Whether an operand is computed from the input of the same step, and so has the shape of a frame."""
        return "x" in self._reached(operand)

    def row(self, k: int, t: int) -> Array:
        """A row of the table in step `t`, shaped to broadcast to a frame; a scalar where it is one number."""
        values: Array = self.table[k, t if self.per_step else 0]
        return values.reshape(()) if values.size == 1 else values

    def initial_state(self, *inputs: Signal, T: int, N: int) -> State:
        shape = inputs[0].shape(T, N)[1:]
        states = tuple(np.full(shape, v, np.float32) for v in self.initial)
        return (*states, 0) if self.per_step else states

    def step(self, frames: Frames, state: State) -> tuple[Frames, State]:
        (x,), count = frames, len(self.initial)
        t = state[count] if self.per_step else 0

        def call(function: str, *args: Any) -> Array:
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                return float32(FUNCTIONS[function][1](*args))

        y, after, _ = self.computed(x, state[:count], lambda k: self.row(k, t), np.float32, call)
        full = [float32(np.broadcast_to(a, x.shape)) for a in (y, *after)]
        return (full[0],), (*full[1:], t + 1) if self.per_step else tuple(full[1:])

    def apply(self, *x: Array) -> Array:
        state: State = tuple(np.full(x[0].shape[1:], v, np.float32) for v in self.initial)
        state, out = ((*state, 0) if self.per_step else state), []
        for frame in x[0]:
            (y,), state = self.step((frame,), state)
            out.append(y)
        return np.stack(out)
