"""Loops over time in `forward`: the code holds one frame after the other, the graph the stream they are part of.

The first step of a loop emits the nodes, on whole streams. A later step has to make the same calls on the next frame: each
call is looked up among those of the first step, modules with state have to be called once per step and in order. Sums of
frames, lists that are stacked, and preallocated tensors that frames are written into become ops over the window when the
code reads them. A call that was not made in the first step works on its frame alone, cut out of the stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tcja_deploy.frontend.by_hand import ByHand
from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.layout import reshape, time_first
from tcja_deploy.frontend.per_step import PerStep
from tcja_deploy.frontend.traced import STATIC, LoopRefusal, OtherLength, Traced, tensors_in
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["TimeLoops"]

Translated = Traced | tuple[Traced, ...]
Translate = Callable[[str, Any, tuple[Any, ...], dict[str, Any]], Translated]

_JOINING = {"stack", "cat", "concat", "concatenate"}
_HINT = "make every step do the same with its frame, or pass the network of one step"


@dataclass(frozen=True)
class _Call:
    """A call of the first step.

    Attributes:
        result: What it gave.
        stateful: Modules with state that ran in it.
        arguments: Kept alive, so that their ids are not used again.
    """

    result: Translated
    stateful: tuple[str, ...]
    arguments: Any


class TimeLoops:
    """Calls on frames that a loop over time takes out of streams.

    Args:
        context: The tracer.
        translate: Translates one call on streams.
        remembers: Whether a module has state.
    """

    def __init__(
        self, context: RuleContext, translate: Translate, remembers: Callable[[nn.Module], bool]
    ) -> None:
        self._tr, self._translate, self._remembers = context, translate, remembers
        self._calls: dict[Any, _Call] = {}
        self._last: dict[str, int] = {}
        self._looped: set[str] = set()
        self._code = "forward"
        self._ran: list[str] = []
        self._now: int | None = None
        self._digests: dict[int, tuple[torch.Tensor, str]] = {}
        self._windows: dict[Any, Traced] = {}
        self._cuts: set[str] = set()
        self.by_hand: ByHand | None = None
        self.per_step = PerStep[_Call](context.T)

    # -- calls ----------------------------------------------------------------------------------------------------
    def call(
        self, name: str, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Translated:
        """The result of one call.

        Raises:
            Unsupported: If it makes the loop one that is not a single-step network run once per step.
        """
        if all(t.step is None for t in tensors_in((args, kwargs))):
            return self._outside(kind, target, args, kwargs)
        self._code = self._tr.code or self._code
        if kind != "call_module" and self.by_hand is None:
            done = self._added(name, args) if name in ("add", "iadd") else self._joined(name, args, kwargs)
            if done is not None:
                return done
        elif self.by_hand is not None:
            if (done := self._joined(name, args, kwargs) if kind != "call_module" else None) is not None:
                return done
            args, kwargs = (self.by_hand.cut(v) for v in (args, kwargs))
        args, kwargs = (_mapped(v, lambda t: t if t.since is None else self.whole(t)) for v in (args, kwargs))
        tensors = tensors_in((args, kwargs))
        steps = {t.step for t in tensors if t.step not in (None, STATIC)}
        if len(steps) > 1:
            if name in _JOINING and steps == set(range(len(steps))):
                raise self._ended(f"joins the first {len(steps)} of the {self._tr.T} time steps", len(steps))
            raise self.refusal("combines frames of different time steps")
        if all(t.step is None for t in tensors):
            return self._outside(kind, target, args, kwargs)
        step = next(iter(steps), STATIC)
        if self.by_hand is not None:
            self.by_hand.reached(step)
        key = (self._tr.here, kind, self._key(target), self._key(args), self._key(kwargs))
        known = self._calls.get(key)
        if kind == "call_module":
            place = (kind, self._key(args), self._key(kwargs))
            known = known or self.per_step.called(self._tr.here, target, place, step)
        if known is None and step not in (0, STATIC) and not self._is_stateful(kind, target):
            alone = (_mapped(v, lambda t: t if t.step is None else self.whole(t)) for v in (args, kwargs))
            result = self._outside(kind, target, *alone)
            self._cuts |= {t.name for t in tensors_in(result)}
            return result
        if known is None:
            known = self._first(kind, target, args, kwargs, step, key)
            if kind == "call_module" and step == 0:
                self.per_step.first(self._tr.here, target, place, known)
        else:
            if step == STATIC and self.by_hand is not None:
                self.by_hand.repeated(key)
            step = self._again(known, step)
        ran = step == STATIC and bool(known.stateful)
        stepped: Translated = _mapped(known.result, lambda t: replace(t, step=0 if ran else step))
        return stepped

    def _outside(self, kind: str, target: Any, args: Any, kwargs: Any) -> Translated:
        self._now = None
        after_cut = any(t.name in self._cuts for t in tensors_in((args, kwargs)))
        if after_cut and self._is_stateful(kind, target):
            raise self.refusal("does not treat all steps alike")
        result = self._translate(kind, target, args, kwargs)
        if after_cut:
            self._cuts |= {t.name for t in tensors_in(result)}
        return result

    def _first(self, kind: str, target: Any, args: Any, kwargs: Any, step: int, key: Any) -> _Call:
        self._now, self._ran = step, []
        try:
            result = self._translate(kind, target, args, kwargs)
        finally:
            self._now = None
        call = _Call(result, tuple(self._ran), (target, args, kwargs))
        if not any(t.tainted for t in tensors_in(result)):
            self._calls[key] = call
        return call

    def _again(self, known: _Call, step: int) -> int:
        """The step of a call that the first step made as well; the modules in it have seen all steps before."""
        for path in known.stateful:
            expected = self._last[path] + 1
            step = expected if step == STATIC else step
            if step != expected:
                raise self.refusal(f"calls {path or 'a neuron'} more than once per step, or out of order")
            if step >= self._tr.T:
                raise self.refusal(f"calls {path} more than {self._tr.T} times")
            self._last[path] = step
        return step

    def ran(self, path: str) -> None:
        """A module with state ran.

        Raises:
            UnsupportedInContext: If it ran before, outside a loop, or the steps of a loop feed it in different ways.
        """
        if self._now is None and path in self._last:
            raise UnsupportedInContext(
                "has state and is called more than once in one pass", "give each place its own neuron"
            )
        if path in self._last or self._now not in (None, 0, STATIC):
            raise self.refusal("does not treat all steps alike")
        self._last[path] = 0
        self._ran.append(path)
        if self._now is not None:
            self._looped.add(path)

    @property
    def steps(self) -> int | None:
        """How many steps the shortest loop has run so far; `None` if no module with state, and no membrane, is in one."""
        found = [self._last[path] + 1 for path in self._looped]
        by_hand = None if self.by_hand is None else self.by_hand.steps
        return min([*found, *([] if by_hand is None else [by_hand])], default=None)

    def _check_ended(self) -> None:
        """Make sure that loops that are over have run all steps: the graph runs them all, and counts what they cost.

        Raises:
            OtherLength: If one ended before.
        """
        steps = self.steps
        if steps is not None and steps < self._tr.T:
            raise self._ended(f"runs {steps} of the {self._tr.T} time steps", steps)

    def _ended(self, what: str, steps: int) -> Unsupported:
        return OtherLength(
            f"loop over time in {self._tr.code or self._code}: {what}",
            f"if the network is meant for T = {steps}, pass timesteps={steps} (--timesteps {steps}), or let the loop run over "
            f"all {self._tr.T} frames",
        )

    def refusal(self, what: str) -> Unsupported:
        """Why a loop cannot be translated."""
        return LoopRefusal(f"loop over time in {self._tr.code}: {what}", _HINT)

    def _is_stateful(self, kind: str, target: Any) -> bool:
        return kind == "call_module" and self._remembers(target)

    # -- what steps leave behind --------------------------------------------------------------------------------------
    def _added(self, name: str, args: tuple[Any, ...]) -> Traced | None:
        """A running sum with one more frame; `None` if this is another addition."""
        if len(args) != 2 or not all(isinstance(a, Traced) for a in args):
            return None
        for total, frame in (args, args[::-1]):
            same = (total.name, total.view, total.lead) == (frame.name, frame.view, frame.lead)
            if total.step in (None, STATIC) or frame.step != total.step + 1 or frame.since is not None:
                continue
            if same:
                since = total.step if total.since is None else total.since
                more: Traced = replace(total, since=since, step=frame.step)
                return more
        return None

    def _joined(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced | None:
        """Frames of all steps side by side; `None` if these are not all of them."""
        if name not in _JOINING or not args or not isinstance(args[0], list | tuple):
            return None
        frames = list(args[0])
        dim = int(args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0)))
        return self.join(frames, dim, new=name == "stack")

    def join(self, frames: Sequence[Any], dim: int, new: bool) -> Traced | None:
        """The frames of all steps in order as one tensor, along a new axis or an existing one."""
        if not frames or not all(isinstance(f, Traced) for f in frames) or len(frames) != self._tr.T:
            return None
        if self.by_hand is not None and any(f.line is not None for f in frames):
            found = self.by_hand.all_steps(frames)
            if found is None:
                return None
            frames = found
        first = frames[0]
        static = all(f.step == STATIC for f in frames)
        if not static and [f.step for f in frames] != list(range(len(frames))):
            return None
        if any((f.name, f.view, f.since, f.pair) != (first.name, first.view, None, False) for f in frames):
            return None
        if first.view == "lone" and not new and dim == 0:  # [1, N, ...] each
            first, new = replace(first, view="frame"), True
        if first.view != "frame":
            return None
        rank = len(first.shape(self._tr.T))
        dim %= rank + new
        x: Traced = replace(first, step=None, view="window", storage=-1)
        label = f"{self._tr.here}.join".lstrip(".")
        if not new and dim == 0:
            return replace(x, view="batch", lead=2)
        if dim:
            order = (*range(1, dim + 1), 0, *range(dim + 1, rank + 1))
            x = self._kept((x.name, order), lambda: self._tr.emit(label, ir.Permute(order), x))
        if new:
            return x
        shape = x.shape(self._tr.T)
        merged = [*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :]]
        return reshape(self._tr, label, x, merged)

    def result(self, x: Traced) -> Traced:
        """What `forward` returns as a value of its own, when its loops are over.

        Raises:
            Unsupported: If a loop ended before the window, or which step is meant is not known.
        """
        if not x.tainted:
            self._check_ended()
        return self.whole(x)

    def whole(self, x: Traced) -> Traced:
        """A frame or a sum of frames as a value of its own, cut out of its stream.

        Raises:
            Unsupported: If it is the same in all steps: which step is meant is not known.
        """
        if x.step is None:
            return x
        if x.step == STATIC:
            return replace(x, step=None)
        label = f"{self._tr.here}.{'sum' if x.since is not None else 'step'}".lstrip(".")
        first, last = x.step if x.since is None else x.since, x.step
        result = self._kept((x.name, first, last, x.since is None), lambda: self._cut(label, x, first, last))
        return replace(result, pair=x.pair, tainted=x.tainted)

    def _cut(self, label: str, x: Traced, first: int, last: int) -> Traced:
        stream = replace(x, view="window", step=None, since=None, pair=False)
        if (first, last) != (0, self._tr.T - 1):
            stream = self._tr.emit(label, ir.Slice(0, first, last + 1), stream)
        if x.since is None:
            return reshape(self._tr, label, stream, stream.shape(self._tr.T)[1:])
        return self._tr.emit(label, ir.Reduce("sum", (0,), False), stream)

    def _kept(self, key: Any, make: Callable[[], Traced]) -> Traced:
        if key not in self._windows:
            self._windows[key] = make()
        return self._windows[key]

    def frame(self, label: str, x: Traced, axis: int, step: int) -> Traced | None:
        """Frame `step` of a window whose IR axis `axis` is time; `None` if it is not."""
        key = (x.name, "stream", axis)
        if key not in self._windows:
            stream = time_first(self._tr, label, x, axis)
            if stream is None:
                return None
            self._windows[key] = stream
        return replace(self._windows[key], view="frame", step=step, lead=2, tainted=x.tainted)

    # -- what makes two calls the same ------------------------------------------------------------------------------
    def _key(self, value: Any) -> Any:
        if isinstance(value, Traced):
            return (
                "signal",
                value.name,
                value.view,
                value.lead,
                value.pair,
                value.expanded,
                value.step == STATIC,
            )
        if isinstance(value, torch.Tensor):
            return ("weights", self._digest(value))
        if isinstance(value, dict):
            return tuple((k, self._key(v)) for k, v in value.items())
        if isinstance(value, list | tuple):
            return tuple(self._key(v) for v in value)
        if isinstance(value, slice):
            return ("slice", value.start, value.stop, value.step)
        if isinstance(value, str | int | float | None):
            return (type(value).__name__, value)
        return ("object", id(value))

    def _digest(self, tensor: torch.Tensor) -> str:
        if id(tensor) not in self._digests:
            plain = tensor.detach().cpu().contiguous()
            text = (
                f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
                + plain.view(-1).view(torch.uint8).numpy().tobytes()
            )
            self._digests[id(tensor)] = tensor, hashlib.sha256(text).hexdigest()
        return self._digests[id(tensor)][1]


def _mapped(value: Any, change: Callable[[Traced], Traced]) -> Any:
    """Arguments or results with every tensor changed."""
    if isinstance(value, Traced):
        return change(value)
    if isinstance(value, dict):
        return {k: _mapped(v, change) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(v, change) for v in value)
    return value
