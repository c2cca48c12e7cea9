"""What membranes kept by hand compute: the lines of all steps of a stream are run as a module, which is then identified.

Parts of the lines that read one step alone, such as the sum of two convolutions, are translated before the neuron; a
factor applied to its spikes is translated after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcja_deploy.frontend.by_hand import ByHand, HandSeries
from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.elementary import Made, Operand
from tcja_deploy.frontend.identify import identify
from tcja_deploy.frontend.layout import name_time
from tcja_deploy.frontend.own import modules_are_called
from tcja_deploy.frontend.traced import Traced
from tcja_deploy.ir import GraphBuilder, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.ops.arithmetic import COMPARISONS
from tcja_deploy.runtime.recurrence import CALLS

__all__ = ["with_neurons"]

Dispatch = Callable[..., Any]
Signature = tuple[Any, ...]
"""Arithmetic on the inputs of one step, the same in all steps."""


def with_neurons(
    tr: RuleContext, by_hand: ByHand, dispatch: Dispatch, output: str
) -> tuple[GraphBuilder, str]:
    """The nodes that lead to the output, with neurons in place of the streams yet to be found, and the output's name.

    Raises:
        LoopRefusal: If one of them is not a neuron, or depends on itself.
    """
    solved: dict[str, tuple[Traced, tuple[Op, ...]]] = {}
    series, emitted = {s.name: s for s in by_hand.series}, dict[Signature, Traced]()
    work = [output]
    seen: set[str] = set()
    while work:
        name = work.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in series:
            solved[name] = _Solving(tr, by_hand, dispatch, series[name], emitted).solved()
            work.append(solved[name][0].name)
        else:
            work += tr.builder[name].inputs
    return _rebuilt(tr, by_hand, solved, output)


def _rebuilt(
    tr: RuleContext, by_hand: ByHand, solved: dict[str, tuple[Traced, tuple[Op, ...]]], output: str
) -> tuple[GraphBuilder, str]:
    built = GraphBuilder(tr.T)
    nodes = {n.name: n for n in tr.builder}
    names: dict[str, str] = {}
    open_names: list[tuple[str, bool]] = [
        (output, False),
        *((n, False) for n in nodes if not nodes[n].inputs),
    ]
    waiting, code = set[str](), by_hand.series[0].code if by_hand.series else ""
    while open_names:
        name, ready = open_names.pop()
        if name in names:
            continue
        inputs = (solved[name][0].name,) if name in solved else nodes[name].inputs
        if not ready:
            if name in waiting:
                raise by_hand.recurrent(code)
            waiting.add(name)
            open_names += [(name, True), *((i, False) for i in reversed(inputs) if i not in names)]
            continue
        waiting.discard(name)
        if name not in solved:
            names[name] = built.add(name, nodes[name].op, *(names[i] for i in inputs))
            continue
        value, ops = names[inputs[0]], solved[name][1]
        for i, op in enumerate(ops):
            value = built.add(name if not i else f"{name}.{type(op).__name__.lower()}", op, value)
        names[name] = value
    return built, names[output]


@dataclass
class _Solving:
    """One stream: its lines, rewritten to depend on one stream of inputs."""

    tr: RuleContext
    by_hand: ByHand
    dispatch: Dispatch
    series: HandSeries
    emitted: dict[Signature, Traced]
    _signatures: dict[Made, tuple[Signature | None, int]] = field(default_factory=dict)
    _written: dict[Made, Made] = field(default_factory=dict)
    _inputs: dict[tuple[Signature, int], Made] = field(default_factory=dict)
    _arrays: dict[Signature, NDArray[np.float32]] = field(default_factory=dict)

    def solved(self) -> tuple[Traced, tuple[Op, ...]]:
        """The stream that goes in, and what is done to it.

        Raises:
            LoopRefusal: If that is not a neuron.
        """
        lines, T = self.series.lines, self.tr.T
        if len(lines) != T:
            raise self.by_hand.refusal(
                f"does not do the same in all {T} steps with a membrane kept by hand",
                "let every step do the same",
                self.series.code,
            )
        whole = {self._signature(m)[0] for m in lines}
        if len(whole) == 1 and (only := whole.pop()) is not None:
            return self._stream(only), ()
        lines, behind = _peeled(lines)
        ready = self._ready(lines)
        results = [self._rewritten(m, ready) for m in lines]
        read = {signature for signature, _ in self._inputs}
        if len(read) != 1:
            raise self.by_hand.refusal(
                f"keeps a membrane by hand that {len(read) or 'no'} signals go into, in a way that is not a sum of them",
                "add up what goes into the membrane first",
                self.series.code,
            )
        x = name_time(self.tr, self.series.name, self._stream(read.pop()), 0)
        features = tuple(n for n in x.signal.dims[2:] if isinstance(n, int))
        with modules_are_called():
            found = identify(_Unrolled(results), features, "time first", T)
        if found is None:
            raise self.by_hand.refusal(
                "keeps a membrane by hand whose steps are not all the same arithmetic",
                "put the neuron into a separate module: it is then identified by running it (docs/neurons.md)",
                self.series.code,
            )
        return x, found.ops + behind

    # -- what reads one step alone ------------------------------------------------------------------------------------
    def _signature(self, line: Made) -> tuple[Signature | None, int]:
        """The arithmetic of a line on the inputs of its own step, and that step; `None` if it is more than that."""
        work = [line]
        while work:
            made = work[-1]
            missing = [o for o in made.operands if isinstance(o, Made) and o not in self._signatures]
            if made in self._signatures or not missing:
                self._signatures.setdefault(work.pop(), self._signed(made))
            else:
                work += missing
        return self._signatures[line]

    def _signed(self, made: Made) -> tuple[Signature | None, int]:
        if made.function == "input":
            stream = self.by_hand.streams[made]
            signature: Signature = ("input", stream.name, stream.view)
            self.emitted.setdefault(signature, stream)
            return signature, made.step
        parts: list[Signature] = []
        for o in made.operands:
            part, step = self._signatures[o] if isinstance(o, Made) else (self._constant(o), made.step)
            if part is None or step != made.step:
                return None, made.step
            parts.append(part)
        plain = made.step >= 0 and made.function not in (*COMPARISONS, "fill")
        return (made.function, *parts) if plain else None, made.step

    def _constant(self, value: Operand) -> Signature:
        if not isinstance(value, np.ndarray):
            return ("constant", value)
        signature = ("array", value.shape, value.tobytes())
        self._arrays[signature] = value
        return signature

    def _ready(self, lines: list[Made]) -> set[Signature]:
        """The largest such parts; what only the first step has, where states are still numbers, does not count."""
        found, seen, work = set[Signature](), set[Made](), [*lines]
        while work:
            made = work.pop()
            if made in seen:
                continue
            seen.add(made)
            signature, step = self._signature(made)
            if signature is not None and step > 0:
                found.add(signature)
            else:
                work += [o for o in made.operands if isinstance(o, Made)]
        return found

    def _stream(self, signature: Signature) -> Traced:
        """The stream of a part, translated like any other code."""
        if signature in self.emitted:
            return self.emitted[signature]
        function, *parts = signature
        args: list[Any] = []
        for part in parts:
            if part[0] == "array":
                args.append(torch.from_numpy(self._arrays[part].copy()))
            else:
                args.append(part[1] if part[0] == "constant" else self._stream(part))
        target, args = (
            _ONE_SIDED[function](args) if function in _ONE_SIDED else (getattr(torch, function), args)
        )
        result: Traced = self.dispatch(self.tr, "call_function", target, tuple(args), {})
        self.emitted[signature] = result
        return result

    # -- lines that read one stream -----------------------------------------------------------------------------------
    def _rewritten(self, line: Made, ready: set[Signature]) -> Made:
        """The line with such parts as inputs; those that a membrane adds up are added up first."""
        work = [line]
        while work:
            made = work[-1]
            if made in self._written:
                work.pop()
                continue
            signature, step = self._signature(made)
            if signature is not None and signature in ready:
                self._written[work.pop()] = self._input(signature, step)
                continue
            terms = _terms(made, lambda m: self._signature(m)[0] in ready) if len(ready) > 1 else []
            inner = [t for t in terms if isinstance(t, Made) and self._signature(t)[0] in ready]
            operands = [t for t in terms if t not in inner] if len(inner) > 1 else [*made.operands]
            missing = [o for o in operands if isinstance(o, Made) and o not in self._written]
            if missing:
                work += missing
                continue
            given = [self._written[o] if isinstance(o, Made) else o for o in operands]
            self._written[work.pop()] = (
                self._joined(made, given, inner) if len(inner) > 1 else self._new(made, given)
            )
        return self._written[line]

    def _input(self, signature: Signature, step: int) -> Made:
        return self._inputs.setdefault((signature, step), Made("input", step=step))

    def _new(self, made: Made, operands: list[Operand]) -> Made:
        return Made(made.function, tuple(operands), made.step, made.value)

    def _joined(self, made: Made, others: list[Operand], inner: list[Made]) -> Made:
        parts = [self._signature(term) for term in inner]
        signature: Signature = parts[0][0] or ()
        for part, _ in parts[1:]:
            signature = ("add", signature, part)
        total = self._input(signature, parts[0][1])
        if others:
            before = others[0]
            for other in others[1:]:
                before = Made("add", (before, other), made.step)
            total = Made("add", (before, total), made.step)
        note = (
            f"{self.series.name}: what goes into the membrane is added up first, equal up to the last digit"
        )
        self.tr.notes += [note] if note not in self.tr.notes else []
        return total


_ONE_SIDED: dict[str, Callable[[list[Any]], tuple[Any, list[Any]]]] = {
    "max": lambda args: (torch.clamp, [args[0], args[1], None]),
    "min": lambda args: (torch.clamp, [args[0], None, args[1]]),
}
"""Functions of a signal and a number that have another name in torch."""


def _terms(line: Operand, whole: Callable[[Made], bool]) -> list[Operand]:
    """What a sum adds up, in order."""
    if not isinstance(line, Made) or line.function != "add" or whole(line):
        return [line]
    return [t for o in line.operands for t in _terms(o, whole)]


def _peeled(lines: list[Made]) -> tuple[list[Made], tuple[Op, ...]]:
    """Lines without the factors applied to their spikes, and the ops that apply those."""
    found: list[Op] = []
    while True:
        inner = [[o for o in m.operands if isinstance(o, Made)] for m in lines]
        others = {(m.function, *(o for o in m.operands if isinstance(o, float))) for m in lines}
        if len(others) != 1 or any(
            len(m.operands) != 2 or len(i) != 1 for m, i in zip(lines, inner, strict=True)
        ):
            return lines, tuple(found)
        if any(i[0].function not in (*COMPARISONS, "mul", "div") for i in inner):
            return lines, tuple(found)
        function, number = others.pop()
        if function not in ("mul", "div") or not isinstance(number, float) or not number:
            return lines, tuple(found)
        found.insert(0, ir.Affine(number if function == "mul" else 1 / number, 0.0))
        lines = [i[0] for i in inner]


class _Unrolled(nn.Module):
    """The lines of all steps, as a module on windows `[T, N, ...]`."""

    def __init__(self, results: list[Made]) -> None:
        super().__init__()
        found: set[Made] = set()
        work = [*results]
        while work:
            made = work.pop()
            if made not in found:
                found.add(made)
                work += [o for o in made.operands if isinstance(o, Made)]
        self._lines: list[tuple[str, tuple[Any, ...]]] = []
        place: dict[Made, int] = {}
        for made in sorted(found, key=lambda m: m.order):
            place[made] = len(self._lines)
            match made.function:
                case "input":
                    self._lines.append(("input", (made.step,)))
                case "fill":
                    self._lines.append(("fill", (made.value,)))
                case function:
                    given = [_Result(place[o]) if isinstance(o, Made) else o for o in made.operands]
                    self._lines.append((function, tuple(given)))
        self._results = [place[m] for m in results]

    def forward(self, x: Tensor) -> Tensor:
        """Spikes or membranes `[T, N, ...]`.

        Raises:
            ValueError: If the window has another number of steps.
        """
        if len(x) != len(self._results):
            raise ValueError("another number of steps")
        frames, found = x.unbind(), list[Any]()
        for function, operands in self._lines:
            if function == "input":
                found.append(frames[operands[0]])
            elif function == "fill":
                found.append(torch.full_like(frames[0], operands[0]))
            else:
                args = [_value(o, found, x) for o in operands]
                found.append(CALLS[function](frames[0], *args))
        return torch.stack([found[i] for i in self._results])


@dataclass(frozen=True)
class _Result:
    """Stands for the result of a line, by its number."""

    number: int


def _value(operand: Any, found: list[Any], x: Tensor) -> Any:
    if isinstance(operand, _Result):
        return found[operand.number]
    return torch.from_numpy(operand).to(x.dtype) if isinstance(operand, np.ndarray) else operand
