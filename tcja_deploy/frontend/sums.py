"""Running sums among the lines of a loop: `total = total + frame` in each step."""

from __future__ import annotations

from tcja_deploy.frontend.elementary import Made, Operand

__all__ = ["addends"]


def addends(line: Operand, steps: int) -> list[Made]:
    """What was added up, one frame per step, from some step on to the last; nothing if the line is another sum."""
    found: list[Made] = []
    for t in reversed(range(steps)):
        if found and _is_zero(line):
            return found[::-1]
        split = _split(line, t)
        if split is None:
            return []
        line, term = split
        found.append(term)
    return found[::-1] if _is_zero(line) else []


def _split(line: Operand, t: int) -> tuple[Operand, Made] | None:
    """A sum up to step `t` as the sum before and the frame of that step."""
    if not isinstance(line, Made):
        return None
    if line.function == "add":
        a, b = line.operands
        for before, term in ((a, b), (b, a)):
            goes_on = _is_zero(before) or (t > 0 and isinstance(before, Made) and _may_be_sum(before, t))
            if goes_on and isinstance(term, Made) and term.step == t:
                return before, term
    return (0.0, line) if t == 0 and line.step == 0 else None


def _may_be_sum(line: Made, t: int) -> bool:
    """Whether a line may be the sum of the steps before `t`."""
    return line.function == "add" or (t == 1 and line.step == 0)


def _is_zero(o: Operand) -> bool:
    value = o.value if isinstance(o, Made) and o.step == -1 else o
    return isinstance(value, float) and value == 0
