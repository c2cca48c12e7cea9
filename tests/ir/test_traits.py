"""What an op says about itself holds of what it computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_samples import MAKERS, Making, Sample

from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.op import Op

SAMPLES = settings(max_examples=15)


def named(trait: str) -> list[str]:
    return sorted(name for name, op in ir.OPS.items() if getattr(op, trait))


def sample(name: str, data: st.DataObject) -> Sample:
    return MAKERS[name](Making(data.draw))


def test_no_trait_is_empty() -> None:
    for trait in ("stateful", "membrane", "elementwise", "moves_only", "synaptic"):
        assert named(trait), trait


@pytest.mark.parametrize("name", named("elementwise"))
@SAMPLES
@given(data=st.data())
def test_elementwise_ops_read_one_place_an_element(name: str, data: st.DataObject) -> None:
    """Elements in another order give the results in that order, and each by itself gives the same."""
    made = sample(name, data)
    y = made.op.apply(*made.x)
    spread = [np.broadcast_to(x, y.shape).ravel() for x in made.x]
    order = np.random.default_rng(0).permutation(y.size)
    shuffled = made.op.apply(*(x[order] for x in spread))
    assert np.array_equal(shuffled, y.ravel()[order])
    alone = np.concatenate([made.op.apply(*(x[i : i + 1] for x in spread)) for i in order[:5]])
    assert np.array_equal(alone, y.ravel()[order[:5]])


@pytest.mark.parametrize("name", named("moves_only"))
@SAMPLES
@given(data=st.data())
def test_ops_that_move_keep_every_element(name: str, data: st.DataObject) -> None:
    made = sample(name, data)
    before = np.sort(np.concatenate([x.ravel() for x in made.x]))
    assert np.array_equal(np.sort(made.op.apply(*made.x).ravel()), before)


@pytest.mark.parametrize("name", named("synaptic"))
@SAMPLES
@given(data=st.data())
def test_synapses_have_weights_and_silence_adds_nothing(name: str, data: st.DataObject) -> None:
    made = sample(name, data)
    constants = made.op.constants()
    assert constants["weight"].size
    assert made.op.macs(*made.signals, T=made.T) > 0
    silent = made.op.apply(*(np.zeros_like(x) for x in made.x))
    assert set(np.unique(silent)) <= ({0.0} if constants["bias"] is None else set(constants["bias"]) | {0.0})


def test_layers_without_synapses_count_no_macs() -> None:
    assert {name for name, op in ir.OPS.items() if op.macs is not Op.macs} == set(named("synaptic"))


@pytest.mark.parametrize("name", named("membrane"))
@SAMPLES
@given(data=st.data())
def test_a_membrane_gives_a_frame_a_step_and_sees_no_later_one(name: str, data: st.DataObject) -> None:
    made = sample(name, data)
    assert made.op.stateful
    assert not made.op.acts_on_time(*made.signals)
    state = made.op.initial_state(*made.signals, T=made.T, N=made.N)
    frames = []
    for x in made.x[0]:
        out, state = made.op.step((x,), state)
        frames += out
        assert len(frames) == len(out) or out
        assert all(np.shape(part) in (x.shape, ()) for part in state)  # a counter of steps is a number
    assert np.array_equal(np.stack(frames), made.op.apply(*made.x))


@pytest.mark.parametrize("name", sorted(set(ir.OPS) - set(named("stateful"))))
@SAMPLES
@given(data=st.data())
def test_ops_without_state_may_be_asked_frame_by_frame_unless_they_act_on_time(
    name: str, data: st.DataObject
) -> None:
    """The rule by which the stream evaluates an op on single frames."""
    made = sample(name, data)
    if made.op.acts_on_time(*made.signals) or not made.signals:
        return
    whole = made.op.apply(*made.x)
    frames = [
        made.op.apply(*(x[t : t + 1] if s.streams else x for x, s in zip(made.x, made.signals, strict=True)))
        for t in range(made.T)
    ]
    if not all(s.streams for s in made.signals):
        assert not made.result.streams  # a value of the window: computed once
        return
    close = np.array_equal if made.exact else np.allclose
    assert close(np.concatenate(frames), whole)


def test_an_op_that_defines_a_state_is_stateful_whatever_it_says() -> None:
    class Counter(Op):
        stateful = False

        def initial_state(self, *inputs, T, N):  # type: ignore[no-untyped-def]
            return (0,)

    assert Counter.stateful
    assert not Op.stateful
