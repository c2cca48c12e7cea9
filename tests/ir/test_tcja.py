"""TCJA against the paper's equations written out, against the authors' module, and its claims about time by perturbation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tcja_deploy.ir import Kind, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import evaluate
from tcja_deploy.zoo.modules import TCJABlock

Array = NDArray[np.float32]


def block(T: int, C: int, k_t: int, k_c: int, *, fusion: str = "multiply", seed: int = 0) -> ir.TCJA:
    rng = np.random.default_rng(seed)
    tla = rng.normal(0, 1, (C, C, k_t)).astype(np.float32) if k_t else None
    cla = rng.normal(0, 1, (T, T, k_c)).astype(np.float32) if k_c else None
    return ir.TCJA(tla, cla, fusion)  # type: ignore[arg-type]


def spikes(T: int, N: int, C: int, H: int, W: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 2, (T, N, C, H, W)).astype(np.float32)


def by_equations(op: ir.TCJA, x: Array) -> NDArray[np.float64]:
    """The equations of the paper (summation indices as there), one number at a time, in float64."""
    T, N, C, H, W = x.shape
    y = np.zeros(x.shape)
    for b, i, j in np.ndindex(N, C, T):

        def z(c: int, t: int, b: int = b) -> float:
            """Mean over space; zero outside (padding)."""
            inside = 0 <= c < C and 0 <= t < T
            return sum(float(x[t, b, c, h, w]) for h, w in np.ndindex(H, W)) / (H * W) if inside else 0.0

        maps = []
        if op.tla is not None:
            left = (op.k_t - 1) // 2
            terms = (float(op.tla[i, n, m]) * z(n, j + m - left) for n, m in np.ndindex(C, op.k_t))
            maps.append(sum(terms))
        if op.cla is not None:
            left = (op.k_c - 1) // 2
            terms = (float(op.cla[j, n, m]) * z(i + m - left, n) for n, m in np.ndindex(T, op.k_c))
            maps.append(sum(terms))
        joint = math.prod(maps) if op.fusion == "multiply" else sum(maps)
        y[j, b, i] = x[j, b, i] / (1 + math.exp(-joint))
    return y


@pytest.mark.parametrize("fusion", ["multiply", "add"])
@pytest.mark.parametrize(
    ("k_t", "k_c"),
    [*product(range(1, 7), range(1, 7)), *((k, 0) for k in range(1, 7)), *((0, k) for k in range(1, 7))],
)
def test_equals_the_equations(k_t: int, k_c: int, fusion: str) -> None:
    T, C = 4, 3
    op, x = block(T, C, k_t, k_c, fusion=fusion), spikes(T, 2, C, 2, 3)
    expected = by_equations(op, x)
    # float32 sums of at most 6 x 4 terms of order 1, their product, the sigmoid's slope of 1/4: a few units of 2**-24 times 24.
    assert np.abs(op.apply(x) - expected).max() < 2e-6
    assert np.abs(evaluate(op, torch.from_numpy(x)).numpy() - expected).max() < 2e-6


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**16))
@settings(max_examples=30)
def test_equals_the_authors_layout(T: int, C: int, k_t: int, k_c: int, seed: int) -> None:
    """PyTorch's own "same" convolutions, `conv` along channels and `conv_c` along time."""
    op, x = block(T, C, k_t, k_c, seed=seed), torch.from_numpy(spikes(T, 2, C, 3, 3, seed))
    assert op.tla is not None
    assert op.cla is not None
    module = TCJABlock(k_t, k_c, T, C)
    module.load_state_dict(
        {"conv.weight": torch.from_numpy(op.cla), "conv_c.weight": torch.from_numpy(op.tla)}
    )
    with torch.no_grad():
        expected = module(x)
    assert torch.allclose(
        evaluate(op, x), expected, rtol=1e-5, atol=1e-6
    )  # kernels may add up in another order


# -- claims about time -------------------------------------------------------------------------------------------------
def frames_that_matter(op: ir.TCJA, T: int, C: int) -> NDArray[np.bool_]:
    """`[j, n]`: whether a change of frame `n` changes the gate of frame `j` (in any of several tries)."""
    matters = np.zeros((T, T), bool)
    for seed, n in product(range(3), range(T)):
        x = spikes(T, 1, C, 3, 3, seed)
        other = x.copy()
        other[n] = 1 - other[n]
        z, w = x.mean((3, 4)), other.mean((3, 4))
        matters[:, n] |= (op.gate(z) != op.gate(w)).any((1, 2))
    return matters


@pytest.mark.parametrize("k_t", range(1, 7))
def test_tla_reads_its_kernel_and_nothing_else(k_t: int) -> None:
    T, C = 8, 3
    op = block(T, C, k_t, 0)
    x = Signal(("T", "N", C, 3, 3), Kind.BINARY)
    left, right = ir.same_padding(k_t)
    offset = np.arange(T)[None, :] - np.arange(T)[:, None]
    assert np.array_equal(frames_that_matter(op, T, C), (offset >= -left) & (offset <= right))
    assert op.lookahead(x, T=T) == right


@pytest.mark.parametrize("k_c", [1, 4])
@pytest.mark.parametrize("k_t", [0, 2, 4])
def test_cla_reads_the_whole_window(k_t: int, k_c: int) -> None:
    T, C = 5, 3
    op = block(T, C, k_t, k_c)
    x = Signal(("T", "N", C, 3, 3), Kind.BINARY)
    assert frames_that_matter(op, T, C).all()
    assert op.lookahead(x, T=T) == T - 1


@pytest.mark.parametrize("k_t", range(1, 7))
def test_a_window_shorter_than_the_kernel(k_t: int) -> None:
    x = Signal(("T", "N", 2, 3, 3), Kind.BINARY)
    for T in range(1, 5):
        op = block(T, 2, k_t, 0)
        assert op.lookahead(x, T=T) == min(ir.same_padding(k_t)[1], T - 1)
        out, state = [], op.initial_state(x, T=T, N=1)
        frames = spikes(T, 1, 2, 3, 3)
        for frame in frames:
            ready, state = op.step((frame,), state)
            out += ready
        assert np.allclose(np.stack(out), op.apply(frames), rtol=1e-6)


@pytest.mark.parametrize("k", range(1, 8))
def test_same_padding_is_that_of_torch(k: int) -> None:
    x, w = torch.randn(1, 1, 9), torch.randn(1, 1, k)
    padded = torch.nn.functional.pad(x, ir.same_padding(k))
    assert torch.equal(torch.conv1d(padded, w), torch.conv1d(x, w, padding="same"))


# -- facts the exporters rest on ---------------------------------------------------------------------------------------
def test_the_gate_commutes_with_pooling() -> None:
    T, C = 4, 3
    op, x = block(T, C, 4, 4), spikes(T, 2, C, 4, 4)
    gate = op.gate(x.mean((3, 4)))[..., None, None]
    maximum, mean = ir.MaxPool2d((2, 2), (2, 2)), ir.AvgPool2d((2, 2), (2, 2))
    assert np.array_equal(maximum.apply(op.apply(x)), gate * maximum.apply(x))
    # A sum of up to four times the same number is rounded twice at most, by 2**-24 each.
    assert np.allclose(mean.apply(op.apply(x)), gate * mean.apply(x), rtol=2**-23, atol=0)


@pytest.mark.parametrize(
    ("op", "fault"),
    [
        (ir.TCJA(), "there is neither a TLA nor a CLA kernel"),
        (
            ir.TCJA(tla=np.zeros((2, 2), np.float32)),
            "the TLA kernel has shape (2, 2), 3 axes without an empty one are needed",
        ),
        (
            ir.TCJA(cla=np.zeros((2, 2, 0), np.float32)),
            "the CLA kernel has shape (2, 2, 0), 3 axes without an empty one are needed",
        ),
    ],
)
def test_faults(op: ir.TCJA, fault: str) -> None:
    assert op.faults() == [fault]
