"""How each op is written in ONNX.

Two tables. `FRAME` rules work on tensors with one leading batch axis, `[B, ...features]`: the batch is `T N` in a sequence
model and N in a step model, so both exports share them. `TENSOR` rules work on tensors shaped like their signals, of which
a step model drops the leading time axis (`dropped = 1`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import onnx

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.ir import Dim, Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.onnx.emitter import Emitter
from tcja_deploy.unsupported import Unsupported, UnsupportedParts

__all__ = ["FRAME", "TENSOR", "fire", "integrated", "membrane", "recurrence", "refuse"]


def refuse(nodes: Iterable[tuple[str, Op]]) -> None:
    """Report nodes, given by name and op, that have no rule.

    Raises:
        UnsupportedError: If there are any; lists all of them.
    """
    found = UnsupportedParts()
    for name, op in nodes:
        found.add(name, Unsupported(f"{type(op).__name__} has no form in standard ONNX ops"))
    found.raise_if_any(UnsupportedError, "ONNX cannot express {}", noun="node")


# -- neurons: one step, used by both exports ----------------------------------------------------------------
def membrane(e: Emitter, op: ir.Neuron | ir.LI | ir.AffineIntegrator, x: str, v: str, name: str) -> str:
    """`H[t]` from input and previous membrane, in the sequence runtime's order of operations."""
    if isinstance(op, ir.AffineNeuron | ir.AffineIntegrator):
        return _affine_charge(e, op, x, v, name)
    if isinstance(op, ir.IF):
        return e.node("Add", [v, x], f"{name}/membrane")
    leak = (
        v if op.v_rest == 0.0 else e.node("Sub", [v, e.constant(op.v_rest, "v_rest")], f"{name}/above_rest")
    )
    if isinstance(op, ir.PLIF | ir.LI):
        scale, operand = "Mul", e.constant(float(op.decay), f"{name}/decay")
    elif isinstance(op, ir.LIF):
        scale, operand = "Div", e.constant(float(op.tau), "tau")
    else:
        raise TypeError(type(op).__name__)
    if op.decay_input:
        drive = e.node(scale, [e.node("Sub", [x, leak], f"{name}/drive"), operand], f"{name}/scaled_drive")
        return e.node("Add", [v, drive], f"{name}/membrane")
    decayed = e.node("Sub", [v, e.node(scale, [leak, operand], f"{name}/leak")], f"{name}/decayed")
    return e.node("Add", [decayed, x], f"{name}/membrane")


def _affine_charge(e: Emitter, op: ir.AffineNeuron | ir.AffineIntegrator, x: str, v: str, name: str) -> str:
    layer = name.rpartition("/t")[0] or name  # constants are those of the layer, not of a step
    h = e.node("Mul", [v, e.constant(op.leak, f"{layer}.leak")], f"{name}/leaked")
    if op.has_offset:
        h = e.node("Add", [h, e.constant(op.offset, f"{layer}.offset")], f"{name}/with_offset")
    if op.has_gain:
        x = e.node("Mul", [x, e.constant(op.gain, f"{layer}.gain")], f"{name}/scaled_input")
    h = e.node("Add", [h, x], f"{name}/membrane")
    if op.floor is None:
        return h
    return e.node("Max", [h, e.constant(float(op.floor), "floor")], f"{name}/above_floor")


def integrated(
    e: Emitter, op: ir.LI | ir.AffineIntegrator, x: str, v: str, name: str, *, last: bool = False
) -> tuple[str, str]:
    """The result of an integrator's step and its membrane afterwards, which nobody reads after the `last` step."""
    h = membrane(e, op, x, v, name)
    if isinstance(op, ir.LI) or op.v_threshold is None or last:
        return h, h
    return h, _reset(e, op, h, op.v_threshold, op.v_threshold, name)[1]


def _reset(
    e: Emitter, op: ir.Neuron | ir.AffineIntegrator, h: str, v_threshold: float, drop: float, name: str
) -> tuple[str, str]:
    threshold = e.constant(float(v_threshold), "v_threshold")
    fired = e.node("Greater" if op.strict else "GreaterOrEqual", [h, threshold], f"{name}/fired")
    if op.v_reset is None:
        reset = e.node("Sub", [h, e.constant(float(drop), "drop")], f"{name}/lowered")
    else:
        reset = e.constant(float(op.v_reset), "v_reset")
    return fired, e.node("Where", [fired, reset, h], f"{name}/reset")


_ARITHMETIC = {
    "abs": "Abs", "add": "Add", "ceil": "Ceil", "div": "Div", "exp": "Exp", "floor": "Floor", "max": "Max", "min": "Min",
    "mul": "Mul", "neg": "Neg", "round": "Round", "sigmoid": "Sigmoid", "sign": "Sign", "sqrt": "Sqrt", "sub": "Sub",
    "tanh": "Tanh",
}  # fmt: skip
_RELATIONS = {
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "lt": "Less",
    "ne": "Equal",
}


def recurrence(
    e: Emitter,
    op: ir.Recurrence,
    x: str,
    states: Sequence[str],
    row: Callable[[int], str],
    name: str,
    *,
    last: bool = False,
) -> tuple[str, list[str]]:
    """The result of a recurrence's step and its states afterwards; no states after the `last` step.

    `row` gives the name of a row of the table in this step.
    """
    lines = count()
    relations: dict[str, str] = {}  # the boolean that a 0 or 1 was cast from

    def call(function: str, *args: str) -> str:
        label = f"{name}/h{next(lines)}"
        if function in _ARITHMETIC:
            return e.node(_ARITHMETIC[function], args, label)
        if function == "where":
            condition, *either = args
            if condition not in relations:
                differs = e.node("Equal", [condition, e.constant(0.0, "zero")], f"{label}/zero")
                relations[condition] = e.node("Not", [differs], f"{label}/not_zero")
            return e.node("Where", [relations[condition], *either], label)
        holds = e.node(_RELATIONS[function], args, f"{label}/holds")
        if function == "ne":
            holds = e.node("Not", [holds], f"{label}/differs")
        number = e.node("Cast", [holds], label, to=onnx.TensorProto.FLOAT)
        relations[number] = holds
        return number

    y, after, _ = op.computed(x, states, row, lambda v: e.constant(float(v), "number"), call, last)
    spread = [v if op.reads_input(o) else e.node("Add", [v, e.node("Sub", [x, x], f"{name}/zeros")], f"{name}/spread")
              for v, o in zip((y, *after), (op.result, *op.after), strict=False)]  # fmt: skip
    return spread[0], spread[1:]


def fire(e: Emitter, op: ir.Neuron, h: str, name: str, *, last: bool = False) -> tuple[str, str]:
    """Spikes (boolean) and the membrane after the reset; the latter is empty after the `last` step, where nobody reads it."""
    if not last:
        return _reset(e, op, h, op.v_threshold, op.lowered_by, name)
    threshold = e.constant(float(op.v_threshold), "v_threshold")
    return e.node("Greater" if op.strict else "GreaterOrEqual", [h, threshold], f"{name}/fired"), ""


# -- frame rules ---------------------------------------------------------------------------------------------
def _owner(name: str) -> str:
    """The IR node that a value belongs to: constants are named after the node, not after the layout of the value."""
    return name.removesuffix("/each").removesuffix("/frames")


def _weights(e: Emitter, op: Any, name: str) -> list[str]:
    bias = [] if op.bias is None else [e.constant(op.bias, f"{_owner(name)}.bias")]
    return [e.constant(op.weight, f"{_owner(name)}.weight"), *bias]


def _conv2d(e: Emitter, op: ir.Conv2d, x: str, name: str) -> str:
    return e.node(
        "Conv", [x, *_weights(e, op, name)], name, kernel_shape=list(op.weight.shape[2:]), strides=list(op.stride),
        pads=list(op.padding), dilations=list(op.dilation), group=op.groups,
    )  # fmt: skip


def _conv_transpose2d(e: Emitter, op: ir.ConvTranspose2d, x: str, name: str) -> str:
    """Where output padding reaches the stride, which onnxruntime refuses, a further tap of zeros, cropped, does the same."""
    extra = [int(o >= s) for o, s in zip(op.output_padding, op.stride, strict=True)]
    weight = np.pad(op.weight, ((0, 0), (0, 0), (0, extra[0]), (0, extra[1])))
    more = [0 if add else o for o, add in zip(op.output_padding, extra, strict=True)]
    end = [
        p + add * (d - o)
        for p, d, o, add in zip(op.padding, op.dilation, op.output_padding, extra, strict=True)
    ]
    return e.node(
        "ConvTranspose", [x, *_weights(e, replace(op, weight=weight), name)], name, kernel_shape=list(weight.shape[2:]),
        strides=list(op.stride), pads=[*op.padding, *end], output_padding=more, dilations=list(op.dilation), group=op.groups,
    )  # fmt: skip


def _conv1d(e: Emitter, op: ir.Conv1d, x: str, name: str) -> str:
    return e.node(
        "Conv", [x, *_weights(e, op, name)], name, kernel_shape=[op.weight.shape[2]], strides=[op.stride],
        pads=list(op.padding), dilations=[op.dilation], group=op.groups,
    )  # fmt: skip


def _linear(e: Emitter, op: ir.Linear, x: str, name: str, signal: Signal) -> str:
    if len(signal.dims) - signal.streams == 2:
        return e.node("Gemm", [x, *_weights(e, op, name)], name, transB=1)
    weight = e.constant(np.ascontiguousarray(op.weight.T), f"{_owner(name)}.weight_transposed")
    y = e.node("MatMul", [x, weight], name if op.bias is None else f"{name}/product")
    return y if op.bias is None else e.node("Add", [y, e.constant(op.bias, f"{_owner(name)}.bias")], name)


def _batch_norm(e: Emitter, op: ir.BatchNorm1d | ir.BatchNorm2d, x: str, name: str) -> str:
    stats = [e.constant(getattr(op, n), f"{_owner(name)}.{n}") for n in ("gamma", "beta", "mean", "var")]
    return e.node("BatchNormalization", [x, *stats], name, epsilon=op.eps)


def _max_pool(e: Emitter, op: ir.MaxPool2d, x: str, name: str) -> str:
    pads = [*op.padding, *op.padding]
    return e.node("MaxPool", [x], name, kernel_shape=list(op.kernel), strides=list(op.stride), pads=pads)


def _avg_pool(e: Emitter, op: ir.AvgPool2d, x: str, name: str) -> str:
    return e.node(
        "AveragePool", [x], name, kernel_shape=list(op.kernel), strides=list(op.stride),
        pads=[*op.padding, *op.padding], count_include_pad=int(op.count_include_pad),
    )  # fmt: skip


def _adaptive_avg_pool(e: Emitter, op: ir.AdaptiveAvgPool2d, x: str, name: str, signal: Signal) -> str:
    """Sums of windows as products with 0/1 matrices (exact for counts), divided by each window's height and width."""
    sums, sizes = [], []
    for n, out in zip(signal.features[-2:], op.output_size, strict=True):
        member = np.zeros((out, n), np.float32)
        for i in range(out):
            member[i, i * n // out : -(-(i + 1) * n // out)] = 1
        sums.append(member)
        sizes.append(member.sum(1))
    y = e.node("MatMul", [e.constant(sums[0], f"{_owner(name)}.rows"), x], f"{name}/row_sums")
    y = e.node(
        "MatMul", [y, e.constant(np.ascontiguousarray(sums[1].T), f"{_owner(name)}.columns")], f"{name}/sums"
    )
    y = e.node("Div", [y, e.constant(sizes[0][:, None], f"{_owner(name)}.heights")], f"{name}/by_height")
    return e.node("Div", [y, e.constant(sizes[1], f"{_owner(name)}.widths")], name)


def _on(axes: int, rule: Callable[[Emitter, Any, str, str], str]) -> Callable[..., str]:
    """A rule on `[B, ...]` with this many axes after the first; other leading axes, such as places, join the first."""

    def wrapped(e: Emitter, op: Op, x: str, name: str, signal: Signal) -> str:
        if len(signal.dims) - signal.streams == axes + 1:
            return rule(e, op, x, name)
        flat = e.reshape(x, [-1, *_lengths(e, signal.dims[-axes:])], f"{name}/batch")
        dims = op.infer(signal, T=e.T).dims
        whole = [-1, *_lengths(e, dims[2:])] if signal.streams else _lengths(e, dims)
        return e.reshape(rule(e, op, flat, f"{name}/each"), whole, name)

    return wrapped


FRAME: dict[type[Op], Callable[[Emitter, Any, str, str, Signal], str]] = {
    ir.AdaptiveAvgPool2d: _adaptive_avg_pool,
    ir.AvgPool2d: _on(3, _avg_pool),
    ir.BatchNorm1d: _on(1, _batch_norm),
    ir.BatchNorm2d: _on(3, _batch_norm),
    ir.Conv1d: _on(2, _conv1d),
    ir.Conv2d: _on(3, _conv2d),
    ir.ConvTranspose2d: _on(3, _conv_transpose2d),
    ir.Flatten: lambda e, op, x, name, _: e.node("Flatten", [x], name, axis=1),
    ir.Linear: _linear,
    ir.MaxPool2d: _on(3, _max_pool),
}
"""Rules on `[B, ...features]`: (emitter, op, input, name, input signal) -> result."""


# -- tensor rules ----------------------------------------------------------------------------------------------
def _affine(
    e: Emitter, op: ir.Affine, xs: Sequence[str], name: str, ins: Sequence[Signal], dropped: int
) -> str:
    y = xs[0]
    if op.scale != 1.0 or op.offset == 0.0:
        y = e.node(
            "Mul",
            [y, e.constant(float(op.scale), f"{name}.scale")],
            name if op.offset == 0 else f"{name}/scaled",
        )
    return y if op.offset == 0.0 else e.node("Add", [y, e.constant(float(op.offset), f"{name}.offset")], name)


def _chain(op_type: str) -> Callable[..., str]:
    def rule(e: Emitter, op: Op, xs: Sequence[str], name: str, ins: Sequence[Signal], dropped: int) -> str:
        y = xs[0]
        for i, x in enumerate(xs[1:], start=2):
            y = e.node(op_type, [y, x], name if i == len(xs) else f"{name}/{i}")
        return y

    return rule


def _reshape(
    e: Emitter, op: ir.Reshape, xs: Sequence[str], name: str, ins: Sequence[Signal], dropped: int
) -> str:
    """`T` is a constant of the model and N the one free axis: -1."""
    return e.reshape(xs[0], _lengths(e, op.dims[dropped:]), name)


def _lengths(e: Emitter, dims: Sequence[Dim]) -> list[int]:
    return [d if isinstance(d, int) else e.T if d == "T" else -1 for d in dims]


def _vote(e: Emitter, op: ir.Vote, xs: Sequence[str], name: str, ins: Sequence[Signal], dropped: int) -> str:
    lead = _lengths(e, ins[0].dims[dropped:-1])
    features = ins[0].features[-1]
    classes, x = features // op.voters, xs[0]
    if classes * op.voters != features:
        bounds = [
            e.constant(np.array([b], np.int64), f"{name}.{n}")
            for n, b in (("from", 0), ("to", classes * op.voters))
        ]
        axis = e.constant(np.array([len(lead)], np.int64), f"axes_{len(lead)}")
        x = e.node("Slice", [x, *bounds, axis], f"{name}/used")
    groups = e.reshape(x, [*lead, classes, op.voters], f"{name}/groups")
    return e.reduce("mean", groups, [len(lead) + 1], False, name)


def _slice(
    e: Emitter, op: ir.Slice, xs: Sequence[str], name: str, ins: Sequence[Signal], dropped: int
) -> str:
    numbers = {"from": op.start, "to": op.stop, "axis": op.axis - dropped, "stride": op.stride}
    return e.node(
        "Slice",
        [xs[0], *(e.constant(np.array([v], np.int64), f"{name}.{k}") for k, v in numbers.items())],
        name,
    )


def _clamp(
    e: Emitter, op: ir.Clamp, xs: Sequence[str], name: str, ins: Sequence[Signal], dropped: int
) -> str:
    bounds = {"low": op.low, "high": op.high}
    return e.node(
        "Clip",
        [xs[0], *(e.constant(np.array(v, np.float32), f"{name}.{k}") for k, v in bounds.items())],
        name,
    )


TENSOR: dict[type[Op], Callable[..., str]] = {
    ir.Add: _chain("Add"),
    ir.Affine: _affine,
    ir.Clamp: _clamp,
    ir.Concat: lambda e, op, xs, name, ins, dropped: e.node("Concat", xs, name, axis=op.axis - dropped),
    ir.Mul: _chain("Mul"),
    ir.Permute: lambda e, op, xs, name, ins, dropped: e.node(
        "Transpose", xs, name, perm=[i - dropped for i in op.order[dropped:]]
    ),
    ir.ReLU: lambda e, op, xs, name, ins, dropped: e.node("Relu", xs, name),
    ir.Reduce: lambda e, op, xs, name, ins, dropped: e.reduce(
        op.how, xs[0], [a - dropped for a in op.axes], op.keepdims, name
    ),
    ir.Reshape: _reshape,
    ir.Sigmoid: lambda e, op, xs, name, ins, dropped: e.node("Sigmoid", xs, name),
    ir.Slice: _slice,
    ir.Vote: _vote,
}
"""Rules on tensors shaped like their signals: (emitter, op, inputs, name, input signals, dropped leading axes) -> result."""
