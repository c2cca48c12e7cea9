"""Vector instructions for layers of integers, written as LLVM code like those of `tcja_deploy.runtime.events.vectors`.

Weights of 8 bits are added in lanes of 16 bits, 256 at a time, which cannot overflow, and these sums in lanes of 32. Payloads
and wider weights are multiplied and added in 32 bits. The equations are those of `tcja_deploy.runtime.integers.layers`.
"""

from __future__ import annotations

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

__all__ = ["append_rows", "integer_step", "relax_integers", "sum_integers"]

_SAFE = 256
"""How many numbers of 8 bits have a sum that fits 16 bits."""


def _sums(
    builder: Any, weights: Any, table: Any, index: Any, scale: Any, first: Any, last: Any, start: list[Any]
) -> list[Any]:
    """`start`, vectors of 32 bits, plus the rows `index[first:last]` of `table`, each times its `scale`.

    `weights` is Numba's type of the table.
    """
    lanes = start[0].type.count
    narrow = weights.dtype == types.int8 and scale is None
    held = ir.VectorType(ir.IntType(weights.dtype.bitwidth), lanes)
    kind = ir.VectorType(I16 if narrow else I32, lanes)
    zero = ir.Constant(kind, [0] * lanes)

    def add(j: Any, sums: list[Any]) -> list[Any]:
        row = builder.gep(table, [builder.sext(builder.load(builder.gep(index, [j])), I64)])
        if scale is not None:
            factor = spread(builder, builder.fptosi(builder.load(builder.gep(scale, [j])), I32), lanes)
        new = []
        for k, total in enumerate(sums):
            part = load(builder, row, number(k * lanes), held)
            part = builder.sext(part, kind) if held != kind else part
            new.append(builder.add(total, part if scale is None else builder.mul(part, factor)))
        return new

    if not narrow:
        return side_by_side(builder, first, last, start, zero, add, builder.add)

    def safely(j: Any, sums: list[Any]) -> list[Any]:
        end = builder.add(j, number(_SAFE))
        end = builder.select(builder.icmp_signed("<", end, last), end, last)
        parts = side_by_side(builder, j, end, [zero] * len(sums), zero, add, builder.add)
        return [
            builder.add(a, builder.sext(part, a.type)) for a, part in zip(sums, parts, strict=True)
        ]  # fmt: skip

    return loop(builder, first, last, _SAFE, start, safely)[1]


def _magnitude(builder: Any, x: Any) -> Any:
    negative = builder.icmp_signed("<", x, ir.Constant(x.type, [0] * x.type.count))
    return builder.select(negative, builder.neg(x), x)


class _Neuron:
    """Constants of neurons in registers.

    Form, share and shift of what a voltage keeps in a step (form 0: nothing, 1: shifted right, 2: times share / 4096, both
    rounded towards zero), and the magnitude at which a voltage saturates, 0 if none can.
    """

    def __init__(self, builder: Any, packed: Any, lanes: int) -> None:
        self._builder, self._lanes = builder, lanes
        self._form, *others = (builder.trunc(builder.extract_value(packed, i), I32) for i in range(4))
        self._share, self._shift, self._limit = (spread(builder, c, lanes) for c in others)
        self._guarded = builder.icmp_signed("!=", others[2], ir.Constant(I32, 0))

    def _all(self, value: int) -> Any:
        return ir.Constant(ir.VectorType(I32, self._lanes), [value] * self._lanes)

    def charged(self, sums: list[Any], v: list[Any]) -> list[Any]:
        """Voltages before they are compared: what is left of `v`, and 64 times the sums."""
        builder = self._builder

        def forgotten(v: Any) -> Any:
            return self._all(0)

        def shifted(v: Any) -> Any:  # rounds towards zero
            one = self._all(1)
            missing = builder.sub(builder.shl(one, self._shift), one)
            missing = builder.and_(builder.ashr(v, self._all(31)), missing)
            return builder.ashr(builder.add(v, missing), self._shift)

        def multiplied(v: Any) -> Any:  # in halves of 12 bits, since the product has 35
            size = _magnitude(builder, v)
            high, low = builder.lshr(size, self._all(12)), builder.and_(size, self._all(4095))
            low = builder.lshr(builder.mul(low, self._share), self._all(12))
            kept = builder.add(builder.mul(high, self._share), low)
            return builder.select(builder.icmp_signed("<", v, self._all(0)), builder.neg(kept), kept)

        kept = choose(builder, self._form, [forgotten, shifted, multiplied], v)
        return [
            builder.add(k, builder.shl(a, self._all(6))) for k, a in zip(kept, sums, strict=True)
        ]  # fmt: skip

    def cut(self, charged: list[Any]) -> tuple[list[Any], Any]:
        """Voltages cut off where they saturate, and how many do; unchanged if none can."""
        builder, lanes = self._builder, self._lanes
        before, guarded = builder.block, builder.append_basic_block("guarded")
        after = builder.append_basic_block("cut")
        builder.cbranch(self._guarded, guarded, after)
        builder.position_at_end(guarded)
        kept, total = [], number(0)
        most = builder.sub(self._limit, self._all(1))
        least = builder.neg(most)
        for v in charged:
            over, under = builder.icmp_signed(">", v, most), builder.icmp_signed("<", v, least)
            found = builder.ctpop(builder.bitcast(builder.or_(over, under), ir.IntType(lanes)))
            total = builder.add(total, builder.zext(found, I64))
            kept.append(builder.select(over, most, builder.select(under, least, v)))
        builder.branch(after)
        builder.position_at_end(after)
        phis = []
        for new, old in zip([*kept, total], [*charged, number(0)], strict=True):
            phi = builder.phi(new.type)
            phi.add_incoming(old, before)
            phi.add_incoming(new, guarded)
            phis.append(phi)
        return phis[:-1], phis[-1]


def _lanes(count: int) -> tuple[int, int]:
    """Lanes of a vector and how many vectors `count` words of 16 neurons are: registers of 16-bit numbers hold two words."""
    lanes = 2 * LANES if count % 2 == 0 else LANES
    return lanes, count * LANES // lanes


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

    The arrays have room for 16 more.
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
                store(
                    builder,
                    load(builder, source_scale, j, ir.VectorType(ir.FloatType(), LANES)),
                    out_scale,
                    to,
                )
            return []

        loop(builder, start, end, LANES, [], copy)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def integer_step(
    typing: Any, width: Any, bias: Any, weights: Any, rows: Any, scales: Any, start: Any, end: Any, neuron: Any,
    thresholds: Any, v: Any, most: Any, bits: Any,
) -> Any:  # fmt: skip
    """One step of 16 neurons per element of the tuple `width`; returns how many voltages saturated.

    Their sums are the bias and the rows of `weights` that begin at `rows[start:end]`, each times its `scales` (`None` for 1).
    `neuron` is what `_Neuron` takes; `thresholds` are in units of the voltages `v`, which change; `most` holds the largest
    magnitudes of the sums so far, `bits` receives the spikes.
    """
    given = (width, bias, weights, rows, scales, types.int64, types.int64, neuron, thresholds, v, most, bits)
    signature = types.int64(*given)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, table, index, scale, limits, membrane, peaks, out = (
            pointer(context, builder, signature.args[i], args[i]) for i in (1, 2, 3, 4, 8, 9, 10, 11)
        )
        lanes, vectors = _lanes(width.count)
        kind = ir.VectorType(I32, lanes)
        constants = _Neuron(builder, args[7], lanes)
        places = [number(k * lanes) for k in range(vectors)]
        sums = [load(builder, first, place, kind) for place in places]
        sums = _sums(builder, signature.args[2], table, index, scale, args[5], args[6], sums)
        for place, total in zip(places, sums, strict=True):
            size, peak = _magnitude(builder, total), load(builder, peaks, place, kind)
            store(builder, builder.select(builder.icmp_signed(">", size, peak), size, peak), peaks, place)
        before = [load(builder, membrane, place, kind) for place in places]
        charged, cut = constants.cut(constants.charged(sums, before))
        for k, (place, h) in enumerate(zip(places, charged, strict=True)):
            fired = builder.icmp_signed(">", h, load(builder, limits, place, kind))
            store(builder, builder.select(fired, ir.Constant(kind, [0] * lanes), h), membrane, place)
            word = builder.bitcast(fired, ir.IntType(lanes))
            at = builder.gep(out, [number(k * lanes // LANES)])
            builder.store(word, builder.bitcast(at, word.type.as_pointer())).align = 2
        return cut

    return signature, generate


@typed_intrinsic
def relax_integers(typing: Any, width: Any, bias: Any, neuron: Any, v: Any, steps: Any) -> Any:
    """`steps` steps of neurons whose sum is only the bias and that cannot fire from it; see `integer_step`."""
    signature = types.void(width, bias, neuron, v, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, membrane = (pointer(context, builder, signature.args[i], args[i]) for i in (1, 3))
        lanes, vectors = _lanes(width.count)
        kind = ir.VectorType(I32, lanes)
        constants = _Neuron(builder, args[2], lanes)
        places = [number(k * lanes) for k in range(vectors)]
        sums = [load(builder, first, place, kind) for place in places]
        v = [load(builder, membrane, place, kind) for place in places]
        _, v = loop(
            builder, number(0), args[4], 1, v, lambda t, v: constants.charged(sums, v)
        )  # fmt: skip
        for place, h in zip(places, v, strict=True):
            store(builder, h, membrane, place)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def sum_integers(
    typing: Any, width: Any, total: Any, weights: Any, rows: Any, scales: Any, start: Any, end: Any
) -> Any:
    """Add to `total` the rows of `weights` that begin at `rows[start:end]`; see `integer_step`."""
    signature = types.void(width, total, weights, rows, scales, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, table, index, scale = (
            pointer(context, builder, signature.args[i], args[i]) for i in range(1, 5)
        )
        lanes, vectors = _lanes(width.count)
        places = [number(k * lanes) for k in range(vectors)]
        sums = [load(builder, out, place, ir.VectorType(I32, lanes)) for place in places]
        sums = _sums(builder, signature.args[2], table, index, scale, args[5], args[6], sums)
        for place, value in zip(places, sums, strict=True):
            store(builder, value, out, place)
        return context.get_dummy_value()

    return signature, generate
