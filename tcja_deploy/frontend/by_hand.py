"""Membranes that a loop over time in `forward` keeps by hand: `m = m * decay + self.conv(x[t]); s = (m >= 1).float()`.

Element-wise arithmetic on frames is not translated where it is met: it is written down as lines, step after step. Where other
code needs a value, as a convolution needs the spikes, a stream yet to be found takes the place of the line: the first step
names it, and the same place in later steps adds its line to it. Sums of frames over all steps stay sums. At the end,
`hand_neurons` finds out what the lines of all steps of each stream compute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import numpy as np
import torch

from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.elementary import ELEMENTARY, Made, Operand, Unlike
from tcja_deploy.frontend.sums import addends
from tcja_deploy.frontend.traced import SAMPLES, STATIC, LoopRefusal, Traced, tensors_in
from tcja_deploy.ir import Kind, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.ops.arithmetic import COMPARISONS, FUNCTIONS

__all__ = ["RECURRENT", "ByHand", "HandSeries"]

RECURRENT = "leave the recurrent connection out: deployed networks pass spikes forward only"
"""What to do about states that go through layers."""


@dataclass(eq=False)
class HandSeries:
    """A stream that lines will become.

    Attributes:
        name: Its value in the graph.
        code: The code that it is in, such as `Net.forward`.
        lines: Its line in each step so far.
    """

    name: str
    code: str
    lines: list[Made]


class ByHand:
    """The lines of one trace.

    Args:
        context: The tracer.
        call: Makes a call on streams: `(name, function, arguments)`.
    """

    def __init__(self, context: RuleContext, call: Callable[[str, Any, list[Any]], Traced]) -> None:
        self._tr, self._call = context, call
        self.series: list[HandSeries] = []
        self.streams: dict[Made, Traced] = {}
        self._inputs: dict[tuple[str, str, int], Made] = {}
        self._fills: dict[int, tuple[Any, Made]] = {}
        self._frames: dict[Made, Traced] = {}
        self._cuts: dict[int, int] = {}
        self._places: list[HandSeries] = []
        self._made: dict[int, list[Made]] = {}
        self._again: dict[Any, int] = {}
        self._sites: dict[Any, tuple[int, int]] = {}
        self._first_site: Any = None
        self._now, self._newest, self._code = 0, -1, ""

    # -- time -----------------------------------------------------------------------------------------------------------
    @property
    def steps(self) -> int | None:
        """How many steps the code has taken; `None` if it took no frame."""
        return self._now + 1 if self._inputs else None

    def reached(self, step: int) -> None:
        """The code takes the frame of a step."""
        self._now = max(self._now, step)

    def repeated(self, call: Any) -> None:
        """The code makes a call once more, on what is the same in all steps."""
        self._again[call] = self._again.get(call, 0) + 1
        self.reached(self._again[call])

    def _at_site(self, on_start: bool) -> None:
        """Note arithmetic on what is the same in all steps: the first place in the code to be reached again counts the steps.

        Args:
            on_start: Whether it works on what a state begins with, as only the first step does.
        """
        frame: FrameType | None = sys._getframe(1)
        site: list[Any] = [self._tr.here]
        while frame is not None:
            site.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        key = tuple(site)
        in_first, later = self._sites.get(key, (0, 0))
        self._sites[key] = in_first, later = in_first + on_start, later + (not on_start)
        if self._first_site is None and (on_start or later > 1):
            self._first_site = key
        if key == self._first_site:
            self.reached(-(-later // in_first) if in_first else later - 1)

    # -- arithmetic -------------------------------------------------------------------------------------------------------
    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced | None:
        """The result of a call that is arithmetic on frames; `None` for all others."""
        tensors = tensors_in((args, kwargs))
        if not tensors or not all(map(self._is_operand, tensors)):
            return None
        lines = [t for t in tensors if t.line is not None]
        if not lines and all(t.step == STATIC for t in tensors) and name not in _COMPARING:
            return None
        if name in _SAME:
            return self._same(tensors[0], args, kwargs) if lines else None
        shape = tensors[0].shape(self._tr.T)
        if any(t.shape(self._tr.T) != shape for t in tensors):
            return None
        function, args, kwargs = _as_function(name, args, kwargs)
        if function not in ELEMENTARY:
            return None
        if self._tr.reading == "static":
            self._at_site(any(t.blank is not None for t in tensors))
        try:
            operands = [self._operand(a, shape) for a in args]
            named = {k: self._operand(v, shape) for k, v in kwargs.items()}
            made = _asked_again(function, operands) or ELEMENTARY[function](*operands, **named)
        except (Unlike, TypeError):
            return None
        self._date(made)
        self._code = self._tr.code
        return self._traced(made, shape)

    def _is_frame(self, t: Traced) -> bool:
        whole = t.pair or t.tainted or t.since is not None or t.expanded is not None
        return t.blank is None and t.view == "frame" and t.step is not None and not whole

    def _is_operand(self, t: Traced) -> bool:
        blank = t.blank is not None and not t.blank.parts and t.blank.shape[:1] == (SAMPLES,)
        return blank or self._is_frame(t)

    def _same(self, x: Traced, args: Any, kwargs: Any) -> Traced | None:
        """The same numbers in another type, if it can hold them."""
        types = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.dtype)]
        truth = x.line is not None and x.line.function in COMPARISONS
        return x if all(t is torch.float32 or (truth and t is not torch.float64) for t in types) else None

    def _traced(self, made: Made, shape: tuple[int, ...]) -> Traced:
        signal = Signal(("T", "N", *shape[1:]), Kind.REAL)
        return Traced("", signal, "frame", step=max(made.step, 0), line=made)

    def _operand(self, value: Any, shape: tuple[int, ...]) -> Any:
        if isinstance(value, Traced):
            return self._line(value)
        if not isinstance(value, torch.Tensor):
            return value
        values = value.detach().to(torch.float32).numpy()
        if values.size and (values == values.flat[0]).all():
            return float(values.flat[0])
        if values.ndim == len(shape) and values.shape[0] == 1:
            values = values[0]
        if values.ndim >= len(shape) or np.broadcast_shapes(values.shape, shape[1:]) != shape[1:]:
            raise Unlike
        return np.array(values, np.float32)

    def _line(self, x: Traced) -> Made:
        if x.line is not None:
            return x.line
        if x.blank is not None:
            if id(x.blank) not in self._fills:
                self._fills[id(x.blank)] = x.blank, Made("fill", value=x.blank.fill)
            return self._fills[id(x.blank)][1]
        step = self._now if x.step is None or x.step == STATIC else x.step
        self.reached(step)
        key = (x.name, x.view, step)
        if key not in self._inputs:
            self._inputs[key] = made = Made("input", step=step)
            self.streams[made] = replace(x, step=None)
        return self._inputs[key]

    def _date(self, made: Made) -> None:
        """Assign new lines to the running step; what no input changes becomes a number, if it is the same for all elements."""
        work, new = [made], set[Made]()
        while work:
            line = work.pop()
            if line.order > self._newest and line.function not in ("input", "fill") and line not in new:
                new.add(line)
                work += [o for o in line.operands if isinstance(o, Made)]
        for line in sorted(new, key=lambda m: m.order):
            self._newest = line.order
            self._made.setdefault(self._now, []).append(line)
            if line.step >= 0:
                line.step = self._now
                continue
            values = [o.value if isinstance(o, Made) else o for o in line.operands]
            if not all(isinstance(v, float) for v in values):
                continue
            line.value = float(FUNCTIONS[line.function][1](*map(np.float32, values)))

    # -- where other code needs a value -------------------------------------------------------------------------------------
    def cut(self, value: Any) -> Any:
        """Arguments with frames of streams in place of lines.

        Raises:
            LoopRefusal: If no stream can be made of a line.
        """
        if isinstance(value, Traced):
            return value if value.line is None else self._cut(value)
        if isinstance(value, dict):
            return {k: self.cut(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.cut(v) for v in value)
        return value

    def recurrent(self, code: str = "") -> LoopRefusal:
        """Why a network that feeds the result of a step to a layer in the next one is refused."""
        return self.refusal(
            "feeds a state of the previous step to a layer: the network is recurrent", RECURRENT, code
        )

    def refusal(self, what: str, hint: str, code: str = "") -> LoopRefusal:
        """Why a membrane that is kept by hand cannot be translated."""
        return LoopRefusal(f"loop over time in {code or self._tr.code or self._code}: {what}", hint)

    def _cut(self, x: Traced) -> Traced:
        line = x.line
        if line is None or line.step < 0:
            raise self.recurrent()
        if line not in self._frames:
            self._frames[line] = self._placed(x, line)
        return self._frames[line]

    def _placed(self, x: Traced, line: Made) -> Traced:
        step, place = line.step, self._cuts.get(line.step, 0)
        if line.function == "input":
            return replace(self.streams[line], step=step)
        if step == 0:
            self._places.append(self._new(x, []))
        if place < len(self._places) and len(self._places[place].lines) == step:
            self._cuts[step] = place + 1
            self._places[place].lines.append(line)
            return self._frame(x, self._places[place].name, step)
        return self._late(x, line)

    def _frame(self, x: Traced, name: str, step: int) -> Traced:
        return Traced(name, self._tr.builder.signal(name), "frame", step=step)

    def _new(self, x: Traced, lines: list[Made]) -> HandSeries:
        """A stream to be; what stands for it in the graph until it is found reads any stream of its shape."""
        source = self._any_input(lines[0] if lines else x.line)
        op = ir.Recurrence(("ge x 0.0",), "h0", (), ()) if _is_spike(x.line) else ir.Affine(1.0, 0.0)
        stream = self._tr.emit(f"{self._tr.here}.neuron".lstrip("."), op, source)
        series = HandSeries(stream.name, self._tr.code or self._code, lines)
        self.series.append(series)
        return series

    def _any_input(self, line: Made | None) -> Traced:
        work, seen = [line], set()
        while work:
            found = work.pop()
            if isinstance(found, Made) and found not in seen:
                seen.add(found)
                if found.function == "input":
                    return self.streams[found]
                work += [o for o in found.operands if isinstance(o, Made)]
        raise self.recurrent()

    # -- after the loop -------------------------------------------------------------------------------------------------
    def _late(self, x: Traced, line: Made) -> Traced:
        """What is read once, after the loop: a sum over the steps, arithmetic on one, or what the last step left."""
        result = self._summed(x, line)
        return replace(self.stream(x, self._in_all_steps(line)), step=line.step) if result is None else result

    def _summed(self, x: Traced, line: Made) -> Traced | None:
        """A sum over all steps, and arithmetic with numbers on one; `None` for anything else."""
        if terms := addends(line, self._tr.T):
            first = self._tr.T - len(terms)
            lines = [self._in_step(t, terms[-1]) for t in range(first)] + terms
            return replace(self.stream(x, lines), since=first, step=self._tr.T - 1)
        made = [o for o in line.operands if isinstance(o, Made) and o.step >= 0]
        if len(made) != 1 or len(made) == len(line.operands) or line.function not in _AFTER:
            return None
        inner = self._summed(x, made[0])
        if inner is None:
            return None
        given = [inner if o is made[0] else o for o in line.operands]
        return self._call(line.function, getattr(torch, line.function), given)

    def stream(self, x: Traced, lines: list[Made]) -> Traced:
        """The stream of a line in each step, as frames."""
        if all(m.function == "input" for m in lines) and len({self.streams[m].name for m in lines}) == 1:
            return self.streams[lines[0]]
        for series in self.series:
            if series.lines == lines:
                return self._frame(x, series.name, 0)
        return self._frame(x, self._new(x, [*lines]).name, 0)

    def _in_all_steps(self, line: Made) -> list[Made]:
        """The lines of all steps for the same place in the code, of which `line` is the last step's.

        Raises:
            LoopRefusal: If there is no such line in some step.
        """
        if line.step != self._tr.T - 1:
            raise self.refusal(
                "reads a membrane kept by hand that is not the last one", "let every step do the same"
            )
        return [*(self._in_step(t, line) for t in range(line.step)), line]

    def _in_step(self, step: int, line: Made) -> Made:
        """The line for the same place in the code in another step; the first may lack it, where states begin as numbers."""
        if line.function == "input":
            frame: Made = self._line(replace(self.streams[line], step=step))
            return frame
        made: list[Made] = self._made.get(step, [])
        index = self._made[line.step].index(line)
        fewer = len(self._made.get(1, [])) - len(made) if step == 0 else 0
        for i in (index - fewer, index, *range(index - fewer + 1, index)):
            if 0 <= i < len(made) and made[i].function == line.function:
                same: Made = made[i]
                return same
        raise self.refusal("does not treat all steps alike", "let every step do the same")

    def all_steps(self, frames: Sequence[Any]) -> list[Traced] | None:
        """Lines of all steps in order as frames of a stream; `None` for anything else."""
        T = self._tr.T
        tensors = [f for f in frames if isinstance(f, Traced)]
        if len(frames) != T or len(tensors) != T or not any(t.line is not None for t in tensors):
            return None
        lines = [self._line(t) for t in tensors if self._is_frame(t)]
        if [m.step for m in lines] != [*range(T)]:
            return None
        stream = self.stream(tensors[0], lines)
        return [replace(stream, step=t) for t in range(T)]


def _asked_again(function: str, operands: list[Any]) -> Made | None:
    """The spikes themselves, where code asks which of them are 1: `spike > 0`, `spike == 1`, `spike * 1`."""
    if len(operands) != 2 or not _is_spike(operands[0]) or isinstance(operands[1], Made | np.ndarray):
        return None
    same = {"gt": 0.0 <= operands[1] < 1.0, "ne": operands[1] == 0, "ge": 0.0 < operands[1] <= 1.0}
    same |= {"eq": operands[1] == 1, "mul": operands[1] == 1}
    spikes: Made | None = operands[0] if same.get(function) else None
    return spikes


def _is_spike(line: Operand | None) -> bool:
    return isinstance(line, Made) and line.function in COMPARISONS


def _as_function(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """A call in the spelling of `ELEMENTARY`."""
    kwargs = {k: v for k, v in kwargs.items() if k not in ("inplace", "out")}
    for spelled in ("input", "self"):
        if spelled in kwargs:
            args = (kwargs.pop(spelled), *args)
    for spelled in ("other", "exponent"):
        if spelled in kwargs:
            args = (*args, kwargs.pop(spelled))
    name = _SPELLED.get(name, name)
    if name == "heaviside":
        at_zero = kwargs.pop("values", args[1] if len(args) > 1 else None)
        value = float(at_zero) if isinstance(at_zero, torch.Tensor) and at_zero.numel() == 1 else -1.0
        return {1.0: "ge", 0.0: "gt"}.get(value, ""), (args[0], 0.0), kwargs
    if name == "setitem" and isinstance(args[1], Traced):
        return "masked_fill", args, kwargs
    return name, args, kwargs


_SPELLED = {
    "absolute": "abs", "and": "bitwise_and", "clip": "clamp", "divide": "div", "greater": "gt", "greater_equal": "ge",
    "iadd": "add", "iand": "bitwise_and", "imul": "mul", "invert": "bitwise_not", "ior": "bitwise_or", "ipow": "pow",
    "isub": "sub", "itruediv": "div", "less": "lt", "less_equal": "le", "multiply": "mul", "negative": "neg",
    "not_equal": "ne", "or": "bitwise_or", "subtract": "sub", "true_divide": "div", "truediv": "div",
}  # fmt: skip
"""Names of torch and of operators, and what `ELEMENTARY` calls them."""

_COMPARING = {
    "eq", "ge", "greater", "greater_equal", "gt", "heaviside", "le", "less", "less_equal", "lt", "ne", "where",
}  # fmt: skip

_SAME = {
    "alias", "bool", "clone", "contiguous", "cpu", "cuda", "detach", "float", "int", "long", "requires_grad", "to", "type",
    "type_as",
}  # fmt: skip
"""Names of functions that leave the numbers as they are."""

_AFTER = ("add", "div", "mul", "sub")
"""What may be done to sums after the loop."""
