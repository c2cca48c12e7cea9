"""What each NIR primitive becomes; weights, shapes and pooling here, neurons in ``nir_neurons``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.desk import Desk, Offence, Rule, ShapeOffence
from tcja_deploy.nir_file.neurons import NEURONS

__all__ = ["RULES"]


# -- weights -----------------------------------------------------------------------------------------------------
def _linear(desk: Desk, x: str) -> str:
    if len(desk.features(x)) != 1:
        raise ShapeOffence(
            f"multiplies a matrix with frames of shape {list(desk.features(x))}", "put a Flatten before it"
        )
    return desk.emit(ir.Linear(desk.array("weight", 2), desk.bias()), x)


def _padding(desk: Desk, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Any:
    """Zeros before and after each axis."""
    value = desk.field("padding")
    if not isinstance(value, str):
        sizes = desk.integers("padding", len(kernel))
        return sizes, sizes
    if value == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if value != "same" or set(stride) != {1}:
        raise Offence(f"padding {value!r} with stride {list(stride)} has no meaning")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)


def _conv2d(desk: Desk, x: str) -> str:
    weight = desk.array("weight", 4)
    stride, dilation = desk.integers("stride", 2), desk.integers("dilation", 2)
    before, after = _padding(desk, weight.shape[2:], stride, dilation)
    groups = desk.integers("groups", 1)[0]
    sides = (before[0], before[1], after[0], after[1])
    op = ir.Conv2d(weight, desk.bias(), _pair(stride), sides, _pair(dilation), groups)
    return desk.emit(op, x)


def _conv1d(desk: Desk, x: str) -> str:
    weight = desk.array("weight", 3)
    (stride,), (dilation,) = desk.integers("stride", 1), desk.integers("dilation", 1)
    before, after = _padding(desk, weight.shape[2:], (stride,), (dilation,))
    if len(desk.features(x)) != 2:
        raise ShapeOffence(f"a 1-D convolution needs frames [C, L], got {list(desk.features(x))}")
    groups = desk.integers("groups", 1)[0]
    return desk.emit(ir.Conv1d(weight, desk.bias(), stride, (before[0], after[0]), dilation, groups), x)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _scale(desk: Desk, x: str) -> str:
    scale = np.asarray(desk.field("scale"), np.float32)
    features = desk.features(x)
    if scale.size == 1:
        return desk.emit(ir.Affine(float(scale.ravel()[0])), x)
    if scale.shape != features:
        raise ShapeOffence(f"scale has shape {list(scale.shape)}, but the frames are {list(features)}")
    if (scale == scale.flat[0]).all():
        return desk.emit(ir.Affine(float(scale.flat[0])), x)
    if len(features) == 3 and (scale == scale[:, :1, :1]).all():
        weight = np.ascontiguousarray(scale[:, 0, 0].reshape(-1, 1, 1, 1))
        return desk.emit(ir.Conv2d(weight, groups=len(weight)), x)
    if len(features) == 1:
        return desk.emit(ir.Linear(np.diag(scale)), x)
    raise Offence("scales every pixel by a number of its own", "one number a channel can be translated")


# -- shape and pooling -------------------------------------------------------------------------------------------
def _flatten(desk: Desk, x: str) -> str:
    features = desk.features(x)
    (start,), (end,) = desk.integers("start_dim", 1), desk.integers("end_dim", 1)
    first, last = (d + len(features) if d < 0 else d for d in (start, end))
    if not 0 <= first <= last < len(features):
        raise ShapeOffence(
            f"flattens axes {start} to {end} of frames {list(features)}",
            "NIR counts axes without the batch; a file that counts it has start_dim one too large",
        )
    if first == last:
        return x
    if (first, last) == (0, len(features) - 1):
        return desk.emit(ir.Flatten(), x)
    merged = (*features[:first], int(np.prod(features[first : last + 1])), *features[last + 1 :])
    return desk.emit(ir.Reshape(("T", "N", *merged), (0, 1)), x)


def _pool(desk: Desk) -> ir.AvgPool2d:
    kernel, stride, padding = (_pair(desk.integers(n, 2)) for n in ("kernel_size", "stride", "padding"))
    return ir.AvgPool2d(kernel, stride, padding)


def _avg_pool(desk: Desk, x: str) -> str:
    return desk.emit(_pool(desk), x)


def _sum_pool(desk: Desk, x: str) -> str:
    op = _pool(desk)
    mean = desk.emit(op, x, "mean")
    return desk.emit(ir.Affine(float(op.kernel[0] * op.kernel[1])), mean)


def _delay(desk: Desk, x: str) -> str:
    if np.any(np.asarray(desk.field("delay"))):
        raise Offence("delays its input", "leave it out; delays have no translation")
    return x


RULES: dict[str, Rule] = {
    **NEURONS,
    "Affine": _linear,
    "AvgPool2d": _avg_pool,
    "Conv1d": _conv1d,
    "Conv2d": _conv2d,
    "Delay": _delay,
    "Flatten": _flatten,
    "Linear": _linear,
    "Scale": _scale,
    "SumPool2d": _sum_pool,
}
"""Rules by NIR type."""
