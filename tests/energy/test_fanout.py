"""Fan-out against closed forms and against a loop over every weight."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from energy_nets import one_layer
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.energy.count.fanout import fan_out, macs, pool_windows
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.ir import Kind, Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.rows import node_rows
from tcja_deploy.runtime.stream import measure, plan


def frame(*features: int, kind: Kind = Kind.BINARY) -> Signal:
    return Signal(("T", "N", *features), kind)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def full(op: Op, x: Signal, T: int = 1) -> np.ndarray:
    """The map at every element of one frame."""
    return np.broadcast_to(fan_out(op, x, T), (T, *x.features))[0]


# -- closed forms ----------------------------------------------------------------------------------------------------
def test_corner_edge_centre() -> None:
    found = full(ir.Conv2d(ones(6, 4, 3, 3), padding=(1, 1, 1, 1)), frame(4, 8, 8))
    assert found[0, 0, 0] == found[3, 7, 7] == 4 * 6
    assert found[0, 0, 3] == found[2, 5, 0] == 6 * 6
    assert found[0, 4, 4] == 9 * 6


def test_all_ones_8x8_4_to_6() -> None:
    # 9 positions a site, less the borders: 6 * 4 * (3 * 8 - 2) ** 2 = 11,616; with the borders 6 * 4 * 9 * 64
    # = 13,824.
    found = macs(ir.Conv2d(ones(6, 4, 3, 3), padding=(1, 1, 1, 1)), frame(4, 8, 8), 1)
    assert (found.border_aware, found.dense) == (11_616, 13_824)


def test_stride_two_without_padding_reads_each_position_once() -> None:
    found = full(ir.Conv2d(ones(5, 1, 2, 2), stride=(2, 2)), frame(1, 6, 6))
    assert (found == 5).all()
    # An odd row and column at the end is read by nobody.
    found = full(ir.Conv2d(ones(5, 1, 2, 2), stride=(2, 2)), frame(1, 7, 7))
    assert (found[:, 6] == 0).all()
    assert (found[:, :, 6] == 0).all()


def test_stride_two_with_padding_one() -> None:
    # One spike in the corner of a 3x3, stride 2, padding 1 convolution meets output 0 alone: one position an
    # axis.
    found = full(ir.Conv2d(ones(1, 1, 3, 3), stride=(2, 2), padding=(1, 1, 1, 1)), frame(1, 8, 8))
    assert found[0, 0, 0] == 1
    assert found[0, 1, 1] == 4
    assert found[0, 1, 2] == 2


def test_groups_and_depthwise() -> None:
    assert (full(ir.Conv2d(ones(6, 1, 1, 1), groups=3), frame(3, 2, 2)) == 2).all()
    assert (full(ir.Conv2d(ones(3, 1, 1, 1), groups=3), frame(3, 2, 2)) == 1).all()


def test_linear_and_transposed() -> None:
    assert (full(ir.Linear(ones(7, 5)), frame(5)) == 7).all()
    found = macs(ir.ConvTranspose2d(ones(4, 6, 2, 2), stride=(2, 2)), frame(4, 16, 16), 1)
    assert (found.border_aware, found.dense) == (24_576, 24_576)  # 4 x 16 x 16 inputs, 6 x 2 x 2 weights each
    cropped = macs(ir.ConvTranspose2d(ones(1, 1, 3, 3), padding=(1, 1)), frame(1, 4, 4), 1)
    assert (cropped.border_aware, cropped.dense) == (100, 144)


def test_conv1d_along_time_and_along_channels() -> None:
    x = Signal(("N", 3, "T"), Kind.REAL)
    along_time = fan_out(ir.Conv1d(ones(3, 3, 2), padding=(0, 1)), x, 5)  # output t reads t and t + 1
    assert along_time.shape == (5, 1)
    assert along_time[:, 0].tolist() == [3, 6, 6, 6, 6]
    along_channels = fan_out(ir.Conv1d(ones(5, 5, 3), padding=(1, 1)), Signal(("N", "T", 4), Kind.REAL), 5)
    assert along_channels.shape == (1, 4)
    assert along_channels[0].tolist() == [10, 15, 15, 10]
    found = macs(ir.Conv1d(ones(5, 5, 3), padding=(1, 1)), Signal(("N", "T", 4), Kind.REAL), 5)
    assert (found.dense, found.border_aware, found.passes) == (5 * 5 * 4 * 3, 5 * 5 * (4 * 3 - 2), 1)


def test_conv2d_over_time_and_channels() -> None:
    x = Signal(("N", 1, "T", 4), Kind.REAL)
    found = fan_out(ir.Conv2d(ones(1, 1, 3, 3), padding=(1, 1, 1, 1)), x, 3)
    assert found.shape == (3, 1, 4)  # frames [T, 1, 4]
    assert found[:, 0].tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]


def test_other_ops_have_no_fan_out() -> None:
    with pytest.raises(UnsupportedError, match="no synapses"):
        fan_out(ir.Flatten(), frame(3), 1)
    with pytest.raises(UnsupportedError, match="not a pooling op"):
        pool_windows(ir.Flatten(), frame(3, 2, 2), 1)


# -- every weight, one by one
# ----------------------------------------------------------------------------------------
def slow_conv2d(
    op: ir.Conv2d, shape: tuple[int, int, int], out: tuple[int, ...]
) -> Counter[tuple[int, int, int]]:
    """Weights that each input position meets, by walking over outputs and kernel positions."""
    met: Counter[tuple[int, int, int]] = Counter()
    per_group_out, per_group_in = op.weight.shape[0] // op.groups, op.weight.shape[1]
    for o in range(op.weight.shape[0]):
        for i in range(out[1]):
            for j in range(out[2]):
                for c in range(per_group_in):
                    for m in range(op.weight.shape[2]):
                        for n in range(op.weight.shape[3]):
                            y = i * op.stride[0] + m * op.dilation[0] - op.padding[0]
                            x = j * op.stride[1] + n * op.dilation[1] - op.padding[1]
                            if 0 <= y < shape[1] and 0 <= x < shape[2]:
                                met[o // per_group_out * per_group_in + c, y, x] += 1
    return met


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[ir.Conv2d, tuple[int, int, int]]:
    groups = draw(st.integers(1, 2))
    kernel, dilation = draw(pairs), draw(pairs)
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    low = [max(1, s - padding[a] - padding[a + 2]) for a, s in enumerate(span)]
    h, w = (draw(st.integers(n, n + 4)) for n in low)
    c_in, c_out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    op = ir.Conv2d(ones(c_out * groups, c_in, *kernel), None, draw(pairs), padding, dilation, groups)
    return op, (c_in * groups, h, w)


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_conv2d_equals_the_loop(case: tuple[ir.Conv2d, tuple[int, int, int]]) -> None:
    op, shape = case
    x = frame(*shape)
    met = slow_conv2d(op, shape, op.infer(x, T=1).features)
    found = full(op, x)
    assert all(found[p] == met[p] for p in np.ndindex(*shape))
    assert macs(op, x, 1).border_aware == sum(met.values())


@st.composite
def transposed(draw: st.DrawFn) -> tuple[ir.ConvTranspose2d, tuple[int, int, int]]:
    groups = draw(st.integers(1, 2))
    kernel, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    size = tuple(draw(st.integers(1, 4)) for _ in range(2))
    span = [
        (n - 1) * s + d * (k - 1) + o + 1
        for n, s, d, k, o in zip(size, stride, dilation, kernel, extra, strict=True)
    ]
    padding = tuple(draw(st.integers(0, min(2, (n - 1) // 2))) for n in span)
    c_in, c_out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    op = ir.ConvTranspose2d(
        ones(c_in * groups, c_out, *kernel), None, stride, padding, extra, dilation, groups
    )
    return op, (c_in * groups, *size)


@settings(max_examples=100, deadline=None)
@given(transposed())
def test_transposed_equals_its_own_response_to_one_spike(
    case: tuple[ir.ConvTranspose2d, tuple[int, int, int]],
) -> None:
    op, shape = case
    found = full(op, frame(*shape))
    for p in np.ndindex(*shape):
        one = np.zeros((1, 1, *shape), np.float32)
        one[(0, 0, *p)] = 1
        assert found[p] == int(op.apply(one).sum()), p  # weights are ones: the response adds up what was met


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 2),
)
def test_conv1d_equals_its_own_response_to_one_spike(
    n: int, kernel: int, stride: int, dilation: int, left: int, right: int, groups: int
) -> None:
    n = max(n, dilation * (kernel - 1) + 1 - left - right)
    op = ir.Conv1d(ones(2 * groups, 3, kernel), None, stride, (left, right), dilation, groups)
    found = full(op, frame(3 * groups, n))
    for c, i in np.ndindex(3 * groups, n):
        one = np.zeros((1, 1, 3 * groups, n), np.float32)
        one[0, 0, c, i] = 1
        assert found[c, i] == int(op.apply(one).sum())


POOLS = [
    ir.MaxPool2d((2, 2), (2, 2)),
    ir.MaxPool2d((3, 3), (2, 2), (1, 1)),
    ir.AvgPool2d((3, 2), (1, 2)),
    ir.AvgPool2d((2, 2), (3, 3)),
    ir.AdaptiveAvgPool2d((3, 4)),
    ir.AdaptiveAvgPool2d((7, 9)),
]


@pytest.mark.parametrize("op", POOLS, ids=str)
def test_pooling_windows_equal_the_outputs_that_one_spike_reaches(op: Op) -> None:
    x = frame(1, 7, 9)
    found = np.broadcast_to(pool_windows(op, x, 1), (1, 1, 7, 9))[0, 0]
    for i, j in np.ndindex(7, 9):
        one = np.zeros((1, 1, 1, 7, 9), np.float32)
        one[0, 0, 0, i, j] = 1
        assert found[i, j] == np.count_nonzero(op.apply(one))


def test_every_count_of_a_strided_transposed_convolution_is_exact() -> None:
    """3 x 3 with stride 2: 5 x 7 inputs of 3 channels times 4 x 9 weights. Per output that is not a whole number."""
    graph = one_layer(ir.ConvTranspose2d(ones(3, 4, 3, 3), stride=(2, 2)), (3, 5, 7), T=2)
    expected = 3 * 5 * 7 * 4 * 9
    node = graph["layer"]
    assert node.op.macs(*graph.signals_in(node), T=2) == 2 * expected
    assert [row["macs"] for row in node_rows(graph)] == [0, expected]
    frames = np.ones((2, 1, 3, 5, 7), np.float32)
    assert [step.macs for step in measure(plan(graph), frames).steps] == [expected, expected]
