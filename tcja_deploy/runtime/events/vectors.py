"""Vector instructions for the kernels, written as LLVM code: sums of weight rows in registers, spikes as bits.

Numba's loops keep arrays in memory, and a sum that is stored and loaded for every row that it adds takes twice the time.
Here the accumulators are LLVM vectors of 16 numbers, which become one register with AVX-512, two with AVX2, four with SSE or
NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types

from tcja_deploy.runtime.events.llvm import (
    I16,
    I64,
    LANES,
    branch,
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
    "WIDTHS",
    "add_elements",
    "add_lists",
    "fill",
    "fire",
    "relax",
    "step",
]

_F32 = ir.FloatType()
_VECTOR = ir.VectorType(_F32, LANES)
WIDTHS = (1, 2, 4, 8)
"""How many vectors a block of outputs may have."""
_IN_REGISTERS = 8
"""Vectors of membranes of a window that are held at once: enough that no addition waits for the previous one."""
_IN_A_FRAME = 4
"""The same for a frame."""


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


def _change(builder: Any, here: Any, vectors: int, change: Callable[[list[Any]], list[Any]]) -> None:
    """Replace the vectors stored at an address by what `change` makes of them."""
    places = [number(k * LANES) for k in range(vectors)]
    for place, value in zip(
        places, change([load(builder, here, place, _VECTOR) for place in places]), strict=True
    ):
        store(builder, value, here, place)


def _row_of_step(builder: Any, args: Any, t: Any) -> Any:
    """Where the sums of step t begin, for kernels whose third and fourth arguments are `at` and `stride`."""
    return builder.add(args[2], builder.mul(t, args[3]))


def _some(builder: Any, first: Any, count: Any, several: int) -> list[Any]:
    """Numbers from `first`, so many, the last one below `count` again and again behind it."""
    last = builder.sub(count, number(1))
    numbers = [builder.add(first, number(i)) for i in range(several)]
    return [builder.select(builder.icmp_signed("<", i, last), i, last) for i in numbers]


def _by_layout(
    context: Any, builder: Any, width: Any, kind: Any, scale: Any, emit: Callable[[int, Any], None]
) -> None:
    """Code for each width of a block, with the factors `scale` and without, which is for an empty array.

    Kernels are compiled once for all layers, because that takes seconds.
    """
    factors = context.make_array(kind)(context, builder, scale)

    def of_width(vectors: int) -> None:
        with builder.if_else(builder.icmp_signed("!=", factors.nitems, number(0))) as (scaled, plain):
            with scaled:
                emit(vectors, factors.data)
            with plain:
                emit(vectors, None)

    branch(builder, width, {vectors: partial(of_width, vectors) for vectors in WIDTHS})


@typed_intrinsic
def step(typing: Any, width: Any, x: Any, at: Any, neuron: Any, v: Any, bits: Any) -> Any:
    """One step of as many neurons as `width` vectors have, whose inputs are `x[at:]`.

    `neuron` is what `plan.neuron_constants` gives; the membranes `v` change, `bits` receives the spikes.
    """
    signature = types.void(width, x, types.int64, neuron, v, bits)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs, membrane, out = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 4, 5))
        inputs = builder.gep(inputs, [args[2]])
        neuron = _Neuron(builder, args[3])

        def several(first: Any, nothing: list[Any]) -> list[Any]:
            numbers = _some(builder, first, args[0], _IN_A_FRAME)
            places = [builder.mul(k, number(LANES)) for k in numbers]
            x, v = (
                [load(builder, array, place, _VECTOR) for place in places] for array in (inputs, membrane)
            )
            for k, place, h in zip(numbers, places, neuron.charged(x, v), strict=True):
                word, after = neuron.fired(h)
                store(builder, after, membrane, place)
                builder.store(word, builder.gep(out, [k]))
            return []

        loop(builder, number(0), args[0], _IN_A_FRAME, [], several)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def relax(typing: Any, width: Any, bias: Any, neuron: Any, v: Any, steps: Any) -> Any:
    """`steps` steps of neurons whose only input is the bias and that cannot fire from it; see `step`."""
    signature = types.void(width, bias, neuron, v, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs, membrane = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 3))
        neuron = _Neuron(builder, args[2])

        def several(first: Any, nothing: list[Any]) -> list[Any]:
            places = [builder.mul(k, number(LANES)) for k in _some(builder, first, args[0], _IN_A_FRAME)]
            x, v = (
                [load(builder, array, place, _VECTOR) for place in places] for array in (inputs, membrane)
            )
            _, after = loop(builder, number(0), args[4], 1, v, lambda t, v: neuron.charged(x, v))
            for place, value in zip(places, after, strict=True):
                store(builder, value, membrane, place)
            return []

        loop(builder, number(0), args[0], _IN_A_FRAME, [], several)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def fill(typing: Any, width: Any, sums: Any, at: Any, stride: Any, bias: Any, column: Any, steps: Any) -> Any:
    """`sums[at + t stride:] = bias[column:]` for `t < steps`, for as many numbers as `width` vectors have."""
    signature = types.void(width, sums, types.int64, types.int64, bias, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, values = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 4))

        length = builder.mul(args[0], number(LANES))
        values = builder.gep(values, [args[5]])

        def row(t: Any, nothing: list[Any]) -> list[Any]:
            here = builder.gep(out, [_row_of_step(builder, args, t)])

            def write(place: Any, nothing: list[Any]) -> list[Any]:
                store(builder, load(builder, values, place, _VECTOR), here, place)
                return []

            loop(builder, number(0), length, LANES, [], write)
            return []

        loop(builder, number(0), args[6], 1, [], row)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def add_lists(
    typing: Any, width: Any, sums: Any, at: Any, stride: Any, weights: Any, base: Any, index: Any, scale: Any,
    ends: Any, first: Any, steps: Any,
) -> Any:  # fmt: skip
    """Add to `sums[at + t stride:]`, for `t < steps`, the rows of the table `weights[base:]` that list `first + t` names.

    A list is `index[ends[i]:ends[i + 1]]`, each row worth its `scale` (empty for 1) and as long as `width` vectors.
    """
    i64 = types.int64
    signature = types.void(width, sums, i64, i64, weights, i64, index, scale, ends, i64, i64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, table, channels, edges = (
            pointer(context, builder, signature.args[i], args[i]) for i in (1, 4, 6, 8)
        )
        table = builder.gep(table, [args[5]])
        edges = builder.gep(edges, [args[9]])

        def emit(vectors: int, factors: Any) -> None:
            def add(t: Any, nothing: list[Any]) -> list[Any]:
                start, end = (
                    builder.sext(builder.load(builder.gep(edges, [i])), I64)
                    for i in (t, builder.add(t, number(1)))
                )

                def add_list(sums: list[Any]) -> list[Any]:
                    return _add_rows(builder, table, channels, factors, start, end, sums, vectors * LANES)

                _change(builder, builder.gep(out, [_row_of_step(builder, args, t)]), vectors, add_list)
                return []

            loop(builder, number(0), args[10], 1, [], add)

        _by_layout(context, builder, args[0], signature.args[7], args[7], emit)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def add_elements(
    typing: Any, width: Any, sums: Any, at: Any, stride: Any, weights: Any, meets: Any, found: Any, index: Any,
    scale: Any, when: Any, ends: Any, steps: Any,
) -> Any:  # fmt: skip
    """Add to `sums[at + t stride:]` the rows of elements of lists, where `t` is the step `when` of each; see `add_lists`.

    Of each of `found` input places `meets` has the first of `steps` lists, and where the rows that they name begin.
    """
    i64 = types.int64
    signature = types.void(width, sums, i64, i64, weights, meets, i64, index, scale, when, ends, i64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, weights, places, channels, times, edges = (
            pointer(context, builder, signature.args[i], args[i]) for i in (1, 4, 5, 7, 9, 10)
        )

        def emit(vectors: int, factors: Any) -> None:
            def meet(place: Any, nothing: list[Any]) -> list[Any]:
                first, base = (
                    builder.load(builder.gep(places, [builder.add(builder.mul(place, number(2)), number(i))]))
                    for i in (0, 1)
                )
                table = builder.gep(weights, [base])
                start, end = (
                    builder.sext(builder.load(builder.gep(edges, [i])), I64)
                    for i in (first, builder.add(first, args[11]))
                )

                def add(j: Any, nothing: list[Any]) -> list[Any]:
                    def add_row(sums: list[Any]) -> list[Any]:
                        return _add_row(builder, table, channels, factors, j, sums, vectors * LANES)

                    t = builder.zext(builder.load(builder.gep(times, [j])), I64)
                    _change(builder, builder.gep(out, [_row_of_step(builder, args, t)]), vectors, add_row)
                    return []

                loop(builder, start, end, 1, [], add)
                return []

            loop(builder, number(0), args[6], 1, [], meet)

        _by_layout(context, builder, args[0], signature.args[8], args[8], emit)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def fire(
    typing: Any, width: Any, x: Any, at: Any, count: Any, neuron: Any, bits: Any, places: Any, word: Any, stride: Any,
    kept: Any, steps: Any,
) -> Any:  # fmt: skip
    """Neurons of `count` places over a window from rest; see `step`.

    Their inputs `x[at:]` are stored place after place and step after step. The first `kept` words of spikes of place p and
    step t go to `bits[places[p] + word + t stride:]`. Words run side by side, so that a step need not wait for the one before.
    """
    i64 = types.int64
    signature = types.void(width, x, i64, i64, neuron, bits, places, i64, i64, i64, i64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs, out, found = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 5, 6))
        inputs, out = builder.gep(inputs, [args[2]]), builder.gep(out, [args[7]])
        neuron = _Neuron(builder, args[4])
        kept = builder.select(builder.icmp_signed("<", args[9], args[0]), args[9], args[0])
        total = builder.mul(args[3], kept)
        length = builder.mul(args[0], number(LANES))
        window = builder.mul(length, args[10])

        def several(first: Any, at: list[Any]) -> list[Any]:
            (p, k), sums, words = at, [], []
            for i in range(_IN_REGISTERS):  # the last word again and again behind it
                here = builder.add(builder.mul(p, window), builder.mul(k, number(LANES)))
                sums.append(builder.gep(inputs, [here]))
                words.append(builder.gep(out, [builder.add(builder.load(builder.gep(found, [p])), k)]))
                more = builder.icmp_signed("<", builder.add(first, number(i + 1)), total)
                following = builder.add(k, number(1))
                ends = builder.and_(more, builder.icmp_signed("==", following, kept))
                p = builder.add(p, builder.zext(ends, I64))
                k = builder.select(ends, number(0), builder.select(more, following, k))

            def one(t: Any, v: list[Any]) -> list[Any]:
                row, offset = builder.mul(t, length), builder.mul(t, args[8])
                x = [load(builder, place, row, _VECTOR) for place in sums]
                after = []
                for word, h in zip(words, neuron.charged(x, v), strict=True):
                    spikes, membrane = neuron.fired(h)
                    builder.store(spikes, builder.gep(word, [offset]))
                    after.append(membrane)
                return after

            loop(builder, number(0), args[10], 1, [neuron.rest] * _IN_REGISTERS, one)
            return [p, k]

        loop(builder, number(0), total, _IN_REGISTERS, [number(0), number(0)], several)
        return context.get_dummy_value()

    return signature, generate
