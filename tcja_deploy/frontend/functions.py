"""Rules for layers called as functions, and the table of all functions and tensor methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tcja_deploy.frontend.arithmetic import ARITHMETIC
from tcja_deploy.frontend.constants import array, by_channel, weights
from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.copies import COPIES
from tcja_deploy.frontend.layout import LAYOUT, axis, reshape
from tcja_deploy.frontend.parts import PARTS
from tcja_deploy.frontend.traced import Traced
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["COMPARISONS", "FUNCTIONS", "HINTS", "pair"]


# -- arguments ----------------------------------------------------------------------------------------------------
def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """One number for both axes, or two."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _before_after(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Padding (before, after) of each axis, from a number, numbers, `"same"` or `"valid"`."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        return [
            ((d * (k - 1)) // 2, d * (k - 1) - (d * (k - 1)) // 2)
            for k, d in zip(kernel, dilation, strict=True)
        ]
    numbers = [padding] * len(kernel) if isinstance(padding, int) else list(padding)
    numbers = numbers * len(kernel) if len(numbers) == 1 else numbers
    return [(int(p), int(p)) for p in numbers]


def _batched(tr: RuleContext, x: Traced, rank: int, what: str) -> None:
    """Check that code gives a layer `[N, C, ...]`: PyTorch does something else with one axis fewer, and fails with more."""
    seen = len(x.shape(tr.T))
    if seen != rank:
        raise UnsupportedInContext(
            f"{what} gets {seen} axes instead of {rank}",
            "fold time into the batch before it: x.flatten(0, 1), or SpikingJelly's layer in step mode 'm'"
            if x.view == "window" and seen == rank + 1
            else f"give it {rank} axes",
        )


# -- convolutions and linear layers -----------------------------------------------------------------------------------
def _conv2d(
    tr: RuleContext, label: str, x: Traced, weight: Any, bias: Any = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Traced:  # fmt: skip
    _batched(tr, x, 4, "a 2-D convolution")
    w = weights(weight)
    (top, bottom), (left, right) = _before_after(padding, w.shape[2:], pair(dilation))
    op = ir.Conv2d(w, array(bias), pair(stride), (top, left, bottom, right), pair(dilation), groups)
    return tr.emit(label, op, x)


def _conv_transpose2d(
    tr: RuleContext, label: str, x: Traced, weight: Any, bias: Any = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Traced:  # fmt: skip
    _batched(tr, x, 4, "a transposed convolution")
    op = ir.ConvTranspose2d(
        weights(weight),
        array(bias),
        pair(stride),
        pair(padding),
        pair(output_padding),
        pair(dilation),
        groups,
    )
    return tr.emit(label, op, x)


def _conv1d(
    tr: RuleContext, label: str, x: Traced, weight: Any, bias: Any = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Traced:  # fmt: skip
    _batched(tr, x, 3, "a 1-D convolution")
    w = weights(weight)
    (padded,) = _before_after(padding, w.shape[2:], [pair(dilation)[0]])
    return tr.emit(label, ir.Conv1d(w, array(bias), pair(stride)[0], padded, pair(dilation)[0], groups), x)


def _conv3d(
    tr: RuleContext, label: str, x: Traced, weight: Any, bias: Any = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Traced:  # fmt: skip
    """A kernel of 1 x 1 x 1 mixes channels alone: a 1-D convolution over all positions in one axis."""
    _batched(tr, x, 5, "a 3-D convolution")
    w = weights(weight)
    at_once = [pair(v) == (c, c) for v, c in ((stride, 1), (padding, 0), (dilation, 1))]
    if w.shape[2:] != (1, 1, 1) or not all(at_once):
        raise Unsupported("convolves over three axes", "only kernels of 1 x 1 x 1 are supported")
    n, c, *space = x.shape(tr.T)
    flat = reshape(tr, f"{label}.flat", x, [n, c, int(np.prod(space))])
    y = tr.emit(label, ir.Conv1d(w[..., 0, 0], array(bias), groups=groups), flat)
    return reshape(tr, f"{label}.space", y, [n, len(w), *space])


def _linear(tr: RuleContext, label: str, x: Traced, weight: Any, bias: Any = None) -> Traced:
    return tr.emit(label, ir.Linear(weights(weight), array(bias)), x)


def _batch_norm(
    tr: RuleContext, label: str, x: Traced, mean: Any, var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Traced:  # fmt: skip
    """Normalisation of `[N, C]` or `[N, C, ...]`."""
    if training or mean is None:
        raise Unsupported(
            "normalises with the statistics of the running batch", "use track_running_stats=True"
        )
    stats = weights(mean), weights(var)
    scale = np.ones_like(stats[0]) if weight is None else weights(weight)
    shift = np.zeros_like(stats[0]) if bias is None else weights(bias)
    seen = len(x.shape(tr.T))
    if not 2 <= seen <= 5:
        raise UnsupportedInContext(f"batch normalisation gets {seen} axes", "give it [N, C] or [N, C, ...]")
    return by_channel(tr, label, x, axis(x, 1, tr.T), (scale, shift, *stats), float(eps))


# -- pooling ---------------------------------------------------------------------------------------------------------
def _avg_pool1d(
    tr: RuleContext, label: str, x: Traced, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True,
) -> Traced:  # fmt: skip
    """Average pooling along the last axis; without overlap it is a vote."""
    kernel, before = pair(kernel_size)[0], pair(padding)[0]
    step = pair(stride)[0] if stride else kernel
    if ceil_mode and (x.shape(tr.T)[-1] + 2 * before - kernel) % step:
        raise Unsupported("averages over an incomplete last window", "use ceil_mode=False")
    if step == kernel and not before:
        return tr.emit(label, ir.Vote(kernel), x)
    return _as_row(tr, label, x, ir.AvgPool2d((1, kernel), (1, step), (0, before), count_include_pad))


def _max_pool1d(
    tr: RuleContext, label: str, x: Traced, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Traced:  # fmt: skip
    kernel, before = pair(kernel_size)[0], pair(padding)[0]
    step = pair(stride)[0] if stride else kernel
    incomplete = ceil_mode and (x.shape(tr.T)[-1] + 2 * before - kernel) % step
    if pair(dilation)[0] != 1 or incomplete or return_indices:
        raise Unsupported("pools with dilation, incomplete windows or indices", "use plain max pooling")
    return _as_row(tr, label, x, ir.MaxPool2d((1, kernel), (1, step), (0, before)))


def _as_row(tr: RuleContext, label: str, x: Traced, op: ir.AvgPool2d | ir.MaxPool2d) -> Traced:
    """1-D pooling of `[N, C, L]` as 2-D pooling of `[N, C, 1, L]`."""
    _batched(tr, x, 3, "1-D pooling")
    *lead, length = x.shape(tr.T)
    flat = x.view == "window" and len(x.signal.dims) == 3  # [T, N, L]: the samples are the channels here
    y = tr.emit(label, op, reshape(tr, f"{label}.row", x, [*lead, *(1,) * (1 + flat), length]))
    return reshape(tr, f"{label}.line", y, [*lead, y.shape(tr.T)[-1]])


def _interpolate(
    tr: RuleContext, label: str, x: Traced, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: Any = None, recompute_scale_factor: Any = None, antialias: bool = False,
) -> Traced:  # fmt: skip
    """Enlargement by whole factors: every element several times, side by side."""
    space = x.shape(tr.T)[2:]
    given = size if size is not None else scale_factor
    wanted = [*given] if isinstance(given, tuple | list) else [given] * len(space)
    factors = [w / n if size is not None else float(w) for w, n in zip(wanted, space, strict=True)]
    if mode not in ("nearest", "nearest-exact") or any(f < 1 or f != int(f) for f in factors):
        raise Unsupported(
            f"interpolates by {mode!r} with factors {factors}", "use mode='nearest' and whole factors"
        )
    for i, factor in enumerate(factors):
        if factor > 1:
            shape = list(x.shape(tr.T))
            place = i + 3
            y = reshape(tr, f"{label}.part", x, [*shape[:place], 1, *shape[place:]])
            y = tr.emit(label, ir.Concat(axis(y, place, tr.T)), *[y] * int(factor))
            x = reshape(
                tr, f"{label}.whole", y, [*shape[: place - 1], shape[place - 1] * int(factor), *shape[place:]]
            )
    return x


def _incomplete_windows(
    tr: RuleContext, x: Traced, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> bool:
    """Whether `ceil_mode` makes a difference: the last window of an axis would reach beyond its end."""
    lengths = x.shape(tr.T)[-2:]
    return any((n + 2 * p - k) % s for n, k, s, p in zip(lengths, kernel, stride, padding, strict=True))


def _max_pool2d(
    tr: RuleContext, label: str, x: Traced, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Traced:  # fmt: skip
    _batched(tr, x, 4, "max pooling")
    step = pair(kernel_size) if not stride else pair(stride)
    incomplete = ceil_mode and _incomplete_windows(tr, x, pair(kernel_size), step, pair(padding))
    if pair(dilation) != (1, 1) or incomplete or return_indices:
        raise Unsupported("pools with dilation, incomplete windows or indices", "use plain max pooling")
    return tr.emit(label, ir.MaxPool2d(pair(kernel_size), step, pair(padding)), x)


def _avg_pool2d(
    tr: RuleContext, label: str, x: Traced, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: Any = None,
) -> Traced:  # fmt: skip
    _batched(tr, x, 4, "average pooling")
    step = pair(kernel_size) if not stride else pair(stride)
    incomplete = ceil_mode and _incomplete_windows(tr, x, pair(kernel_size), step, pair(padding))
    if incomplete or divisor_override is not None:
        raise Unsupported("pools with incomplete windows or another divisor", "use plain average pooling")
    return tr.emit(label, ir.AvgPool2d(pair(kernel_size), step, pair(padding), count_include_pad), x)


def _adaptive(how: str, spatial: int) -> Callable[..., Traced]:
    """Pooling of the last `spatial` axes to one number; of two axes also to other sizes, by means."""

    def rule(
        tr: RuleContext, label: str, x: Traced, output_size: Any, return_indices: bool = False
    ) -> Traced:
        _batched(tr, x, spatial + 2, f"{spatial}-D adaptive pooling")
        sizes = [output_size] * spatial if isinstance(output_size, int) else [*output_size]
        if return_indices or None in sizes:
            raise Unsupported("pools to a size that depends on the input, or with indices", "give all sizes")
        if how == "mean" and spatial == 2:
            return tr.emit(label, ir.AdaptiveAvgPool2d(pair(sizes)), x)
        if any(n != 1 for n in sizes):
            raise Unsupported(f"pools to {sizes}", "adaptive pooling to 1 is supported, or AdaptiveAvgPool2d")
        over = tuple(axis(x, -i, tr.T) for i in range(spatial, 0, -1))
        return tr.emit(label, ir.Reduce("max" if how == "max" else "mean", over, True), x)

    return rule


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **LAYOUT,
    **PARTS,
    **COPIES,
    **ARITHMETIC,
    "adaptive_avg_pool1d": _adaptive("mean", 1),
    "adaptive_avg_pool2d": _adaptive("mean", 2),
    "adaptive_avg_pool3d": _adaptive("mean", 3),
    "adaptive_max_pool1d": _adaptive("max", 1),
    "adaptive_max_pool2d": _adaptive("max", 2),
    "adaptive_max_pool3d": _adaptive("max", 3),
    "avg_pool1d": _avg_pool1d,
    "avg_pool2d": _avg_pool2d,
    "batch_norm": _batch_norm,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "conv3d": _conv3d,
    "conv_transpose2d": _conv_transpose2d,
    "interpolate": _interpolate,
    "linear": _linear,
    "max_pool1d": _max_pool1d,
    "upsample": _interpolate,
    "max_pool2d": _max_pool2d,
}
"""Rules by name of the function, operator or tensor method, underscores around it left out."""

_RANDOM = "a deployed network must not draw random numbers: feed encoded frames instead"
COMPARISONS = frozenset(("eq", "ge", "gt", "heaviside", "le", "lt", "ne", "sign", "where"))
"""Functions that ask which of two numbers is larger."""

_SOFTMAX = "leave it out where it is the last layer: it does not change which output is largest"
HINTS: dict[str, str] = {
    **dict.fromkeys(("gather", "index_select"), "take slices, and put them together with cat"),
    **dict.fromkeys(("baddbmm", "einsum"), "write it as transpose and matmul"),
    **dict.fromkeys(("bernoulli", "rand_like", "randn_like", "poisson"), _RANDOM),
    **dict.fromkeys(("argmax", "log_softmax", "softmax"), _SOFTMAX),
    "pad": "use the padding of the convolution or pooling after it",
    "setitem": "build the tensor with cat or stack instead of writing into it",
}
"""What to do about functions without a rule."""
