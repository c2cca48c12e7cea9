"""Pieces of LLVM code that the kernels are written with: arrays, vectors of 16 numbers, loops that carry values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "I16",
    "I32",
    "I64",
    "LANES",
    "branch",
    "choose",
    "load",
    "loop",
    "number",
    "pointer",
    "side_by_side",
    "spread",
    "store",
    "typed_intrinsic",
]

typed_intrinsic: Callable[[Any], Any] = intrinsic  # it changes the signature of a function

LANES = 16
"""Numbers in a vector, and neurons in a word of bits."""

I64, I32, I16 = ir.IntType(64), ir.IntType(32), ir.IntType(16)
_ACCUMULATORS = 8
"""Vectors that are summed side by side, so that an addition need not wait for the previous one."""


def pointer(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The address of the elements of a NumPy array; `None` for `None`."""
    if isinstance(kind, types.NoneType):
        return None
    return context.make_array(kind)(context, builder, value).data


def number(i: int) -> Any:
    """A constant of 64 bits."""
    return ir.Constant(I64, i)


def load(builder: Any, array: Any, offset: Any, kind: Any) -> Any:
    """The vector of type `kind` that begins at an element of an array."""
    at = builder.bitcast(builder.gep(array, [offset]), kind.as_pointer())
    loaded = builder.load(at)
    loaded.align = _bytes(kind.element)
    return loaded


def store(builder: Any, vector: Any, array: Any, offset: Any) -> None:
    """Write a vector to the place that begins at an element of an array."""
    at = builder.bitcast(builder.gep(array, [offset]), vector.type.as_pointer())
    builder.store(vector, at).align = _bytes(vector.type.element)


def _bytes(kind: Any) -> int:
    return kind.width // 8 if isinstance(kind, ir.IntType) else 4


def spread(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """A vector with the same number in all lanes."""
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    first = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), first)


def loop(
    builder: Any,
    start: Any,
    end: Any,
    step: int,
    carried: Sequence[Any],
    body: Callable[[Any, list[Any]], list[Any]],
) -> tuple[Any, list[Any]]:
    """`for i in range(start, end, step): carried = body(i, carried)`; returns the next `i` and the last `carried`."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(start, before)
    values = [builder.phi(value.type) for value in carried]
    for phi, value in zip(values, carried, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", i, end), inside, after)
    builder.position_at_end(inside)
    results = body(i, list(values))
    i.add_incoming(builder.add(i, number(step)), builder.block)
    for phi, value in zip(values, results, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return i, values


def side_by_side(
    builder: Any,
    first: Any,
    last: Any,
    sums: list[Any],
    zero: Any,
    add: Callable[[Any, list[Any]], list[Any]],
    plus: Callable[[Any, Any], Any],
) -> list[Any]:
    """`for j in range(first, last): sums = add(j, sums)`, with several sums side by side if each has few vectors.

    Args:
        builder: The builder that the code is appended to.
        first: The first `j`.
        last: The value after the last `j`.
        sums: Vectors to add to.
        zero: A vector of zeros.
        add: Returns the sums with those of one more `j`.
        plus: Adds two vectors.
    """
    width = len(sums)
    unrolled = max(1, _ACCUMULATORS // width)

    def several(j: Any, sums: list[Any]) -> list[Any]:
        new: list[Any] = []
        for u in range(unrolled):
            new += add(builder.add(j, number(u)), sums[u * width : (u + 1) * width])
        return new

    sums = sums + [zero] * (width * (unrolled - 1))
    j, sums = loop(builder, first, builder.sub(last, number(unrolled - 1)), unrolled, sums, several)
    while len(sums) > width:
        half = len(sums) // 2
        sums = [plus(a, b) for a, b in zip(sums[:half], sums[half:], strict=True)]
    return loop(builder, j, last, 1, sums, add)[1] if unrolled > 1 else sums


def branch(builder: Any, form: Any, cases: Mapping[int, Callable[[], None]]) -> list[Any]:
    """Code of the case `form`, where the last one serves all other numbers; returns the blocks that the cases end in."""
    after = builder.append_basic_block("chosen")
    blocks = [builder.append_basic_block(f"case{i}") for i in cases]
    switch = builder.switch(form, blocks[-1])
    ends = []
    for (i, emit), block in zip(cases.items(), blocks, strict=True):
        if block is not blocks[-1]:
            switch.add_case(ir.Constant(form.type, i), block)
        builder.position_at_end(block)
        emit()
        ends.append(builder.block)
        builder.branch(after)
    builder.position_at_end(after)
    return ends


def choose(
    builder: Any, form: Any, rules: Sequence[Callable[..., Any]], *operands: Sequence[Any]
) -> list[Any]:
    """The results of rule number `form` for each tuple of operands; the last rule serves all other numbers."""
    results: list[list[Any]] = []

    def apply(rule: Callable[..., Any]) -> None:
        results.append([rule(*given) for given in zip(*operands, strict=True)])

    ends = branch(builder, form, {i: partial(apply, rule) for i, rule in enumerate(rules)})
    merged = []
    for k in range(len(results[0])):
        phi = builder.phi(results[0][k].type)
        for block, found in zip(ends, results, strict=True):
            phi.add_incoming(found[k], block)
        merged.append(phi)
    return merged
