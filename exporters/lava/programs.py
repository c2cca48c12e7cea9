"""Attention of any family as a window program: the ops of a region one by one, in integers.

The units of values follow the arithmetic: a mean is a sum in a larger unit, a weighted sum has the unit of its input times
that of the weights (16 bits), and a value with more bits than the next step takes is rounded to a coarser unit. A sigmoid
is a table (argument in units of 1/1024, result in units of 1/16384). Every value has bounds and a bound on its error,
relative to the float ops on the same payloads; both are proven step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.program_builder import Builder, ProgramValue
from tcja_deploy.exporters.lava.regions import Region
from tcja_deploy.ir import Graph, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.ops.part import LARGEST
from tcja_deploy.runtime.integers.twin import MESSAGE_LIMIT
from tcja_deploy.runtime.integers.window.program import Program
from tcja_deploy.unsupported import Unsupported, UnsupportedParts

__all__ = ["CompiledProgram", "compile_region", "program_error"]


@dataclass(frozen=True, slots=True, eq=False)
class CompiledProgram:
    """A region in integers.

    Attributes:
        program: The steps.
        unit: The integer that stands for one in the result.
        error: Proven bound on the result's error, in the network's own numbers, relative to float ops on the same payloads.
    """

    program: Program
    unit: float
    error: float


@dataclass(frozen=True, slots=True)
class Place:
    """The context of a rule: the builder, the node, the axes of its operands, and the frames of a window."""

    builder: Builder
    node: Node
    dims: tuple[tuple[Any, ...], ...]
    frames: int

    def axis(self, axis: int, operand: int = 0) -> int:
        """Index of an operand's axis when the axis of samples is not counted."""
        dims = self.dims[operand]
        if axis < 0:
            axis += len(dims)
        return axis - ("N" in dims[:axis])

    def sizes(self, dims: tuple[Any, ...]) -> tuple[int, ...]:
        """Lengths of the axes other than that of samples."""
        return tuple(self.frames if d == "T" else d for d in dims if d != "N")


def compile_region(
    graph: Graph,
    region: Region,
    *,
    unit: float,
    low: int,
    high: int,
    out_unit: float | None = None,
    cut: bool = False,
) -> CompiledProgram:
    """The program of a region.

    Args:
        graph: The network.
        region: The part of it to compile.
        unit: The integer that stands for one in the payloads that enter.
        low: Smallest payload.
        high: Largest payload.
        out_unit: The integer that is to stand for one in the result; if None, the finest that the arithmetic yields.
        cut: Whether any message may enter and is clipped to `low` and `high`.

    Raises:
        UnsupportedError: If a program cannot express an op of the region; lists all of them.
    """
    builder, found = Builder(), UnsupportedParts()
    entry = graph[region.source].signal
    shape = tuple(region.frames if d == "T" else d for d in entry.dims if isinstance(d, int) or d == "T")
    bounds = (1 - MESSAGE_LIMIT, MESSAGE_LIMIT - 1) if cut else (low, high)
    entry_value = builder.input(shape, bounds, Fraction(unit))
    if cut:
        entry_value = builder.add("clip", [entry_value], entry_value.unit, 0.0, low=low, high=high)
    terms = {region.source: entry_value}
    for name in region.nodes:
        node = graph[name]
        with found.at(name):
            if any(i not in terms for i in node.inputs):
                continue
            dims = tuple(s.dims for s in graph.signals_in(node))
            place = Place(builder, node, dims, region.frames)
            rule = RULES.get(type(node.op))
            if rule is None:
                raise Unsupported("no step of a window program")
            terms[name] = rule(node.op, place, [terms[i] for i in node.inputs])
            wanted = place.sizes(node.signal.dims)
            terms[name] = builder.reshape(terms[name], wanted)
    found.raise_if_any(
        UnsupportedError, "{} of the attention cannot become steps of a window program", noun="op"
    )
    result = terms[region.sink]
    if out_unit is not None:
        result = builder.to_unit(result, Fraction(out_unit))
    if result.most >= 1 << 31:
        result = builder.limited(result, 30)
    if not builder.steps:
        result = builder.to_unit(result, result.unit * 2)
    return CompiledProgram(builder.program(), float(result.unit), result.error)


def program_error(
    graph: Graph, region: Region, compiled: CompiledProgram, unit: float, window: NDArray[np.integer[Any]]
) -> float:
    """Largest difference between the program and the float ops for the same payloads.

    Args:
        graph: The network.
        region: The part of it that was compiled.
        compiled: Its program.
        unit: The integer that stands for one in the payloads.
        window: Payloads `[T, N, ...]`.
    """
    values = {region.source: (window / unit).astype(np.float32)}
    for name in region.nodes:
        node = graph[name]
        values[name] = node.op.apply(*(values[i] for i in node.inputs))
    frames = window.reshape(-1, region.frames, *window.shape[1:])
    samples = np.moveaxis(frames, 2, 1).reshape(-1, region.frames, *window.shape[2:])
    got = compiled.program.run(samples)
    got = np.moveaxis(got.reshape(len(frames), -1, *got.shape[1:]), 1, 2).reshape(values[region.sink].shape)
    return float(np.abs(got / compiled.unit - values[region.sink]).max())


# -- rules -----------------------------------------------------------------------------------------------------------------
Rule = Callable[[Any, Place, list[ProgramValue]], ProgramValue]


def _keep(op: Op, place: Place, x: list[ProgramValue]) -> ProgramValue:
    """Flatten and Reshape: `compile_region` reshapes every result."""
    return x[0]


def _permute(op: ir.Permute, place: Place, x: list[ProgramValue]) -> ProgramValue:
    order = tuple(place.axis(a) for a in op.order if place.dims[0][a] != "N")
    return place.builder.permute(x[0], order) if order != tuple(sorted(order)) else x[0]


def _concat(op: ir.Concat, place: Place, x: list[ProgramValue]) -> ProgramValue:
    terms = place.builder.alike(x)
    error = max(t.error for t in terms)
    return place.builder.add("concat", terms, terms[0].unit, error, axis=place.axis(op.axis))


def _slice(op: ir.Slice, place: Place, x: list[ProgramValue]) -> ProgramValue:
    part = {"axis": place.axis(op.axis), "start": op.start, "stop": op.stop, "stride": op.stride}
    return place.builder.add("part", x, x[0].unit, x[0].error, **part)


def _reduce(op: ir.Reduce, place: Place, x: list[ProgramValue]) -> ProgramValue:
    axes = tuple(place.axis(a) for a in op.axes)
    if op.how == "max":
        return place.builder.add("max", x, x[0].unit, x[0].error, axes=axes)
    return place.builder.total(x[0], axes, mean=op.how == "mean")


def _conv1d(op: ir.Conv1d, place: Place, x: list[ProgramValue]) -> ProgramValue:
    left, right = op.padding
    return place.builder.weighted(
        x[0], op.weight, op.bias, stride=(op.stride,), before=(left,), after=(right,), dilation=(op.dilation,),
        groups=op.groups,
    )  # fmt: skip


def _conv2d(op: ir.Conv2d, place: Place, x: list[ProgramValue]) -> ProgramValue:
    top, left, bottom, right = op.padding
    return place.builder.weighted(
        x[0], op.weight, op.bias, stride=op.stride, before=(top, left), after=(bottom, right),
        dilation=op.dilation, groups=op.groups,
    )  # fmt: skip


def _linear(op: ir.Linear, place: Place, x: list[ProgramValue]) -> ProgramValue:
    return place.builder.weighted(x[0], op.weight, op.bias)


def _norm(op: ir.BatchNorm1d | ir.BatchNorm2d, place: Place, x: list[ProgramValue]) -> ProgramValue:
    scale, offset = op.scale_offset()
    shape = (-1,) + (1,) * (-op.channel_axis - 1)
    bits = 15 - math.ceil(math.log2(max(float(np.abs(scale).max()), 2.0**-30)))
    factor = place.builder.constant(scale.reshape(shape), Fraction(2) ** bits)
    scaled = place.builder.times(place.builder.limited(x[0], 30), factor)
    return place.builder.plus([scaled, place.builder.constant(offset.reshape(shape), scaled.unit)])


def _add(op: ir.Add, place: Place, x: list[ProgramValue]) -> ProgramValue:
    return place.builder.plus(x)


def _mul(op: ir.Mul, place: Place, x: list[ProgramValue]) -> ProgramValue:
    result = x[0]
    for term in x[1:]:
        result = place.builder.times(result, term)
    return result


def _affine(op: ir.Affine, place: Place, x: list[ProgramValue]) -> ProgramValue:
    builder, term = place.builder, x[0]
    if op.scale == 0:
        raise Unsupported("multiplies by zero")
    scale = Fraction(op.scale)
    if scale < 0:
        term = builder.add("rescale", [term], term.unit, term.error, factor=-1, shift=0)
    unit = term.unit / abs(scale)
    term = ProgramValue(term.index, term.shape, unit, term.bounds, float(abs(scale)) * term.error)
    if op.offset == 0:
        return term
    offset = np.full((1,) * len(term.shape), op.offset)
    if Fraction(op.offset) * term.unit % 1:
        term = builder.to_unit(term, Fraction(2) ** max(14, math.ceil(math.log2(term.unit))))
    return builder.plus([term, builder.constant(offset, term.unit)])


def _relu(op: ir.ReLU, place: Place, x: list[ProgramValue]) -> ProgramValue:
    return place.builder.clipped(x[0], 0.0, None) if x[0].bounds[0] < 0 else x[0]


def _clamp(op: ir.Clamp, place: Place, x: list[ProgramValue]) -> ProgramValue:
    bounds = (None if abs(v) == LARGEST else v for v in (op.low, op.high))
    return place.builder.clipped(x[0], *bounds)


def _sigmoid(op: ir.Sigmoid, place: Place, x: list[ProgramValue]) -> ProgramValue:
    return place.builder.sigmoid(x[0])


def _max_pool(op: ir.MaxPool2d, place: Place, x: list[ProgramValue]) -> ProgramValue:
    window = {"kernel": op.kernel, "stride": op.stride, "padding": op.padding}
    return place.builder.add("max_pool", x, x[0].unit, x[0].error, **window)


def _avg_pool(op: ir.AvgPool2d, place: Place, x: list[ProgramValue]) -> ProgramValue:
    if any(op.padding) and not op.count_include_pad:
        raise Unsupported("an average that does not count its padding")
    window = {"kernel": op.kernel, "stride": op.stride, "padding": op.padding}
    return place.builder.add("sum_pool", x, x[0].unit * math.prod(op.kernel), x[0].error, **window)


def _adaptive(op: ir.AdaptiveAvgPool2d, place: Place, x: list[ProgramValue]) -> ProgramValue:
    size = x[0].shape[-2:]
    if any(n % out for n, out in zip(size, op.output_size, strict=True)):
        raise Unsupported(f"uneven windows of an average from {size} to {op.output_size}")
    kernel = tuple(n // out for n, out in zip(size, op.output_size, strict=True))
    window = {"kernel": kernel, "stride": kernel, "padding": (0, 0)}
    return place.builder.add("sum_pool", x, x[0].unit * math.prod(kernel), x[0].error, **window)


def _tcja(op: ir.TCJA, place: Place, x: list[ProgramValue]) -> ProgramValue:
    """TCJA: squeeze, one or two convolutions, their product or sum, the sigmoid, and the gate."""
    builder, (T, C, _, _) = place.builder, x[0].shape
    squeezed = builder.reshape(builder.total(x[0], (2, 3), mean=True), (T, C))
    maps = []
    for weight, kernel, swaps in ((op.tla, op.k_t, True), (op.cla, op.k_c, False)):
        if weight is not None:
            before, after = ir.same_padding(kernel)
            z = builder.permute(squeezed, (1, 0)) if swaps else squeezed
            z = builder.weighted(
                z, weight, None, stride=(1,), before=(before,), after=(after,), dilation=(1,)
            )
            maps.append(builder.permute(z, (1, 0)) if swaps else z)
    argument = maps[0]
    if len(maps) == 2:
        argument = builder.times(*maps) if op.fusion == "multiply" else builder.plus(maps)
    return builder.times(x[0], builder.reshape(builder.sigmoid(argument), (T, C, 1, 1)))


RULES: dict[type[Op], Rule] = {
    ir.Add: _add,
    ir.AdaptiveAvgPool2d: _adaptive,
    ir.Affine: _affine,
    ir.AvgPool2d: _avg_pool,
    ir.BatchNorm1d: _norm,
    ir.BatchNorm2d: _norm,
    ir.Clamp: _clamp,
    ir.Concat: _concat,
    ir.Conv1d: _conv1d,
    ir.Conv2d: _conv2d,
    ir.Flatten: _keep,
    ir.Linear: _linear,
    ir.MaxPool2d: _max_pool,
    ir.Mul: _mul,
    ir.Permute: _permute,
    ir.ReLU: _relu,
    ir.Reduce: _reduce,
    ir.Reshape: _keep,
    ir.Sigmoid: _sigmoid,
    ir.Slice: _slice,
    ir.TCJA: _tcja,
}
"""The rules by which ops of the IR become steps; every other op is refused."""
