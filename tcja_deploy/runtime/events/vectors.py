"""Vector instructions for the kernels, written as LLVM code: sums of weight rows in registers, spikes as bits.

Numba's loops keep arrays in memory, and a sum that is stored and loaded for every row it adds takes twice the time. Here the
accumulators are LLVM vectors of 16 numbers, which become one register with AVX-512, two with AVX2, four with SSE or NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from tcja_deploy.runtime.events.llvm import (
    I16,
    I32,
    I64,
    LANES,
    choose,
    load,
    loop,
    number,
    pointer,
    side_by_side,
    spread,
    store,
    typed_intrinsic,
)

__all__ = [
    "LANES",
    "add_bits",
    "add_lists",
    "append_rows",
    "bits_set",
    "fire",
    "lowest_bit",
    "relax",
    "step",
    "sum_rows",
]

_F32 = ir.FloatType()
_VECTOR = ir.VectorType(_F32, LANES)
_FLAGS = ir.VectorType(ir.IntType(1), LANES)


def _add_rows(
    builder: Any, table: Any, index: Any, scale: Any, first: Any, last: Any, sums: list[Any], length: int = 1
) -> list[Any]:
    """The sums after the rows `index[first:last]` of `table`, in an order that depends on their number alone.

    A row begins at its index times `length`.
    """

    def add(j: Any, sums: list[Any]) -> list[Any]:
        found = builder.load(builder.gep(index, [j]))
        at = builder.zext(found, I64) if found.type == I16 else builder.sext(found, I64)
        row = builder.gep(table, [builder.mul(at, number(length))])
        factor = None if scale is None else spread(builder, builder.load(builder.gep(scale, [j])))
        new = []
        for k, total in enumerate(sums):
            part = load(builder, row, number(k * LANES), _VECTOR)
            if factor is None:
                new.append(builder.fadd(total, part))
            else:  # one rounding where the processor can, two elsewhere
                part = builder.fmul(part, factor, flags=("contract",))
                new.append(builder.fadd(total, part, flags=("contract",)))
        return new

    return side_by_side(builder, first, last, sums, ir.Constant(_VECTOR, [0.0] * LANES), add, builder.fadd)


def _charged(
    builder: Any, form: Any, x: list[Any], v: list[Any], rest: Any, leak: Any, gain: Any, drift: Any
) -> list[Any]:
    """Membranes before the comparison, by the form that `plan.Charge` numbers."""
    sub, add, mul, div = builder.fsub, builder.fadd, builder.fmul, builder.fdiv
    rules: list[Callable[[Any, Any], Any]] = [
        lambda x, v: add(v, x),
        lambda x, v: add(v, mul(sub(x, sub(v, rest)), leak)),
        lambda x, v: add(v, div(sub(x, sub(v, rest)), leak)),
        lambda x, v: add(sub(v, mul(sub(v, rest), leak)), x),
        lambda x, v: add(sub(v, div(sub(v, rest), leak)), x),
        lambda x, v: add(add(mul(v, leak), drift), mul(x, gain)),
    ]
    return choose(builder, form, rules, x, v)


class _Neuron:
    """Constants of neurons in registers, as `plan.neuron_constants` gives them."""

    def __init__(self, builder: Any, packed: Any) -> None:
        constants = [builder.extract_value(packed, i) for i in range(9)]
        self._builder, self._form = builder, constants[0]
        self.rest, *self._charge = (spread(builder, constants[i]) for i in (1, 2, 3, 4))
        self._threshold, self._reset = (spread(builder, constants[i]) for i in (5, 7))
        self._strict, self._soft = (builder.icmp_unsigned("!=", c, c.type(0)) for c in constants[6::2])

    def charged(self, x: list[Any], v: list[Any]) -> list[Any]:
        """Membranes before they are compared."""
        return _charged(self._builder, self._form, x, v, self.rest, *self._charge)

    def fired(self, h: Any) -> tuple[Any, Any]:
        """The word of spikes of a charged membrane, and the membrane after them."""
        builder = self._builder
        above, reached = (builder.fcmp_ordered(sign, h, self._threshold) for sign in (">", ">="))
        fired = builder.select(self._strict, above, reached)
        after = builder.select(self._soft, builder.fsub(h, self._reset), self._reset)
        return builder.bitcast(fired, I16), builder.select(fired, after, h)


@typed_intrinsic
def sum_rows(
    typing: Any, width: Any, total: Any, weights: Any, rows: Any, scales: Any, start: Any, end: Any
) -> Any:
    """Add to `total` the rows of `weights` that begin at `rows[start:end]`, each times its `scales` (`None` for 1).

    `width` is a tuple as long as a row has vectors: its type alone matters.
    """
    signature = types.void(width, total, weights, rows, scales, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, table, index, scale = (
            pointer(context, builder, signature.args[i], args[i]) for i in range(1, 5)
        )
        sums = [load(builder, out, number(k * LANES), _VECTOR) for k in range(width.count)]
        for k, total in enumerate(_add_rows(builder, table, index, scale, args[5], args[6], sums)):
            store(builder, total, out, number(k * LANES))
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def step(
    typing: Any, width: Any, bias: Any, weights: Any, rows: Any, scales: Any, start: Any, end: Any, neuron: Any, v: Any,
    bits: Any,
) -> Any:  # fmt: skip
    """One step of as many neurons as `width` vectors have: their input is the bias and the rows as in `sum_rows`.

    `neuron` as `plan.neuron_constants` gives it; the membranes `v` change, `bits` are the spikes.
    """
    signature = types.void(width, bias, weights, rows, scales, types.int64, types.int64, neuron, v, bits)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, table, index, scale, membrane, out = (
            pointer(context, builder, signature.args[i], args[i]) for i in (1, 2, 3, 4, 8, 9)
        )
        neuron = _Neuron(builder, args[7])
        places = [number(k * LANES) for k in range(width.count)]
        x = [load(builder, first, place, _VECTOR) for place in places]
        x = _add_rows(builder, table, index, scale, args[5], args[6], x)
        charged = neuron.charged(x, [load(builder, membrane, place, _VECTOR) for place in places])
        for k, (place, h) in enumerate(zip(places, charged, strict=True)):
            word, after = neuron.fired(h)
            store(builder, after, membrane, place)
            builder.store(word, builder.gep(out, [number(k)]))
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def relax(typing: Any, width: Any, bias: Any, neuron: Any, v: Any, steps: Any) -> Any:
    """As many steps of neurons whose input is the bias alone and that cannot fire from it; see `step`."""
    signature = types.void(width, bias, neuron, v, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, membrane = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 3))
        neuron = _Neuron(builder, args[2])
        places = [number(k * LANES) for k in range(width.count)]
        x = [load(builder, first, place, _VECTOR) for place in places]
        v = [load(builder, membrane, place, _VECTOR) for place in places]

        _, v = loop(builder, number(0), args[4], 1, v, lambda t, v: neuron.charged(x, v))
        for place, h in zip(places, v, strict=True):
            store(builder, h, membrane, place)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def add_lists(
    typing: Any, width: Any, sums: Any, at: Any, stride: Any, weights: Any, base: Any, index: Any, scale: Any,
    ends: Any, first: Any, steps: Any,
) -> Any:  # fmt: skip
    """Add to `sums[at + t stride:]`, for `t < steps`, the rows of the table `weights[base:]` that list `first + t` names.

    A list is `index[ends[i]:ends[i + 1]]`, each row worth its `scale` (`None` for 1) and as long as `width` vectors.
    """
    signature = types.void(
        width,
        sums,
        types.int64,
        types.int64,
        weights,
        types.int64,
        index,
        scale,
        ends,
        types.int64,
        types.int64,
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, table, channels, factors, edges = (
            pointer(context, builder, signature.args[i], args[i]) for i in (1, 4, 6, 7, 8)
        )
        table = builder.gep(table, [args[5]])
        edges = builder.gep(edges, [args[9]])
        places = [number(k * LANES) for k in range(width.count)]

        def add(t: Any, nothing: list[Any]) -> list[Any]:
            start, end = (
                builder.sext(builder.load(builder.gep(edges, [i])), I64)
                for i in (t, builder.add(t, number(1)))
            )
            here = builder.gep(out, [builder.add(args[2], builder.mul(t, args[3]))])
            sums = [load(builder, here, place, _VECTOR) for place in places]
            sums = _add_rows(builder, table, channels, factors, start, end, sums, width.count * LANES)
            for place, total in zip(places, sums, strict=True):
                store(builder, total, here, place)
            return []

        loop(builder, number(0), args[10], 1, [], add)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def fire(
    typing: Any, width: Any, x: Any, at: Any, neuron: Any, bits: Any, word: Any, stride: Any, steps: Any
) -> Any:
    """Neurons over a window whose inputs `x[at:]` lie step after step, from rest; see `step`.

    Their spikes of step t go to `bits[word + t stride:]`.
    """
    signature = types.void(width, x, types.int64, neuron, bits, types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs, out = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 4))
        inputs, out = builder.gep(inputs, [args[2]]), builder.gep(out, [args[5]])
        neuron = _Neuron(builder, args[3])

        def one(t: Any, v: list[Any]) -> list[Any]:
            here = builder.gep(inputs, [builder.mul(t, number(len(v) * LANES))])
            words = builder.gep(out, [builder.mul(t, args[6])])
            x = [load(builder, here, number(k * LANES), _VECTOR) for k in range(len(v))]
            after = []
            for k, h in enumerate(neuron.charged(x, v)):
                spikes, membrane = neuron.fired(h)
                builder.store(spikes, builder.gep(words, [number(k)]))
                after.append(membrane)
            return after

        loop(builder, number(0), args[7], 1, [neuron.rest] * width.count, one)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def append_rows(
    typing: Any,
    rows: Any,
    scales: Any,
    at: Any,
    index: Any,
    scale: Any,
    start: Any,
    end: Any,
    factor: Any,
    base: Any,
) -> Any:
    """`rows[at:] = index[start:end] * factor + base` and `scales[at:] = scale[start:end]`, 16 at a time.

    The arrays are longer by as much.
    """
    signature = types.void(
        rows, scales, types.int64, index, scale, types.int64, types.int64, types.int32, types.int32
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, out_scale, source, source_scale = (
            pointer(context, builder, signature.args[i], args[i]) for i in (0, 1, 3, 4)
        )
        at, start, end = args[2], args[5], args[6]
        factors, bases = spread(builder, args[7]), spread(builder, args[8])

        def copy(j: Any, nothing: list[Any]) -> list[Any]:
            found = load(builder, source, j, ir.VectorType(I16, LANES))
            wide = builder.zext(found, ir.VectorType(I32, LANES))
            to = builder.add(at, builder.sub(j, start))
            store(builder, builder.add(builder.mul(wide, factors), bases), out, to)
            if out_scale is not None:
                store(builder, load(builder, source_scale, j, _VECTOR), out_scale, to)
            return []

        loop(builder, start, end, LANES, [], copy)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def add_bits(typing: Any, counts: Any, at: Any, bits: Any, start: Any, steps: Any, stride: Any) -> Any:
    """Add 16 neurons' spikes to `counts[at:]`: the words `bits[start + t stride]` of `t < steps`."""
    signature = types.void(counts, types.int64, bits, types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, words = (pointer(context, builder, signature.args[i], args[i]) for i in (0, 2))
        wide = ir.VectorType(I32, LANES)

        def add(t: Any, sums: list[Any]) -> list[Any]:
            word = builder.load(builder.gep(words, [builder.add(args[3], builder.mul(t, args[5]))]))
            return [builder.add(sums[0], builder.zext(builder.bitcast(word, _FLAGS), wide))]

        _, (total,) = loop(builder, number(0), args[4], 1, [load(builder, out, args[1], wide)], add)
        store(builder, total, out, args[1])
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def lowest_bit(typing: Any, word: Any) -> Any:
    """Position of the lowest set bit of a number that is not zero."""
    if not isinstance(word, types.Integer):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return word(word), generate


@typed_intrinsic
def bits_set(typing: Any, word: Any) -> Any:
    """How many bits of a number are set."""
    if not isinstance(word, types.Integer):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return word(word), generate
