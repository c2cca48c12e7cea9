"""Vector instructions for the kernels, written as LLVM code: sums of weight rows in registers, spikes as bits.

Numba's loops keep arrays in memory, and a sum that is stored and loaded for every row that it adds takes twice the time.
Here the accumulators are LLVM vectors of 16 numbers, which become one register with AVX-512, two with AVX2, four with SSE or
NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from tcja_deploy.runtime.events.llvm import (
    I16,
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
    "add_elements",
    "add_lists",
    "fill",
    "fire",
    "relax",
    "step",
]

_F32 = ir.FloatType()
_VECTOR = ir.VectorType(_F32, LANES)
_IN_REGISTERS = 8
"""Vectors of membranes that are held at once."""


def _add_row(
    builder: Any, table: Any, index: Any, scale: Any, j: Any, sums: list[Any], length: int
) -> list[Any]:
    """The sums plus the row that begins at `index[j]` times `length`, times `scale[j]` if there is one."""
    found = builder.load(builder.gep(index, [j]))
    at = builder.zext(found, I64) if found.type == I16 else builder.sext(found, I64)
    row = builder.gep(table, [builder.mul(at, number(length))])
    factor = None if scale is None else spread(builder, builder.load(builder.gep(scale, [j])))
    new = []
    for k, total in enumerate(sums):
        part = load(builder, row, number(k * LANES), _VECTOR)
        if factor is None:
            new.append(builder.fadd(total, part))
        else:  # rounds once on processors that can, twice on others
            part = builder.fmul(part, factor, flags=("contract",))
            new.append(builder.fadd(total, part, flags=("contract",)))
    return new


def _add_rows(
    builder: Any, table: Any, index: Any, scale: Any, first: Any, last: Any, sums: list[Any], length: int = 1
) -> list[Any]:
    """The sums plus the rows `index[first:last]` of `table`, in an order that depends only on their number.

    A row begins at its index times `length`.
    """

    def add(j: Any, sums: list[Any]) -> list[Any]:
        return _add_row(builder, table, index, scale, j, sums, length)

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
        constants = [builder.extract_value(packed, i) for i in range(8)]
        self._builder, self._form = builder, constants[0]
        self.rest, *self._charge = (spread(builder, constants[i]) for i in (1, 2, 3, 4))
        self._threshold, self._reset = (spread(builder, constant) for constant in constants[5:7])
        self._soft = builder.icmp_unsigned("!=", constants[7], constants[7].type(0))

    def charged(self, x: list[Any], v: list[Any]) -> list[Any]:
        """Membranes before they are compared."""
        return _charged(self._builder, self._form, x, v, self.rest, *self._charge)

    def fired(self, h: Any) -> tuple[Any, Any]:
        """The word of spikes of a charged membrane, and the membrane after them."""
        builder = self._builder
        fired = builder.fcmp_ordered(">", h, self._threshold)
        after = builder.select(self._soft, builder.fsub(h, self._reset), self._reset)
        return builder.bitcast(fired, I16), builder.select(fired, after, h)


def _change(
    builder: Any, array: Any, at: Any, vectors: int, change: Callable[[list[Any]], list[Any]]
) -> None:
    """Replace the vectors stored at `array[at:]` by what `change` makes of them."""
    here = builder.gep(array, [at])
    places = [number(k * LANES) for k in range(vectors)]
    for place, value in zip(
        places, change([load(builder, here, place, _VECTOR) for place in places]), strict=True
    ):
        store(builder, value, here, place)


def _row_of_step(builder: Any, args: Any, t: Any) -> Any:
    """Where the sums of step t begin, for kernels whose third and fourth arguments are `at` and `stride`."""
    return builder.add(args[2], builder.mul(t, args[3]))


@typed_intrinsic
def step(typing: Any, width: Any, x: Any, at: Any, neuron: Any, v: Any, bits: Any) -> Any:
    """One step of as many neurons as `width` vectors have, whose inputs are `x[at:]`.

    `neuron` is what `plan.neuron_constants` gives; the membranes `v` change, `bits` receives the spikes. `width` is a tuple
    with as many elements as a block has vectors; only its type matters.
    """
    signature = types.void(width, x, types.int64, neuron, v, bits)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs, membrane, out = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 4, 5))
        inputs = builder.gep(inputs, [args[2]])
        neuron = _Neuron(builder, args[3])
        places = [number(k * LANES) for k in range(width.count)]
        x, v = ([load(builder, array, place, _VECTOR) for place in places] for array in (inputs, membrane))
        for k, (place, h) in enumerate(zip(places, neuron.charged(x, v), strict=True)):
            word, after = neuron.fired(h)
            store(builder, after, membrane, place)
            builder.store(word, builder.gep(out, [number(k)]))
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def relax(typing: Any, width: Any, bias: Any, neuron: Any, v: Any, steps: Any) -> Any:
    """`steps` steps of neurons whose only input is the bias and that cannot fire from it; see `step`."""
    signature = types.void(width, bias, neuron, v, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, membrane = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 3))
        neuron = _Neuron(builder, args[2])
        x = [load(builder, first, number(k * LANES), _VECTOR) for k in range(width.count)]

        def charge(v: list[Any]) -> list[Any]:
            return loop(builder, number(0), args[4], 1, v, lambda t, v: neuron.charged(x, v))[1]

        _change(builder, membrane, number(0), width.count, charge)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def fill(typing: Any, width: Any, sums: Any, at: Any, stride: Any, bias: Any, column: Any, steps: Any) -> Any:
    """`sums[at + t stride:] = bias[column:]` for `t < steps`, for as many numbers as `width` vectors have."""
    signature = types.void(width, sums, types.int64, types.int64, bias, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, values = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 4))
        places = [number(k * LANES) for k in range(width.count)]
        held = [load(builder, values, builder.add(args[5], place), _VECTOR) for place in places]

        def write(t: Any, nothing: list[Any]) -> list[Any]:
            here = builder.gep(out, [_row_of_step(builder, args, t)])
            for place, value in zip(places, held, strict=True):
                store(builder, value, here, place)
            return []

        loop(builder, number(0), args[6], 1, [], write)
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
    i64 = types.int64
    signature = types.void(width, sums, i64, i64, weights, i64, index, scale, ends, i64, i64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, table, channels, factors, edges = (
            pointer(context, builder, signature.args[i], args[i]) for i in (1, 4, 6, 7, 8)
        )
        table = builder.gep(table, [args[5]])
        edges = builder.gep(edges, [args[9]])

        def add(t: Any, nothing: list[Any]) -> list[Any]:
            start, end = (
                builder.sext(builder.load(builder.gep(edges, [i])), I64)
                for i in (t, builder.add(t, number(1)))
            )

            def add_list(sums: list[Any]) -> list[Any]:
                return _add_rows(builder, table, channels, factors, start, end, sums, width.count * LANES)

            _change(builder, out, _row_of_step(builder, args, t), width.count, add_list)
            return []

        loop(builder, number(0), args[10], 1, [], add)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def add_elements(
    typing: Any, width: Any, sums: Any, at: Any, stride: Any, weights: Any, base: Any, index: Any, scale: Any,
    when: Any, first: Any, last: Any,
) -> Any:  # fmt: skip
    """Add to `sums[at + t stride:]` the rows of elements of lists, where `t` is the step `when` of each; see `add_lists`."""
    i64 = types.int64
    signature = types.void(width, sums, i64, i64, weights, i64, index, scale, when, i64, i64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, table, channels, factors, times = (
            pointer(context, builder, signature.args[i], args[i]) for i in (1, 4, 6, 7, 8)
        )
        table = builder.gep(table, [args[5]])

        def add(j: Any, nothing: list[Any]) -> list[Any]:
            def add_row(sums: list[Any]) -> list[Any]:
                return _add_row(builder, table, channels, factors, j, sums, width.count * LANES)

            t = builder.zext(builder.load(builder.gep(times, [j])), I64)
            _change(builder, out, _row_of_step(builder, args, t), width.count, add_row)
            return []

        loop(builder, args[9], args[10], 1, [], add)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def fire(
    typing: Any, width: Any, x: Any, at: Any, count: Any, neuron: Any, bits: Any, places: Any, word: Any, stride: Any,
    kept: Any, steps: Any,
) -> Any:  # fmt: skip
    """Neurons of `count` places over a window from rest; see `step`.

    Their inputs `x[at:]` are stored place after place and step after step. The first `kept` words of spikes of place p and
    step t go to `bits[places[p] + word + t stride:]`. Places run side by side, so that a step need not wait for the one before.
    """
    i64 = types.int64
    signature = types.void(width, x, i64, i64, neuron, bits, places, i64, i64, i64, i64)
    together = max(1, _IN_REGISTERS // width.count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs, out, found = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 5, 6))
        inputs, out = builder.gep(inputs, [args[2]]), builder.gep(out, [args[7]])
        neuron = _Neuron(builder, args[4])
        limits = [builder.icmp_signed("<", number(k), args[9]) for k in range(width.count)]
        length = number(width.count * LANES)

        def places(first: Any, several: int) -> list[Any]:
            numbers = [builder.add(first, number(q)) for q in range(several)]
            sums = [builder.gep(inputs, [builder.mul(builder.mul(p, args[10]), length)]) for p in numbers]
            words = [builder.gep(out, [builder.load(builder.gep(found, [p]))]) for p in numbers]

            def one(t: Any, v: list[Any]) -> list[Any]:
                row, offset = builder.mul(t, length), builder.mul(t, args[8])
                x = [
                    load(builder, builder.gep(place, [row]), number(k * LANES), _VECTOR)
                    for place in sums
                    for k in range(width.count)
                ]
                after = []
                for i, h in enumerate(neuron.charged(x, v)):
                    spikes, membrane = neuron.fired(h)
                    k = i % width.count
                    here = builder.gep(words[i // width.count], [builder.add(offset, number(k))])
                    with builder.if_then(limits[k], likely=True):
                        builder.store(spikes, here)
                    after.append(membrane)
                return after

            loop(builder, number(0), args[10], 1, [neuron.rest] * (width.count * several), one)
            return []

        last = builder.sub(args[3], number(together - 1))
        p, _ = loop(builder, number(0), last, together, [], lambda p, nothing: places(p, together))
        if together > 1:
            loop(builder, p, args[3], 1, [], lambda p, nothing: places(p, 1))
        return context.get_dummy_value()

    return signature, generate
