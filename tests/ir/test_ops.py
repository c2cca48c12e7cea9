"""Every op: shapes and kinds as inferred, step by step as at once, NumPy as torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_samples import MAKERS, Array, Sample, samples

from tcja_deploy.ir import Kind, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import evaluate

PER_OP = settings(max_examples=40)
NAMES = sorted(ir.OPS)


def arrays(state: Any) -> list[Array]:
    """All arrays in a state, in order."""
    if isinstance(state, np.ndarray):
        return [state]
    if isinstance(state, tuple):
        return [a for part in state for a in arrays(part)]
    return arrays(tuple(getattr(state, n) for n in state.__slots__)) if hasattr(state, "__slots__") else []


def by_steps(s: Sample) -> tuple[list[Array], list[int]]:
    """Everything that steps give, and after how many frames each piece of it was there."""
    streams = [signal.streams for signal in s.signals] or [True]
    state, out, when = s.op.initial_state(*s.signals, T=s.T, N=s.N), [], []
    for t in range(s.T if any(streams) else 1):
        frames = tuple(x[t] if streaming else x for x, streaming in zip(s.x, streams, strict=True))
        kept = [a.copy() for a in arrays(state)]
        ready, after = s.op.step(frames, state)
        assert all(map(np.array_equal, arrays(state), kept)), "a step changed the state it was given"
        state = after
        out += ready
        when += [t] * len(ready)
    return out, when


def test_every_op_is_tested() -> None:
    assert sorted(MAKERS) == NAMES
    assert [
        n for n in dir(ir) if isinstance(getattr(ir, n), type) and issubclass(getattr(ir, n), Op)
    ] == sorted([*NAMES, "Neuron", "Op"])


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@PER_OP
def test_shapes_are_as_inferred(name: str, data: st.DataObject) -> None:
    s = data.draw(samples(name))
    assert s.op.accepts(len(s.signals))
    assert s.op.faults() == []
    y = s.op.apply(*s.x)
    assert y.dtype == np.float32
    assert y.shape == s.result.shape(s.T, s.N)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@PER_OP
def test_values_are_of_the_inferred_kind(name: str, data: st.DataObject) -> None:
    s = data.draw(samples(name))
    y = s.op.apply(*s.x)
    if s.result.kind is Kind.BINARY:
        assert np.isin(y, (0, 1)).all()
    if s.result.kind is Kind.COUNT:
        assert (y >= 0).all()
        assert np.array_equal(y, np.round(y))
    inverts = isinstance(s.op, ir.Affine) and s.op.offset != 0  # 1 - x of spikes
    unbidden = isinstance(
        s.op, ir.AffineNeuron | ir.Recurrence
    )  # an offset, or where it begins, may make it fire
    if (
        s.result.kind.sparse and not inverts and not unbidden
    ):  # zeros mean silence: out of silence comes silence
        assert not s.op.apply(*(np.zeros_like(x) for x in s.x)).any()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@PER_OP
def test_steps_equal_the_window(name: str, data: st.DataObject) -> None:
    s = data.draw(samples(name))
    out, when = by_steps(s)
    y = s.op.apply(*s.x)
    assert len(out) == (s.T if s.result.streams else 1)
    stepped = np.stack(out) if s.result.streams else out[0]
    if s.exact or not isinstance(s.op, ir.TCJA):
        assert np.array_equal(stepped, y)
    else:
        # Both forms take the sigmoid of the same sums in the same precision; einsum may add up in another order. The sums of
        # squeezed frames are exact, their product is rounded once: the sigmoid's slope is at most 1/4.
        assert np.allclose(stepped, y, rtol=1e-6, atol=1e-6)
    # The look-ahead is a promise in both directions: nothing comes earlier, and nothing is held back longer.
    if any(signal.streams for signal in s.signals):
        ahead = s.op.lookahead(*s.signals, T=s.T)
        assert when[0] == ahead
        assert all(t == min(i + ahead, s.T - 1) for i, t in enumerate(when)) or ahead == s.T - 1


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@PER_OP
def test_torch_computes_the_same(name: str, data: st.DataObject) -> None:
    s = data.draw(samples(name))
    before = [x.copy() for x in s.x]
    y, reference = evaluate(s.op, *map(torch.from_numpy, s.x)).numpy(), s.op.apply(*s.x)
    assert all(map(np.array_equal, s.x, before)), "the inputs were changed"
    assert y.shape == reference.shape
    if s.exact:
        assert np.array_equal(y, reference)
    else:
        # exp in NumPy and in torch, or two divisions instead of one: a few units in the last place (2**-23 = 1.2e-7) each;
        # values are below 16 here.
        assert np.allclose(y, reference, rtol=1e-6, atol=1e-6)
