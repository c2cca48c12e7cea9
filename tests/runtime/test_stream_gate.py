"""The gate frame by frame: buffers, look-ahead, estimates; the oracle is the op's NumPy form over a completed window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.errors import DataError, FileFormatError
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.stream import Estimate, FrameProfile, fit, stream
from tcja_deploy.runtime.stream.gate import GateBuffer
from tcja_deploy.runtime.stream.plan import GATE

C, N = 5, 2


def block_graph(op: ir.TCJA, T: int, pool: ir.Op | None = None):
    b = GraphBuilder(T)
    x = b.add("block", op, b.add("input", ir.Input((C, 4, 4), Kind.BINARY)))
    return b.finish(x if pool is None else b.add("pool", pool, x))


def block(rng: np.random.Generator, T: int, k_t: int, k_c: int, fusion: str = "multiply") -> ir.TCJA:
    tla = rng.normal(0, 1, (C, C, k_t)).astype(np.float32) if k_t else None
    cla = rng.normal(0, 1, (T, T, k_c)).astype(np.float32) if k_c else None
    return ir.TCJA(tla, cla, fusion)


def spikes(rng: np.random.Generator, T: int) -> np.ndarray:
    return (rng.random((T, N, C, 4, 4)) < 0.4).astype(np.float32)


def estimate_of(rng: np.random.Generator, T: int, linear: bool) -> Estimate:
    mean, past = (rng.random((T, C)).astype(np.float32) for _ in range(2))
    return Estimate(mean, past, rng.normal(0, 1, (T, T)).astype(np.float32) if linear else None)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 7),
    st.sampled_from([(4, 4), (2, 3), (5, 1), (1, 2), (3, 0), (4, 0), (6, 0), (0, 4), (0, 1)]),
    st.sampled_from(["multiply", "add"]),
    st.sampled_from(["zeros", "mean", "linear"]),
    st.sampled_from(["burst", "paced"]),
    st.data(),
)
def test_gates_with_lookahead_are_those_of_the_window_completed_by_the_estimate(
    T, kernels, fusion, guess, schedule, data
):
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    D = data.draw(st.integers(0, T - 1))
    op, x = block(rng, T, *kernels, fusion), spikes(rng, T)
    estimate = None if guess == "zeros" else estimate_of(rng, T, guess == "linear")
    profile = None if estimate is None else FrameProfile({"block": estimate})
    z = x.mean((3, 4))
    expected = []
    for j in range(T):
        known = min(
            j + min(D, op.lookahead(*block_graph(op, T).signals_in(block_graph(op, T)["block"]), T=T)), T - 1
        )
        window = z.copy()
        window[known + 1 :] = 0
        if estimate is not None:
            window[known + 1 :] = estimate.mean[known + 1 :, None]
            if estimate.slope is not None:
                deviation = z[: known + 1].mean(0) - estimate.past[known]
                window[known + 1 :] += estimate.slope[known, known + 1 :, None, None] * deviation
        expected.append(op.gate(window)[j])
    stepper, gates = (
        stream(block_graph(op, T), lookahead=D, profile=profile, schedule=schedule, samples=N),
        [],
    )
    stepper_frames = [*x, *([np.zeros_like(x[0])] * T if schedule == "paced" else [])]
    for frame in stepper_frames:
        stepper.push(
            frame, observe=lambda name, i, v: gates.append(v.numpy()) if name == "block" + GATE else None
        )
    # float32: sums of up to C K_T + T K_C products of order 1, and a sigmoid with slope 1/4
    np.testing.assert_allclose(np.stack(gates[:T]), np.stack(expected), atol=2e-5)


@pytest.mark.parametrize(("k_t", "ahead"), [(1, 0), (2, 1), (3, 1), (4, 2)])
def test_tla_alone_holds_k_t_frames_of_z_and_looks_ahead_as_far_as_its_kernel(k_t, ahead):
    T, rng = 9, np.random.default_rng(k_t)
    op, x = block(rng, T, k_t, 0), spikes(rng, T)
    stepper = stream(block_graph(op, T), samples=N)
    z = x.mean((3, 4))
    for t in range(T):
        emitted = [e.frame for e in stepper.push(x[t])]
        assert emitted == (list(range(T - 1 - ahead, T)) if t == T - 1 else [t - ahead] if t >= ahead else [])
        if t == T - 1:
            break
        state = stepper.state
        assert set(state.cells["block" + GATE]) == {"ring"}
        ring = state.cells["block" + GATE]["ring"].numpy()
        assert ring.shape == (k_t, N, C)
        held = np.concatenate([np.zeros((k_t, N, C), np.float32), z[: t + 1]])[-k_t:]
        np.testing.assert_allclose(ring, held, rtol=1e-6)
        waiting = state.queues["block", 0]
        assert len(waiting) == min(ahead, t + 1)
        assert all(p.bits and p.nbytes == -(-N * C * 16 // 8) for p in waiting)
        assert sum(len(q) for q in state.queues.values()) == len(waiting)


def test_a_full_block_holds_accumulators_and_packed_spikes():
    T, rng = 6, np.random.default_rng(0)
    op, x = block(rng, T, 4, 3), spikes(rng, T)
    stepper = stream(block_graph(op, T), samples=N)
    for t in range(T - 1):
        assert stepper.push(x[t]) == []
    cell = stepper.state.cells["block" + GATE]
    assert {name: tuple(v.shape) for name, v in cell.items()} == {
        "ring": (4, N, C), "tm": (T - 1 - 2, N, C), "cm": (T, N, C)
    }  # fmt: skip
    padded = np.pad(x[: T - 1].mean((3, 4)), ((0, 0), (0, 0), (1, 1)))
    columns = sum(np.einsum("snc,ts->tnc", padded[..., m : m + C], op.cla[:, : T - 1, m]) for m in range(3))
    np.testing.assert_allclose(cell["cm"].numpy(), columns, atol=1e-5)
    held = stepper.state.queues["block", 0]
    assert [np.unpackbits(p.data, count=N * C * 16).sum() for p in held] == [f.sum() for f in x[: T - 1]]
    assert [e.frame for e in stepper.push(x[T - 1])] == list(range(T))


def test_spikes_wait_behind_max_pooling_and_the_result_is_the_same():
    T, rng = 4, np.random.default_rng(3)
    op, x = block(rng, T, 2, 2), spikes(rng, T)
    graph = block_graph(op, T, ir.MaxPool2d((2, 2), (2, 2)))
    stepper = stream(graph, samples=N)
    for t in range(T - 1):
        stepper.push(x[t])
    waiting = [p for q in stepper.state.queues.values() for p in q]
    assert [p.shape for p in waiting] == [(N, C, 2, 2)] * (T - 1)
    results = torch.stack([e.value for e in stepper.push(x[T - 1])])
    gate = np.stack([op.gate(x.mean((3, 4)))])[0]
    expected = (x * gate[..., None, None]).reshape(T, N, C, 2, 2, 2, 2).max((4, 6))
    np.testing.assert_allclose(results.numpy(), expected, atol=2e-5)


def test_fit_finds_mean_and_least_squares_slopes():
    T, rng = 5, np.random.default_rng(4)
    graph = block_graph(block(rng, T, 2, 2), T)
    rates = rng.uniform(0.05, 0.9, (1, 300, 1, 1, 1))
    x = (rng.random((T, 300, C, 4, 4)) < rates).astype(np.float32)
    profile = fit(graph, [x[:, :100], x[:, 100:]], linear=True)
    e, z = profile.blocks["block"], x.mean((3, 4)).astype(np.float64)
    np.testing.assert_allclose(e.mean, z.mean(1), rtol=1e-5)
    t, n = 2, 4
    u = z[: t + 1].mean(0)
    slope, *_ = np.linalg.lstsq((u - u.mean(0)).reshape(-1, 1), (z[n] - z[n].mean(0)).ravel(), rcond=None)
    np.testing.assert_allclose(e.slope[t, n], slope[0], rtol=1e-4)
    assert profile.without_slopes().blocks["block"].slope is None
    again = FrameProfile.from_arrays(graph, profile.arrays()).blocks["block"]
    assert all(
        np.array_equal(a, b) for a, b in [(again.mean, e.mean), (again.past, e.past), (again.slope, e.slope)]
    )


def test_profiles_that_do_not_fit_are_refused():
    graph = block_graph(block(np.random.default_rng(0), 4, 2, 2), 4)
    good = {"block/mean": np.zeros((4, C)), "block/past": np.zeros((4, C))}
    for bad in (
        {}, good | {"block/mean": np.zeros((4, C + 1))}, good | {"other/mean": np.zeros((4, C))},
        good | {"block/past": np.full((4, C), np.nan)},
    ):  # fmt: skip
        with pytest.raises(FileFormatError, match="profile"):
            FrameProfile.from_arrays(graph, bad)
    with pytest.raises(DataError, match="no recordings"):
        fit(graph, [])


def test_exact_gates_have_no_estimate_to_keep():
    op = block(np.random.default_rng(0), 4, 2, 2)
    e = estimate_of(np.random.default_rng(1), 4, linear=True)
    assert "past" not in GateBuffer(op, C, 4, 3, e).initial(1)
    assert "past" in GateBuffer(op, C, 4, 2, e).initial(1)
