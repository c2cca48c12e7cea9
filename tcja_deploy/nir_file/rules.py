"""What each NIR primitive becomes; weights, shapes and pooling here, neurons in `neurons`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.context import NodeContext, NodeRule
from tcja_deploy.nir_file.neurons import NEURONS
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["RULES"]


# -- weights -----------------------------------------------------------------------------------------------------
def _linear(node: NodeContext, x: str) -> str:
    if len(node.features(x)) != 1:
        raise UnsupportedInContext(
            f"multiplies a matrix by frames of shape {list(node.features(x))}", "put a Flatten before it"
        )
    return node.emit(ir.Linear(node.array("weight", 2), node.bias()), x)


def _padding(
    node: NodeContext, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Any:
    """Zeros before and after each axis."""
    value = node.field("padding")
    if not isinstance(value, str):
        sizes = node.integers("padding", len(kernel))
        return sizes, sizes
    if value == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if value != "same" or set(stride) != {1}:
        raise Unsupported(f"padding {value!r} with stride {list(stride)} has no meaning")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)


def _conv2d(node: NodeContext, x: str) -> str:
    weight = node.array("weight", 4)
    stride, dilation = node.integers("stride", 2), node.integers("dilation", 2)
    before, after = _padding(node, weight.shape[2:], stride, dilation)
    groups = node.integers("groups", 1)[0]
    sides = (before[0], before[1], after[0], after[1])
    op = ir.Conv2d(weight, node.bias(), _pair(stride), sides, _pair(dilation), groups)
    return node.emit(op, x)


def _conv1d(node: NodeContext, x: str) -> str:
    weight = node.array("weight", 3)
    (stride,), (dilation,) = node.integers("stride", 1), node.integers("dilation", 1)
    before, after = _padding(node, weight.shape[2:], (stride,), (dilation,))
    if len(node.features(x)) != 2:
        raise UnsupportedInContext(f"a 1-D convolution needs frames [C, L], got {list(node.features(x))}")
    groups = node.integers("groups", 1)[0]
    return node.emit(ir.Conv1d(weight, node.bias(), stride, (before[0], after[0]), dilation, groups), x)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _scale(node: NodeContext, x: str) -> str:
    scale = np.asarray(node.field("scale"), np.float32)
    features = node.features(x)
    if scale.size == 1:
        return node.emit(ir.Affine(float(scale.ravel()[0])), x)
    if scale.shape != features:
        raise UnsupportedInContext(
            f"scale has shape {list(scale.shape)}, but the frames are {list(features)}"
        )
    if (scale == scale.flat[0]).all():
        return node.emit(ir.Affine(float(scale.flat[0])), x)
    if len(features) == 3 and (scale == scale[:, :1, :1]).all():
        weight = np.ascontiguousarray(scale[:, 0, 0].reshape(-1, 1, 1, 1))
        return node.emit(ir.Conv2d(weight, groups=len(weight)), x)
    if len(features) == 1:
        return node.emit(ir.Linear(np.diag(scale)), x)
    raise Unsupported("scales every pixel by its own number", "one number per channel can be translated")


# -- shape and pooling -------------------------------------------------------------------------------------------
def _flatten(node: NodeContext, x: str) -> str:
    features = node.features(x)
    (start,), (end,) = node.integers("start_dim", 1), node.integers("end_dim", 1)
    first, last = (d + len(features) if d < 0 else d for d in (start, end))
    if not 0 <= first <= last < len(features):
        raise UnsupportedInContext(
            f"flattens axes {start} to {end} of frames {list(features)}",
            "NIR counts axes without the batch; a file that counts it has start_dim one too large",
        )
    if first == last:
        return x
    if (first, last) == (0, len(features) - 1):
        return node.emit(ir.Flatten(), x)
    merged = (*features[:first], int(np.prod(features[first : last + 1])), *features[last + 1 :])
    return node.emit(ir.Reshape(("T", "N", *merged), (0, 1)), x)


def _pool(node: NodeContext) -> ir.AvgPool2d:
    kernel, stride, padding = (_pair(node.integers(n, 2)) for n in ("kernel_size", "stride", "padding"))
    return ir.AvgPool2d(kernel, stride, padding)


def _avg_pool(node: NodeContext, x: str) -> str:
    return node.emit(_pool(node), x)


def _sum_pool(node: NodeContext, x: str) -> str:
    op = _pool(node)
    mean = node.emit(op, x, "mean")
    return node.emit(ir.Affine(float(op.kernel[0] * op.kernel[1])), mean)


def _delay(node: NodeContext, x: str) -> str:
    if np.any(np.asarray(node.field("delay"))):
        raise Unsupported("delays its input", "leave it out; delays have no translation")
    return x


RULES: dict[str, NodeRule] = {
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
