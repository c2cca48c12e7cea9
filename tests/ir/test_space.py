"""Ops on space against torch on networks' own sizes, and edge cases of ops on tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from tcja_deploy.errors import GraphError
from tcja_deploy.ir import Dim, Kind, Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import evaluate

RNG = np.random.default_rng(0)


def whole(*shape: int) -> NDArray[np.float32]:
    """Whole numbers, so that sums do not depend on their order."""
    return RNG.integers(-4, 5, shape).astype(np.float32)


def test_asymmetric_padding_groups_and_dilation() -> None:
    weight, x = whole(6, 2, 3, 2), whole(3, 2, 4, 9, 8)
    op = ir.Conv2d(weight, whole(6), (2, 1), (2, 0, 1, 3), (2, 3), 2)
    padded = F.pad(torch.from_numpy(x.reshape(-1, 4, 9, 8)), (0, 3, 2, 1))
    y = F.conv2d(padded, torch.from_numpy(weight), torch.from_numpy(op.bias), (2, 1), 0, (2, 3), 2)  # type: ignore[arg-type]
    assert np.array_equal(op.apply(x).reshape(y.shape), y.numpy())
    assert np.array_equal(evaluate(op, torch.from_numpy(x)).reshape(y.shape).numpy(), y.numpy())


def test_a_convolution_is_the_sum_of_its_docstring() -> None:
    """`y[o,i,j] = b[o] + sum w[o,c,m,n] x[c, i s + m d - p, j s + n d - p]`, written out."""
    weight, bias, x = whole(4, 1, 2, 3), whole(4), whole(1, 1, 2, 5, 6)
    (sh, sw), (dh, dw), (top, left, bottom, right), groups = (2, 1), (1, 2), (1, 0, 0, 2), 2
    op = ir.Conv2d(weight, bias, (sh, sw), (top, left, bottom, right), (dh, dw), groups)
    y = op.apply(x)[0, 0]
    for o, i, j in np.ndindex(y.shape):
        total = bias[o]
        for m, n in np.ndindex(2, 3):
            row, column = i * sh + m * dh - top, j * sw + n * dw - left
            if 0 <= row < 5 and 0 <= column < 6:
                total += weight[o, 0, m, n] * x[0, 0, o // 2, row, column]
        assert y[o, i, j] == total


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_undoes_the_shape_of_a_convolution(groups: int) -> None:
    weight = whole(4, 3, 4, 4)
    op = ir.ConvTranspose2d(weight, None, (2, 2), (1, 1), (0, 0), (1, 1), groups)
    x = whole(2, 1, 4, 7, 5)
    y = F.conv_transpose2d(torch.from_numpy(x[:, 0]), torch.from_numpy(weight), None, 2, 1, 0, groups)
    assert np.array_equal(op.apply(x)[:, 0], y.numpy())
    assert op.infer(Signal(("T", "N", 4, 7, 5), Kind.REAL), T=2).dims[-2:] == (14, 10)


@pytest.mark.parametrize(
    ("before", "after"),
    [((128, 128), (48, 48)), ((180, 240), (5, 7)), ((34, 34), (1, 1)), ((3, 5), (3, 5)), ((2, 3), (5, 4))],
)
def test_adaptive_pooling(before: tuple[int, int], after: tuple[int, int]) -> None:
    """128 to 48 is CIFAR10-DVS: windows of 3 and 4 rows that overlap."""
    x = RNG.integers(0, 9, (1, 2, 2, *before)).astype(np.float32)
    op = ir.AdaptiveAvgPool2d(after)
    expected = F.adaptive_avg_pool2d(torch.from_numpy(x[0]), after).numpy()
    # Sums of counts are exact; torch divides twice, the reference rounds the mean of the rows before the columns are added.
    assert np.allclose(op.apply(x)[0], expected, rtol=5e-7)
    assert np.array_equal(evaluate(op, torch.from_numpy(x))[0].numpy(), expected)
    kind = op.infer(Signal(("T", "N", 2, *before), Kind.BINARY), T=1).kind
    assert kind is (Kind.BINARY if before == after else Kind.GRADED)


@pytest.mark.parametrize("T", [2, 4])
def test_weights_on_the_time_axis_keep_its_name_only_for_as_many_steps(T: int) -> None:
    four = whole(4, T, 1, 1)
    assert ir.Conv2d(four).infer(Signal(("N", "T", 3, 3), Kind.REAL), T=T).dims == (
        "N",
        "T" if T == 4 else 4,
        3,
        3,
    )
    assert ir.Conv1d(four[..., 0]).infer(Signal(("N", "T", 3), Kind.REAL), T=T).dims == (
        "N",
        "T" if T == 4 else 4,
        3,
    )
    assert ir.Linear(four[..., 0, 0]).infer(Signal(("N", 3, "T"), Kind.REAL), T=T).dims == (
        "N",
        3,
        "T" if T == 4 else 4,
    )


X: tuple[Dim, ...] = ("T", "N", 2, 6, 6)


@pytest.mark.parametrize(
    ("op", "dims", "reason"),
    [
        (ir.Conv2d(whole(1, 3, 1, 1)), X, "expects 3 channels, the input has 2"),
        (ir.Conv2d(whole(1, 2, 7, 7)), X, "does not fit into 6 x 6"),
        (ir.Conv2d(whole(1, 2, 1, 1)), ("T", "N", 6), r"needs \[..., C, H, W\]"),
        (ir.Conv2d(whole(1, 2, 1, 1)), ("T", "N", 6, 6), "would mix them"),
        (ir.ConvTranspose2d(whole(3, 1, 1, 1)), X, "expects 3 channels, got 2"),
        (ir.ConvTranspose2d(whole(2, 1, 1, 1), padding=(3, 0)), X, "leaves nothing"),
        (ir.Conv1d(whole(1, 2, 1)), ("T", "N", 6), "would mix them"),
        (ir.Conv1d(whole(1, 2, 9)), ("N", 2, "T"), "does not fit into 4"),
        (ir.Linear(whole(1, 2)), ("T", "N"), "would mix them"),
        (ir.Linear(whole(1, 2)), ("T", "N", 3), "expects 2 features, the input has 3"),
        (ir.BatchNorm2d(*[np.ones(3, np.float32)] * 4), X, "3 channels are normalised, the input has 2"),
        (ir.BatchNorm2d(*[np.ones(3, np.float32)] * 4), ("N", 3), "has no channel axis"),
        (ir.MaxPool2d((7, 7), (1, 1)), X, "does not fit"),
        (ir.MaxPool2d((1, 1), (1, 1)), ("N", 2, 3, "T"), r"needs \[..., C, H, W\]"),
        (ir.AdaptiveAvgPool2d((1, 1)), ("T", "N", 6, 6), r"needs \[..., C, H, W\]"),
        (ir.IF(), ("N", 3), "needs a stream of frames"),
        (ir.LI(0.5), ("N", 3), "needs a stream of frames"),
        (ir.TimeMean(), ("N", 3), "needs a stream of frames"),
        (ir.TCJA(cla=whole(4, 4, 1)), ("T", 2, "N", 6, 6), r"needs \[T, N, C, H, W\]"),
        (ir.TCJA(cla=whole(5, 5, 1)), X, "do not fit T = 4"),
        (ir.TCJA(tla=whole(3, 3, 1)), X, "do not fit 2 channels"),
        (ir.Flatten(), ("N", 2, 3), r"needs \[T, N, ...\]"),
        (ir.Flatten(), ("T", "N"), r"needs \[T, N, ...\]"),
        (ir.Permute((1, 0)), X, "does not order the axes"),
        (ir.Reshape(("T", "N", 70), (0, 1)), X, "the sizes differ"),
        (ir.Reshape(("N", "T", 72), (1, 0)), X, "N has to stay whole"),  # would have to move data
        (ir.Reshape(("T", 72, "N"), (0, 1)), X, "the sizes differ"),
        (ir.Reshape(("T", "N", 72), (0, 7)), X, "N has to stay whole"),
        (ir.Reduce("mean", (1,)), X, "would mix them"),
        (ir.Reduce("max", (5,)), X, "has no axes"),
        (ir.Vote(5), ("T", "N", 4), "has no 5 voters per class"),
        (ir.Vote(1), ("T", "N"), "voting needs a feature axis"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit(op: Op, dims: tuple[Dim, ...], reason: str) -> None:
    assert op.faults() == []
    with pytest.raises(GraphError, match=reason):
        op.infer(Signal(dims, Kind.REAL), T=4)


@pytest.mark.parametrize(
    ("op", "shapes", "reason"),
    [
        (ir.Add(), [X, ("T", "N", 3, 6, 6)], "do not broadcast"),
        (ir.Mul(), [("T", "N", 4), ("N", 4, 4)], "do not broadcast"),  # 4 features are not 4 time steps
        (ir.Mul(), [("T", "N", 1), ("N", "T")], "two axes of one name"),
        (ir.Concat(2), [X, ("T", "N", 2, 5, 6)], "do not fit side by side"),
        (ir.Concat(0), [X, X], "do not fit side by side"),
        (ir.Concat(5), [X, X], "there is no axis 5"),
        (ir.Concat(2), [X, ("T", "N")], "do not fit side by side"),
    ],
)
def test_pairs_that_do_not_fit(op: Op, shapes: list[tuple[Dim, ...]], reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        op.infer(*(Signal(dims, Kind.REAL) for dims in shapes), T=4)


@pytest.mark.parametrize(
    ("op", "faults"),
    [
        (
            ir.Conv2d(whole(2, 1, 1)),
            ["the weight has shape (2, 1, 1), 4 axes without an empty one are needed"],
        ),
        (ir.Conv2d(whole(2, 1, 1, 1), whole(3)), ["the bias has shape (3,), there are 2 outputs"]),
        (ir.Conv2d(whole(2, 1, 1, 1), groups=3), ["3 groups do not divide 2 outputs"]),
        (
            ir.Conv2d(whole(2, 1, 1, 1), stride=(0, 1), dilation=(1, -1), padding=(0, 0, -1, 0), groups=0),
            [
                "stride = (0, 1) is below 1",
                "dilation = (1, -1) is below 1",
                "groups = 0 is below 1",
                "padding = (0, 0, -1, 0) is below 0",
            ],
        ),
        (ir.ConvTranspose2d(whole(3, 1, 1, 1), groups=2), ["2 groups do not divide 3 inputs"]),
        (
            ir.ConvTranspose2d(whole(2, 1, 1, 1), output_padding=(1, 0)),
            ["the output padding is not smaller than stride or dilation"],
        ),
        (
            ir.Conv1d(whole(2, 0, 1)),
            ["the weight has shape (2, 0, 1), 3 axes without an empty one are needed"],
        ),
        (ir.Conv1d(whole(3, 1, 1), groups=2), ["2 groups do not divide 3 outputs"]),
        (ir.Linear(whole(2, 1), whole(1)), ["the bias has shape (1,), there are 2 outputs"]),
        (
            ir.BatchNorm1d(whole(2), whole(2), whole(3), np.ones(2, np.float32)),
            ["gamma, beta, mean and var have shapes (2,), (2,), (3,), (2,)"],
        ),
        (
            ir.BatchNorm1d(whole(1), whole(1), whole(1), -np.ones(1, np.float32)),
            ["a variance plus eps = 1e-05 is not positive"],
        ),
        (ir.MaxPool2d((2, 0), (1, 1)), ["kernel = (2, 0) is below 1"]),
        (ir.AvgPool2d((2, 2), (0, 1)), ["stride = (0, 1) is below 1"]),
        (ir.MaxPool2d((2, 2), (1, 1), (2, 0)), ["the padding is more than half of the pooling window"]),
        (ir.AdaptiveAvgPool2d((0, 1)), ["output_size = (0, 1) is below 1"]),
        (ir.Input(()), ["the input shape () is empty"]),
        (ir.Input((2, 0)), ["the input shape (2, 0) is empty"]),
        (ir.Concat(-1), ["axis = -1 is below 0"]),
        (ir.Permute((0, 0)), ["(0, 0) is not an order of axes"]),
        (ir.Reshape(("T", "N", -2, -3), (0, 1)), ["dims = (-2, -3) is below 1"]),
        (ir.Reduce("mean", ()), ["() are not axes"]),
        (ir.Reduce("mean", (2, 2)), ["(2, 2) are not axes"]),
        (ir.Reduce("mean", (-1,)), ["(-1,) are not axes"]),
        (ir.Vote(0), ["voters = 0 is below 1"]),
    ],
)
def test_faults(op: Op, faults: list[str]) -> None:
    assert op.faults() == faults


def test_kinds() -> None:
    """What decides between accumulate and multiply-accumulate."""

    def result(op: Op, *kinds: Kind) -> Kind:
        return op.infer(*(Signal(("T", "N", 2, 4, 4), k) for k in kinds), T=4).kind

    binary, count, graded, real = Kind
    average, maximum = ir.AvgPool2d((2, 2), (2, 2)), ir.MaxPool2d((2, 2), (2, 2))
    assert [result(maximum, k) for k in Kind] == [binary, count, graded, real]
    assert [result(average, k) for k in Kind] == [graded, graded, graded, real]
    assert [result(ir.Conv2d(whole(1, 2, 1, 1)), k) for k in Kind] == [real] * 4
    assert [result(ir.LIF(), k) for k in Kind] == [binary] * 4
    assert [result(ir.TCJA(cla=whole(4, 4, 1)), k) for k in Kind] == [graded, graded, graded, real]
    assert [result(ir.ReLU(), k) for k in Kind] == [binary, count, graded, graded]
    assert [result(ir.Affine(2.0), k) for k in Kind] == [graded, graded, graded, real]
    assert [result(ir.Affine(1.0), k) for k in Kind] == list(Kind)
    assert [result(ir.Affine(1.0, 0.5), k) for k in Kind] == [real] * 4
    assert [result(ir.Affine(-1.0, 1.0), k) for k in Kind] == [binary, real, real, real]  # inverted spikes
    assert [result(ir.Reduce("sum", (2,)), k) for k in Kind] == [count, count, graded, real]
    assert [result(ir.Reduce("max", (2,)), k) for k in Kind] == [binary, count, graded, real]
    assert [result(ir.Reduce("mean", (2,)), k) for k in Kind] == [graded, graded, graded, real]
    assert [result(ir.Add(), binary, k) for k in Kind] == [count, count, graded, real]
    assert [result(ir.Mul(), binary, k) for k in Kind] == [binary, count, graded, graded]
    assert [result(ir.Mul(), real, k) for k in Kind] == [graded, graded, graded, real]
    assert [result(ir.Concat(2), binary, k) for k in Kind] == [binary, count, graded, real]
