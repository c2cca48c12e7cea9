"""Running sums among the lines of a loop: `total = total + frame` in each step."""

from __future__ import annotations

from tcja_deploy.frontend.elementary import Made, Operand

__all__ = ["addends"]


def addends(line: Operand, steps: int) -> list[Made] | None:
    """What was added up, one frame a step, all steps in order; `None` if the line is another sum."""
    found: list[Made] = []
    for t in reversed(range(steps)):
        split = _split(line, t)
        if split is None:
            return None
        line, term = split
        found.append(term)
    return found[::-1] if _is_zero(line) else None


def _split(line: Operand, t: int) -> tuple[Operand, Made] | None:
    """A sum up to step `t` as the sum before and the frame of that step."""
    if not isinstance(line, Made):
        return None
    if line.function == "add":
        a, b = line.operands
        for before, term in ((a, b), (b, a)):
            goes_on = _is_zero(before) if t == 0 else isinstance(before, Made) and _may_be_sum(before, t)
            if goes_on and isinstance(term, Made) and term.step == t:
                return before, term
    return (0.0, line) if t == 0 and line.step == 0 else None


def _may_be_sum(line: Made, t: int) -> bool:
    """Whether a line may be the sum of the steps before `t`."""
    return line.function == "add" or (t == 1 and line.step == 0)


def _is_zero(o: Operand) -> bool:
    value = o.value if isinstance(o, Made) and o.step == -1 else o
    return isinstance(value, float) and value == 0
