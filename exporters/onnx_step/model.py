"""Translation of a graph to a step model in ONNX: a frame and the states in; a result, its index and new states out.

The model follows the paced schedule of `runtime.stream`: every step does the same work, every value lags behind its frame
by a fixed number of steps, and the result of frame j of a window leaves `latency` steps after frame j entered. Windows
follow each other without a gap: each node counts its own frames and is reset at the first frame of a window.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.onnx_step.gate import emit_gate
from tcja_deploy.exporters.onnx_step.parts import Parts, StepClock, StepState, frame_shape
from tcja_deploy.ir import Kind, Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.onnx.emitter import Emitter
from tcja_deploy.runtime.onnx.rules import FRAME, TENSOR, fire, integrated, membrane, recurrence, refuse
from tcja_deploy.runtime.stream.cells import (
    Every,
    Integrators,
    Neurons,
    Recurrences,
    RunningMean,
    Scale,
    Window,
)
from tcja_deploy.runtime.stream.gate import GateBuffer
from tcja_deploy.runtime.stream.plan import MEAN, Link, StreamPlan, Takes
from tcja_deploy.runtime.stream.timing import timing

__all__ = ["StepModel", "step_model"]

_OUTPUTS = ("output", "frame", "valid")


@dataclass(frozen=True)
class StepModel:
    """A step model and what is needed to run it.

    Attributes:
        model: The ONNX model.
        states: Its states, in the order of the model's inputs.
        latency: Number of steps between a frame and the result that it completes.
        values: For each node, the name of the tensor that holds its value.
    """

    model: onnx.ModelProto
    states: tuple[StepState, ...]
    latency: int
    values: dict[str, str]


def step_model(plan: StreamPlan, *, opset: int, metadata: dict[str, str]) -> StepModel:
    """Translate a plan with the paced schedule.

    Inputs: the frame `[N, ...]`, then the states. Outputs: `output`, the latest result (until the window is complete, a
    mean over time covers the frames so far); `frame` (int64), the index of its last frame within the window, -1 before
    the first; `valid` (bool), whether it is final; then the new states, each named after its state with the suffix
    `.next`. N is free.

    Args:
        plan: From `runtime.stream.plan` of a graph.
        opset: Opset version.
        metadata: Written into the model's metadata properties.

    Raises:
        UnsupportedError: If an op has no rule; lists every such node.
    """
    links = [link for link in plan.links if link.name != plan.output + MEAN]
    refuse(
        (link.name, link.cell.op)
        for link in links
        if isinstance(link.cell, Every | Window) and type(link.cell.op) not in {*FRAME, *TENSOR}
    )
    emission = _Emission(plan, opset)
    for link in links:
        emission.emit(link)
    return emission.finish(metadata)


class _Emission:
    """One model under construction."""

    def __init__(self, plan: StreamPlan, opset: int) -> None:
        self.plan = plan
        self.timing = timing(plan)
        self.e = Emitter(opset, plan.T)
        self.parts = Parts(self.e, _OUTPUTS, warm_up=self.timing.latency)
        self.input = self.e.unique(plan.input)
        self.values = {plan.input: self.input}

    def emit(self, link: Link) -> None:
        """Add the nodes of one cell."""
        clock = self.parts.clock(self.timing.start[link.name])
        signals = [self.plan.signals[name] for name in link.inputs]
        xs = [self._arrived(link, i, clock) for i in range(len(link.inputs))]
        self.values[link.name] = self._cell(link, xs, signals, clock)

    def _cell(self, link: Link, xs: list[str], signals: list[Signal], clock: StepClock) -> str:
        e, parts, name, cell = self.e, self.parts, link.name, link.cell
        match cell:
            case Neurons(op, features):
                before, following = parts.state(f"{name}.v", ("N", *features), initial=op.v_rest)
                v = parts.restarted(before, clock, f"{name}/before", op.v_rest)
                fired, v = fire(e, op, membrane(e, op, xs[0], v, name), name)
                following(v)
                return e.node("Cast", [fired], name, to=TensorProto.FLOAT)
            case Integrators(op, features):
                before, following = parts.state(f"{name}.v", ("N", *features), initial=op.v_rest)
                v = parts.restarted(before, clock, f"{name}/before", op.v_rest)
                y, v = integrated(e, op, xs[0], v, name)
                following(v)
                return y
            case Recurrences(op, features):
                return self._recurrence(op, features, xs[0], clock, name)
            case GateBuffer():
                return emit_gate(parts, cell, xs[0], clock, name)
            case Scale():
                return e.node("Mul", [xs[0], e.unsqueeze(xs[1], [2, 3], f"{name}/gate")], name)
            case RunningMean(_, features):
                before, following = parts.state(f"{name}.sum", ("N", *features))
                total = e.node(
                    "Add", [parts.restarted(before, clock, f"{name}/before"), xs[0]], f"{name}/sum"
                )
                following(total)
                seen = parts.at(np.arange(1, e.T + 1, dtype=np.float32), clock, f"{name}/seen")
                return e.node("Div", [total, seen], name)
            case Every(op):
                frames = [self._without_time(x, s, link.signal) for x, s in zip(xs, signals, strict=True)]
                return self._op(op, frames, name, signals, dropped=1)
            case Window(op, emits):
                y = self._op(op, xs, name, signals, dropped=0)
                return self._unrolled(link, y, clock) if emits else y
        raise UnsupportedError("ONNX has no rule for this cell", where=name)

    def _recurrence(
        self, op: ir.Recurrence, features: tuple[int, ...], x: str, clock: StepClock, name: str
    ) -> str:
        parts, before, following = self.parts, [], []
        for i, initial in enumerate(op.initial):
            held, follow = parts.state(f"{name}.v{i}", ("N", *features), initial=initial)
            before.append(parts.restarted(held, clock, f"{name}/before{i}", initial))
            following.append(follow)

        def row(k: int) -> str:
            if not op.per_step:
                return self.e.constant(op.row(k, 0), f"{name}.c{k}")
            return parts.at(op.table[k], clock, f"{name}.c{k}")

        y, after = recurrence(self.e, op, x, before, row, name)
        for follow, v in zip(following, after, strict=True):
            follow(v)
        return self.e.node("Identity", [y], name)

    def _op(self, op: Op, xs: list[str], name: str, signals: list[Signal], dropped: int) -> str:
        if type(op) in FRAME:
            return FRAME[type(op)](self.e, op, xs[0], name, signals[0])
        return TENSOR[type(op)](self.e, op, xs, name, signals, dropped)

    def _without_time(self, x: str, signal: Signal, out: Signal) -> str:
        """A value without its time axis, which has length 1, for use with single frames."""
        if signal.streams or len(signal.dims) < len(out.dims):
            return x
        return self.parts.row(x, 0, f"{x}/frame")

    def _arrived(self, link: Link, i: int, clock: StepClock) -> str:
        """Input `i` of a cell, delayed until the step at which the cell computes."""
        source, takes = link.inputs[i], link.takes[i]
        x, signal = self.values[source], self.plan.signals[source]
        late = self.timing.start[link.name] - self.timing.first[source]
        shape, binary = frame_shape(signal, self.plan.T), signal.kind is Kind.BINARY
        if takes is Takes.WINDOW:
            return self.parts.window(x, late - self.plan.T + 1, shape, f"{source}.window", binary=binary)
        x = self.parts.delayed(x, late, shape, f"{source}.waiting", binary=binary)
        hold = takes is Takes.VALUE and link.per_frame
        return self.parts.latched(x, shape, clock, f"{source}.value") if hold else x

    def _unrolled(self, link: Link, y: str, clock: StepClock) -> str:
        """Single frames `[N, ...]`, one per step, from a result `[T, N, ...]`."""
        shape = (self.plan.T, *frame_shape(link.signal, self.plan.T))
        kept = self.parts.latched(y, shape, clock, f"{link.name}.frames")
        return self.e.node("Gather", [kept, clock.t], f"{link.name}/frame", axis=0)

    def finish(self, metadata: dict[str, str]) -> StepModel:
        """The finished model with its outputs."""
        e, plan, parts = self.e, self.plan, self.parts
        signal, latency = plan.signals[plan.output], self.timing.latency
        clock, begun = parts.clock(latency), parts.since(latency)
        none = e.constant(np.array(-1, np.int64), "number_none")
        parts.output("output", self.values[plan.output])
        parts.output("frame", e.node("Where", [begun, clock.t, none], "frame/index"))
        parts.output(
            "valid", begun if signal.streams else e.node("And", [begun, clock.last], "valid/complete")
        )
        states, info = parts.finish(), helper.make_tensor_value_info
        about = {s.name: {"shape": s.shape, "dtype": s.dtype, "value": s.value} for s in states}
        spiking = [n for n in plan.links if isinstance(n.cell, Neurons | Recurrences) and n.cell.op.spiking]
        layers = {link.name: self.values[link.name] for link in spiking}
        metadata = metadata | {
            "tcja_deploy.latency": str(latency),
            "tcja_deploy.states": json.dumps(about),
            "tcja_deploy.layers": json.dumps(layers),
        }
        inputs = [info(self.input, TensorProto.FLOAT, frame_shape(plan.frames, plan.T))]
        outputs = [
            info("output", TensorProto.FLOAT, frame_shape(signal, plan.T)),
            info("frame", TensorProto.INT64, []),
            info("valid", TensorProto.BOOL, []),
        ]
        inputs += [info(s.name, s.onnx_type, s.shape) for s in states]
        outputs += [info(s.next, s.onnx_type, s.shape) for s in states]
        model = e.model("tcja_snn_step", inputs, outputs, metadata)
        return StepModel(model, states, latency, dict(self.values))
