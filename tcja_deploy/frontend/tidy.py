"""Programs of recurrences, tidied while they are written: what computes nothing is left out, resets become selections.

Only expressions that give equal numbers are replaced: `v - 0`, `1 s`, `h - threshold >= 0`, `(1 - s) h + s reset`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.frontend.elementary import Constant
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.ops.arithmetic import COMPARISONS

__all__ = ["RecurrenceProgram"]

Words = tuple[str, ...]


class RecurrenceProgram:
    """Lines as they are added.

    Args:
        axes: Axes of a frame.
        steps: Steps of the window.
    """

    def __init__(self, axes: int, steps: int) -> None:
        self._axes, self._steps = axes, steps
        self._lines: list[Words] = []
        self._rows: list[NDArray[np.float32]] = []

    def constant(self, values: dict[int, Constant]) -> str:
        """The operand for a constant, by its value in each step."""
        usual = next(iter(values.values()))
        frames = [np.asarray(values.get(t, usual), np.float32) for t in range(self._steps)]
        if all(f.shape == frames[0].shape and np.array_equal(f, frames[0]) for f in frames):
            if isinstance(usual, float):
                return repr(usual + 0.0)
            frames = frames[:1]
        shaped = [f.reshape((1,) * (max(1, self._axes) - f.ndim) + f.shape) for f in frames]
        row = np.stack(np.broadcast_arrays(*shaped))
        for k, known in enumerate(self._rows):
            if known.shape == row.shape and np.array_equal(known, row):
                return f"c{k}"
        self._rows.append(row)
        return f"c{len(self._rows) - 1}"

    def add(self, function: str, *operands: str) -> str:
        """The operand for the result of a line."""
        known = self._simpler(function, *operands)
        if isinstance(known, str):
            return known
        if known in self._lines:
            return f"h{self._lines.index(known)}"
        self._lines.append(known)
        return f"h{len(self._lines) - 1}"

    def _simpler(self, function: str, *operands: str) -> str | Words:
        match function, *operands:
            case (
                ("add" | "sub", a, "0.0") | ("add", "0.0", a) | ("mul" | "div", a, "1.0") | ("mul", "1.0", a)
            ):
                return a
            case ("mul", _, "0.0") | ("mul", "0.0", _):
                return "0.0"
            case ("ge" | "gt" | "le" | "lt", a, "0.0") if self._line(a)[0] == "sub":
                return (function, *self._line(a)[1:])
            case ("ne", a, "0.0") if self._is_truth(a):
                return a
            case ("mul", a, b):
                for factor, h in ((a, b), (b, a)):
                    if (spike := self._negated(factor)) is not None:
                        return ("where", spike, "0.0", h)
            case ("add", a, b):
                return self._reset(a, b) or self._reset(b, a) or (function, *operands)
        return (function, *operands)

    def _line(self, operand: str) -> Words:
        return self._lines[int(operand[1:])] if operand[0] == "h" else ("",)

    def _is_truth(self, operand: str) -> bool:
        return self._line(operand)[0] in COMPARISONS

    def _negated(self, operand: str) -> str | None:
        """`s` of `1 - s`."""
        match self._line(operand):
            case ("sub", "1.0", spike) if self._is_truth(spike):
                return spike
        return None

    def _reset(self, kept: str, gained: str) -> Words | None:
        """`where s value h` of `(1 - s) h + s value`."""
        match self._line(kept), self._line(gained):
            case ("where", s, "0.0", h), ("mul", a, b) if s in (a, b):
                return ("where", s, b if s == a else a, h)
        return None

    def finished(self, result: str, after: list[str], initial: tuple[float, ...]) -> ir.Recurrence:
        """The op, without lines that nothing reads."""
        read: set[int] = set()
        work = [result, *after]
        while work:
            operand = work.pop()
            if operand[0] == "h" and int(operand[1:]) not in read:
                read.add(int(operand[1:]))
                work += self._line(operand)[1:]
        rows = sorted({int(o[1:]) for i in read for o in self._lines[i] if o[0] == "c" and o[1:].isdigit()})
        renamed = {f"h{i}": f"h{n}" for n, i in enumerate(sorted(read))} | {
            f"c{k}": f"c{n}" for n, k in enumerate(rows)
        }

        def names(operands: Words | list[str]) -> tuple[str, ...]:
            return tuple(renamed.get(o, o) for o in operands)

        lines = tuple(" ".join((self._lines[i][0], *names(self._lines[i][1:]))) for i in sorted(read))
        table = [np.broadcast_arrays(*(self._rows[k] for k in rows))] if rows else []
        shaped = np.stack(table[0]) if table else np.zeros((0, 1, 1), np.float32)
        return ir.Recurrence(lines, renamed.get(result, result), names(after), initial, shaped)
