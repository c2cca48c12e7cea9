"""Ops with any constants and any inputs: refused for a reason, or their results can be computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from op_samples import ANY_DIMS, MAKERS, Making

from tcja_deploy.errors import GraphError
from tcja_deploy.ir import Kind, Op, Signal

WORDS = (
    "x",
    "v0",
    "v3",
    "h0",
    "h7",
    "c0",
    "nan",
    "0.5",
    "",
    "add x v0",
    "where x h0 1",
    "mul x",
    "exp v1",
    "no x",
)
"""Lines and operands of recurrences, some of them wrong."""


@st.composite
def damaged(draw: Any) -> tuple[Op, tuple[Signal, ...], int]:
    """Ops with constants of the right types but any values, and any inputs."""
    m = Making(draw)
    op = MAKERS[draw(st.sampled_from(sorted(MAKERS)))](m).op
    integer = st.integers(-2, 5)
    changes = {}
    for name, value in op.constants().items():
        if draw(st.booleans()):
            continue
        if isinstance(value, np.ndarray):
            changes[name] = np.ones(draw(st.lists(st.integers(0, 3), max_size=4)), np.float32)
        elif isinstance(value, bool | str):
            continue
        elif isinstance(value, int):
            changes[name] = draw(integer)
        elif isinstance(value, float):
            changes[name] = draw(st.floats())
        elif isinstance(value, tuple):
            fixed = name not in ("features", "order", "dims", "named", "axes")
            size = len(value) if fixed else draw(st.integers(0, 5))
            of = integer | st.sampled_from(["T", "N"]) if name == "dims" else integer
            if name in ("program", "after", "initial"):  # of a recurrence
                size, of = (
                    draw(st.integers(0, 5)),
                    st.floats() if name == "initial" else st.sampled_from(WORDS),
                )
            changes[name] = tuple(draw(of) for _ in range(size))
    dims = st.sampled_from(ANY_DIMS) | st.permutations(["T", "N", 2, 3, 4]).map(tuple)
    signals = tuple(
        Signal(draw(dims), draw(st.sampled_from(list(Kind)))) for _ in range(draw(st.integers(0, 3)))
    )
    return replace(op, **changes), signals, draw(st.integers(1, 4))


@given(damaged())
@settings(max_examples=1500)
def test_nothing_but_graph_errors(case: tuple[Op, tuple[Signal, ...], int]) -> None:
    """Whatever the constants and inputs: an op is refused for a reason, or its result can be computed."""
    op, signals, T = case
    if op.faults() or not op.accepts(len(signals)):
        return
    try:
        result = op.infer(*signals, T=T)
    except GraphError:
        return
    x = [np.ones(s.shape(T, 2), np.float32) for s in signals] or [np.ones(result.shape(T, 2), np.float32)]
    with np.errstate(all="ignore"):  # constants may be infinite: `verify` refuses those
        assert op.apply(*x).shape == result.shape(T, 2)
