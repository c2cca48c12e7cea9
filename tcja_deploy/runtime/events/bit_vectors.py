"""Instructions on the bits of words, written as LLVM code: which are set, how many, and their sums by position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from tcja_deploy.runtime.events.llvm import (
    I16,
    I32,
    LANES,
    load,
    loop,
    number,
    pointer,
    store,
    typed_intrinsic,
)

__all__ = [
    "MOST_IN_BYTES",
    "add_bits",
    "add_sizes",
    "bits_set",
    "lowest_bit",
    "nonzero",
    "without_lowest_bit",
]

_function: Any = cgutils.get_or_insert_function  # it has no types

MOST_IN_BYTES = 255
"""How many flags are summed in bytes."""


@typed_intrinsic
def add_bits(
    typing: Any, counts: Any, at: Any, bits: Any, start: Any, steps: Any, stride: Any, samples: Any, jump: Any
) -> Any:
    """Add the spikes of as many neurons as a word has bits to `counts[at:]`.

    These are the words `bits[start + t stride + n jump]` of `t < steps` and `n < samples`, `MOST_IN_BYTES` at most.
    """
    i64 = types.int64
    signature = types.void(counts, i64, bits, i64, i64, i64, i64, i64)
    lanes = bits.dtype.bitwidth

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, words = (pointer(context, builder, signature.args[i], args[i]) for i in (0, 2))
        flags, small = ir.VectorType(ir.IntType(1), lanes), ir.VectorType(ir.IntType(8), lanes)
        wide = ir.VectorType(I32, LANES)

        def sample(n: Any, sums: list[Any]) -> list[Any]:
            first = builder.gep(words, [builder.add(args[3], builder.mul(n, args[7]))])

            def add(t: Any, sums: list[Any]) -> list[Any]:
                word = builder.load(builder.gep(first, [builder.mul(t, args[5])]))
                return [builder.add(sums[0], builder.zext(builder.bitcast(word, flags), small))]

            return loop(builder, number(0), args[4], 1, sums, add)[1]

        _, (total,) = loop(builder, number(0), args[6], 1, [ir.Constant(small, [0] * lanes)], sample)
        for first in range(0, lanes, LANES):
            chosen = ir.Constant(ir.VectorType(I32, LANES), list(range(first, first + LANES)))
            part = builder.zext(builder.shuffle_vector(total, ir.Constant(small, ir.Undefined), chosen), wide)
            place = builder.add(args[1], number(first))
            store(builder, builder.add(load(builder, out, place, wide), part), out, place)
        return context.get_dummy_value()

    return signature, generate


@typed_intrinsic
def add_sizes(typing: Any, counts: Any, at: Any, bits: Any, start: Any, words: Any) -> Any:
    """Add to `counts[at:]` how many bits of each of the words `bits[start:]` are set; `words` is a multiple of 16."""
    signature = types.void(counts, types.int64, bits, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, source = (
            builder.gep(pointer(context, builder, signature.args[i], args[i]), [args[i + 1]]) for i in (0, 2)
        )
        word, wide = ir.VectorType(source.type.pointee, LANES), ir.VectorType(out.type.pointee, LANES)
        name = f"llvm.ctpop.v{LANES}i{word.element.width}"
        sizes = _function(builder.module, ir.FunctionType(word, [word]), name)

        def add(i: Any, nothing: list[Any]) -> list[Any]:
            found = builder.zext(builder.call(sizes, [load(builder, source, i, word)]), wide)
            store(builder, builder.add(load(builder, out, i, wide), found), out, i)
            return []

        loop(builder, number(0), args[4], LANES, [], add)
        return context.get_dummy_value()

    return signature, generate


def _of_a_word(word: Any, compute: Callable[[Any, Any], Any]) -> Any:
    """An instruction that makes another word of a word."""
    if not isinstance(word, types.Integer):
        return None
    return word(word), lambda context, builder, signature, args: compute(builder, args[0])


@typed_intrinsic
def lowest_bit(typing: Any, word: Any) -> Any:
    """Position of the lowest set bit of a number that is not zero."""
    return _of_a_word(word, lambda builder, x: builder.cttz(x, ir.Constant(ir.IntType(1), 1)))


@typed_intrinsic
def without_lowest_bit(typing: Any, word: Any) -> Any:
    """A number that is not zero, with its lowest set bit cleared."""
    return _of_a_word(word, lambda builder, x: builder.and_(x, builder.sub(x, x.type(1))))


@typed_intrinsic
def bits_set(typing: Any, word: Any) -> Any:
    """How many bits of a number are set."""
    return _of_a_word(word, lambda builder, x: builder.ctpop(x))


@typed_intrinsic
def nonzero(typing: Any, values: Any, at: Any, count: Any) -> Any:
    """Which of the numbers `values[at:at + count]` are not zero, as the lowest bits of a number; there are 16 at most."""
    signature = types.uint32(values, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.gep(pointer(context, builder, signature.args[0], args[0]), [args[1]])
        kind = ir.VectorType(first.type.pointee, LANES)
        compare = builder.fcmp_unordered if isinstance(kind.element, ir.FloatType) else builder.icmp_unsigned
        whole = builder.icmp_signed(">=", args[2], number(LANES))
        with builder.if_else(whole, likely=True) as (full, rest):
            with full:
                x = load(builder, first, number(0), kind)
                flags = builder.zext(
                    builder.bitcast(compare("!=", x, ir.Constant(kind, [0] * LANES)), I16), I32
                )
                from_full = builder.block
            with rest:

                def add(i: Any, found: list[Any]) -> list[Any]:
                    flag = compare("!=", builder.load(builder.gep(first, [i])), kind.element(0))
                    bit = builder.shl(builder.zext(flag, I32), builder.trunc(i, I32))
                    return [builder.or_(found[0], bit)]

                _, (some,) = loop(builder, number(0), args[2], 1, [I32(0)], add)
                from_rest = builder.block
        found = builder.phi(I32)
        found.add_incoming(flags, from_full)
        found.add_incoming(some, from_rest)
        return found

    return signature, generate
