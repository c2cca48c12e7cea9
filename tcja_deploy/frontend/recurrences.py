"""Which recurrence a module computes: its arithmetic over a few steps is recorded and found to be one step, repeated.

Every result is traced back to inputs, constants and results of earlier steps. What a step reads of an earlier one is a state;
one from two steps ago is passed on in between. One step in the middle is the pattern, and all others have to be the same: what
differs from step to step may only be constants, and in the first steps the states are what they begin with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from tcja_deploy.frontend.elementary import Constant, Made, Operand, Unlike
from tcja_deploy.frontend.probe import Box
from tcja_deploy.frontend.recording import ArithmeticRecorder
from tcja_deploy.frontend.tidy import RecurrenceProgram
from tcja_deploy.ir import ops as ir

__all__ = ["recurrences"]

_LONGEST = 200
"""Lines of a step beyond which no neuron is looked for."""

PastLine = tuple[Made, int]
"""A line of the pattern, and how many steps ago it was computed."""


def recurrences(box: Box, steps: int) -> Iterator[ir.Recurrence]:
    """The recurrence that a module seems to be, with what its states may begin with.

    Raises:
        Unlike: If it is not one.
    """
    pattern = _pattern(box, steps)
    for begun in dict.fromkeys([0.0, *box.numbers]):
        yield pattern.written(len(box.features), begun)
        if pattern.begins:
            return


def _pattern(box: Box, steps: int) -> _Pattern:
    *alternatives, last = box.recordings
    for layout in alternatives:
        try:
            return _Pattern(
                box.record(ArithmeticRecorder((box.samples, *box.features), steps), steps, layout)
            )
        except Exception:
            continue
    return _Pattern(box.record(ArithmeticRecorder((box.samples, *box.features), steps), steps, last))


class _Pattern:
    """One step in the middle, which all others have to match.

    Args:
        results: What each step gives.

    Raises:
        Unlike: If the steps differ.
    """

    def __init__(self, results: list[Made]) -> None:
        self._results, self._middle = results, max(1, (len(results) - 1) // 2)
        self._leads: dict[Made, Made] = {}
        self._found: dict[tuple[Made, int], Operand] = {}
        self._constants: dict[tuple[Made, int], dict[int, Constant]] = {}
        self._initial: dict[PastLine, float] = {}
        self._begin: list[tuple[Made, Operand, int]] = []
        self._later: list[tuple[Made, Operand, int]] = []
        self._first = False
        if len(results) < 3:
            raise Unlike
        order = [t for t in range(len(results)) if t >= self._middle] + [*range(1, self._middle)]
        for t in order:
            self._match([(results[self._middle], results[t], t)])
        while self._later:  # states whose line was not known when they were met
            work, self._later = self._later, []
            waiting = len(work)
            self._match(work)
            if len(self._later) >= waiting:
                raise Unlike
        if not self._leads:
            raise Unlike  # no memory: plain arithmetic, which the tracer reads
        self.begins = self._matches_first()

    def _matches_first(self) -> bool:
        """Whether the first step is the same arithmetic on what the states begin with."""
        self._first = True
        work, self._begin = [*self._begin, (self._results[self._middle], self._results[0], 0)], []
        try:
            self._match(work)
        except Unlike:
            return False
        return not self._later

    def _match(self, work: list[tuple[Made, Operand, int]]) -> None:
        """Operands in given steps have to be what lines of the pattern are in the middle one."""
        while work:
            pattern, found, t = work.pop()
            back = self._middle - pattern.step
            if back:  # a state
                self._match_state(pattern, found, t, back, work)
                continue
            if (pattern, t) in self._found:
                if self._found[pattern, t] is not found:
                    raise Unlike
                continue
            self._found[pattern, t] = found
            alike = isinstance(found, Made) and found.function == pattern.function
            if not isinstance(found, Made) or not alike or len(self._found) > _LONGEST * len(self._results):
                raise Unlike
            if pattern.function == "input" and found.step != t:
                raise Unlike
            for i, (a, b) in enumerate(zip(pattern.operands, found.operands, strict=True)):
                if is_line(a):
                    work.append((a, b, t))
                elif (other := constant(b)) is not None:
                    self._constants.setdefault((pattern, i), {})[t] = other
                else:
                    raise Unlike

    def _match_state(
        self, pattern: Made, found: Operand, t: int, back: int, work: list[tuple[Made, Operand, int]]
    ) -> None:
        if back < 0:
            raise Unlike
        if t - back == self._middle and pattern not in self._leads:
            if not isinstance(found, Made) or found.step != self._middle:
                raise Unlike
            self._leads[pattern] = found
        if pattern not in self._leads:
            self._later.append((pattern, found, t))
        elif t == back and pattern.function != "input" and not self._first:
            self._begin.append((self._leads[pattern], found, 0))
        elif t >= back:
            work.append((self._leads[pattern], found, t - back))
        else:
            begun, state = constant(found), (self._leads[pattern], back - t)
            if not isinstance(begun, float) or self._initial.setdefault(state, begun) != begun:
                raise Unlike

    # -- writing ------------------------------------------------------------------------------------------------------
    def written(self, axes: int, begun: float) -> ir.Recurrence:
        """The pattern as an op, for frames with `axes` axes; `begun` is what states begin with where that is not known."""
        states: dict[PastLine, int] = {}
        program, spelled = RecurrenceProgram(axes, len(self._results)), dict[Made, str]()
        for lead, furthest in self._lengths().items():
            for back in range(1, furthest + 1):
                states[lead, back] = len(states)

        def operand(line: Made, i: int, o: Operand) -> str:
            if not is_line(o):
                return program.constant(self._constants[line, i])
            back = self._middle - o.step
            return spelled[o] if not back else f"v{states[self._leads[o], back]}"

        roots = [self._results[self._middle], *(lead for lead, _ in states)]
        for line in sorted(self._cone(roots), key=lambda m: m.order):
            if line.function == "input":
                spelled[line] = "x"
            else:
                operands = [operand(line, i, o) for i, o in enumerate(line.operands)]
                spelled[line] = program.add(line.function, *operands)
        after = [spelled[lead] if back == 1 else f"v{states[lead, back - 1]}" for lead, back in states]
        initial = tuple(self._initial.get(state, begun) for state in states)
        return program.finished(spelled[roots[0]], after, initial)

    def _lengths(self) -> dict[Made, int]:
        """How long each line of the pattern is remembered, at most."""
        found: dict[Made, int] = {}
        for read, lead in self._leads.items():
            found[lead] = max(found.get(lead, 0), self._middle - read.step)
        return found

    def _cone(self, roots: list[Made]) -> set[Made]:
        """Lines of the pattern that these need."""
        found: set[Made] = set()
        work = list(roots)
        while work:
            line = work.pop()
            if line not in found:
                found.add(line)
                work += [o for o in line.operands if is_line(o) and o.step == self._middle]
        return found


def is_line(o: Operand) -> TypeGuard[Made]:
    """Whether an operand depends on an input."""
    return isinstance(o, Made) and o.step >= 0


def constant(o: Operand) -> Constant | None:
    """The value of what depends on no input; `None` for all others."""
    if not isinstance(o, Made):
        return o
    return o.value if o.step == -1 else None
