"""Simplifying moves of axes: the same values, and as few nodes as there can be in known cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.ir import Dim, Graph, GraphBuilder, Kind, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.simplify import simplify
from tcja_deploy.runtime.sequence import run

T, N = 4, 3


def frames(graph: Graph) -> np.ndarray:
    """All elements different, so that no move of one goes unnoticed."""
    shape = (T, N, *graph.input_shape)
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


def split(draw: Any, product: int) -> list[int]:
    """Lengths with a product, ones included."""
    lengths = []
    while product > 1 and len(lengths) < 3:
        part = draw(st.sampled_from([d for d in range(1, product + 1) if product % d == 0]))
        lengths.append(part)
        product //= part
    return [*lengths, product] if product > 1 or not lengths else lengths


def some_reshape(draw: Any, dims: tuple[Dim, ...]) -> ir.Reshape:
    """A reshape of a value; now and then time becomes a plain axis, or an axis of four becomes time."""
    keep_time = draw(st.integers(0, 3)) > 0
    plain = [T if d == "T" and not keep_time else d for d in dims]
    if "T" not in plain and draw(st.booleans()) and T in plain:
        plain[plain.index(T)] = "T"
    named = tuple(i for i, d in enumerate(plain) if isinstance(d, str))
    result: list[Dim] = []
    run_length = 1
    for d in plain:
        if isinstance(d, int):
            run_length *= d
        else:
            result += [n for n in split(draw, run_length) if n > 1 or draw(st.booleans())] + [d]
            run_length = 1
    result += [n for n in split(draw, run_length) if n > 1 or draw(st.booleans())]
    return ir.Reshape(tuple(result), named)


@st.composite
def chains(draw: Any) -> Graph:
    """Up to eight moves of axes and votes in a row, some of them read twice."""
    b = GraphBuilder(T)
    x = b.add("x", ir.Input(draw(st.sampled_from([(4, 3, 2), (12,), (4, 6), (2, 7)])), Kind.REAL))
    names = [x]
    for i in range(draw(st.integers(1, 8))):
        dims = b.signal(x).dims
        choice = draw(st.sampled_from(["permute", "reshape", "reshape", "flatten", "vote"]))
        op: Op = some_reshape(draw, dims)
        if choice == "permute":
            op = ir.Permute(tuple(draw(st.permutations(range(len(dims))))))
        elif choice == "flatten" and dims[:2] == ("T", "N") and len(dims) > 2:
            op = ir.Flatten()
        elif choice == "vote" and isinstance(dims[-1], int):
            op = ir.Vote(draw(st.integers(1, dims[-1])))
        x = b.add(f"op{i}", op, x)
        names.append(x)
    other = draw(st.sampled_from(names))
    if b.signal(other).dims == b.signal(x).dims and other != x:
        x = b.add("sum", ir.Add(), x, other)
    return b.finish(x)


@given(chains())
@settings(max_examples=400)
def test_values_stay_exactly_the_same(graph: Graph) -> None:
    small = simplify(graph)
    assert small[small.output].signal == graph[graph.output].signal
    assert len(small.nodes) <= len(graph.nodes)
    assert np.array_equal(run(small, frames(graph)).numpy(), run(graph, frames(graph)).numpy())
    assert simplify(small).hash == small.hash


def chain(shape: tuple[int, ...], *ops: Op) -> Graph:
    b = GraphBuilder(T)
    x = b.add("x", ir.Input(shape))
    for i, op in enumerate(ops):
        x = b.add(f"op{i}", op, x)
    return b.finish(x)


def ops(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in graph.nodes[1:]]


S = ("T", "N")


@pytest.mark.parametrize(
    ("graph", "left"),
    [
        (chain((2, 3), ir.Permute((0, 1, 2, 3))), []),
        (chain((2, 3), ir.Permute((1, 0, 2, 3)), ir.Permute((1, 0, 2, 3))), []),
        (chain((2, 3), ir.Permute((1, 2, 0, 3)), ir.Permute((1, 2, 0, 3)), ir.Permute((1, 2, 0, 3))), []),
        (chain((2, 3), ir.Permute((1, 0, 2, 3)), ir.Permute((2, 0, 1, 3))), ["Permute"]),
        (chain((2, 3), ir.Reshape((*S, 6), (0, 1)), ir.Reshape((*S, 2, 3), (0, 1))), []),
        (chain((2, 3), ir.Reshape((*S, 3, 2), (0, 1)), ir.Reshape((*S, 6), (0, 1))), ["Flatten"]),
        (chain((2, 3), ir.Flatten(), ir.Reshape((*S, 3, 2), (0, 1))), ["Reshape"]),
        (chain((6,), ir.Reshape((*S, 2, 3), (0, 1)), ir.Reshape((*S, 6), (0, 1))), []),
        (chain((6,), ir.Reshape((*S, 1, 6), (0, 1)), ir.Vote(2), ir.Reshape((*S, 3), (0, 1))), ["Vote"]),
        (chain((2, 6), ir.Reshape((*S, 12), (0, 1)), ir.Vote(3), ir.Reshape((*S, 2, 2), (0, 1))), ["Vote"]),
        # 7 is not a multiple of 3: a vote on the rows would leave out the last of each.
        (
            chain((2, 7), ir.Reshape((*S, 14), (0, 1)), ir.Vote(3), ir.Reshape((*S, 2, 2), (0, 1))),
            ["Flatten", "Vote", "Reshape"],
        ),
        (
            chain((12,), ir.Reshape((*S, 3, 4), (0, 1)), ir.Vote(3), ir.Reshape((*S, 3), (0, 1))),
            ["Reshape", "Vote", "Flatten"],
        ),
    ],
)
def test_what_is_left(graph: Graph, left: list[str]) -> None:
    small = simplify(graph)
    assert ops(small) == left
    assert np.array_equal(run(small, frames(graph)).numpy(), run(graph, frames(graph)).numpy())


def test_what_others_read_stays() -> None:
    b = GraphBuilder(T)
    x = b.add("x", ir.Input((2, 3)))
    turned = b.add("turned", ir.Permute((1, 0, 2, 3)), x)
    back = b.add("back", ir.Permute((1, 0, 2, 3)), turned)
    mean = b.add("mean", ir.Reduce("max", (3,)), turned)
    again = b.add("again", ir.Permute((1, 0, 2)), mean)
    again = b.add("shape", ir.Reshape((*S, 2, 1), (0, 1)), again)
    graph = b.finish(b.add("sum", ir.Add(), back, again), {"a": "b"})
    small = simplify(graph)
    assert small["sum"].inputs[0] == "x"
    assert small["mean"].inputs == ("turned",)
    assert small.source == {"a": "b"}
