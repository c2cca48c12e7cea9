"""Weighted sums of integers, exact, in the cheapest arithmetic that this machine does exactly.

Integers below 2**24 in magnitude are exact in float32, those below 2**53 in float64; sums and products that stay below are
exact in any order. Spikes and small payloads fit bytes, and processors multiply bytes four at a time into 32-bit sums.
Kernels that do not add integers exactly (Winograd transforms, reduced precision) are found by trying them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.stages import UNITY

__all__ = ["EXACT32", "FastSums", "fits_float32", "float32_is_exact", "linear_part"]

EXACT32 = 1 << 24
SCALE = 64
"""Lava's currents and voltages are 64 times the sums of weights."""
BYTE_WEIGHT, BYTE_PAYLOAD = 127, 128
"""Without VNNI, processors add pairs of byte products in 16 bits: 2 * 127 * 128 < 2**15."""


def linear_part(layer: LayerStage, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer's convolution or matrix product of payloads (N, ...) with given weights."""
    if layer.kind == "dense":
        return functional.linear(x.flatten(1), weight, bias)
    return functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def fits_float32(layer: LayerStage, peak: int) -> bool:
    """Whether a layer may be tried in float32 for payloads up to `peak`.

    All partial sums and the bias must stay below 2**24 (in units of 64), the current must have no memory, and
    the voltage must keep nothing or a power-of-two share of itself, so that its decay is an exact product.
    """
    positive, negative = layer.fan_sums
    bias, keep = int(np.abs(layer.bias).max()), UNITY - layer.v_decay
    bounded = int((positive + negative).max()) * peak + bias < EXACT32 and bias < 1 << 15
    return bounded and layer.i_decay == UNITY and keep & (keep - 1) == 0 and keep < UNITY


def float32_is_exact() -> bool:
    """Whether this machine's convolutions and matrix products add integers exactly, as torch is set up now.

    They do not where torch is told to compute in bfloat16 or TF32, or where a kernel transforms its input (Winograd).
    Which kernel runs depends on the sizes, so a trial alone proves too little: a setting that permits fewer bits
    counts as inexact, and what no setting tells (such as oneDNN's own environment variables) is tried on sums as
    large as the network's in every kind of kernel.
    """
    return _permitted_bits() <= {"highest", "ieee", "none"} and _trials_are_exact(
        torch.backends.mkldnn.enabled
    )


def _permitted_bits() -> set[str]:
    """What torch may compute float32 products in; newer versions have a setting for each library and operation."""
    found = set()
    with suppress(
        RuntimeError
    ):  # torch does not answer where the common setting and those of operations differ
        found.add(torch.get_float32_matmul_precision())
    onednn = torch.backends.mkldnn
    for part in (onednn, getattr(onednn, "matmul", None), getattr(onednn, "conv", None)):
        found.add(getattr(part, "fp32_precision", "none"))
    return found


_Trial = tuple[Callable[..., Tensor], Tensor, Tensor]
"""A kernel with payloads and weights."""


@cache
def _trials_are_exact(onednn: bool) -> bool:
    weight, x = _trial(1023, 14)
    flat, rows = weight.reshape(16, -1), x.reshape(-1)[: 4 * 64 * 9].reshape(4, -1)
    dense: list[tuple[Callable[..., Tensor], Tensor, Tensor]] = [
        (functional.linear, rows[:1], flat),
        (functional.linear, rows.repeat(16, 1), flat),
    ]
    images = [x, x.repeat(1, 1, 3, 3), x.repeat(2, 1, 3, 3).contiguous(memory_format=torch.channels_last)]
    padded = partial(functional.conv2d, padding=1)
    kernels: list[_Trial] = [(padded, image, weight) for image in images]
    kernels += [(functional.conv2d, image, weight[:, :, :1, :1].contiguous()) for image in images]
    return all(
        torch.equal(kernel(a.float(), b.float()).double(), kernel(a, b))
        for kernel, a, b in (*dense, *kernels)
    )


def _trial(most: int, peak: int) -> tuple[Tensor, Tensor]:
    """Weights (16, 64, 3, 3) of up to 64 * `most` and payloads (1, 64, 6, 6) below `peak`, both float64."""
    pattern = torch.arange(16 * 64 * 9, dtype=torch.float64)
    weight = (pattern * 389 % (2 * most + 1) - most).reshape(16, 64, 3, 3) * SCALE
    return weight, (pattern[: 64 * 6 * 6] * 11 % peak).reshape(1, 64, 6, 6)


class FastSums:
    """64 (sum of weights x payloads + bias) of a layer whose sums fit float32.

    Attributes:
        layer: What to compute.
        weight: Weights times 64, float32.
        bias: Biases times 64, float32, (O,).
    """

    def __init__(self, layer: LayerStage, weight: Tensor, bias: Tensor) -> None:
        self.layer, self.weight, self.bias = layer, weight, bias
        self._pools = _adds_windows(layer)
        self._bytes: tuple[Tensor, Tensor, Tensor] | None = None
        small = int(np.abs(layer.weight).max()) <= BYTE_WEIGHT
        if layer.kind == "conv" and small and bytes_are_exact():
            self._bytes = _packed(layer)

    def __call__(self, x: Tensor, peak: int) -> Tensor:
        """Sums (N, ...) of payloads (N, ...) in float32 whose magnitude is at most `peak`."""
        layer = self.layer
        if self._pools:
            window = layer.weight.shape[2:]
            sums = functional.avg_pool2d(x, window, layer.stride, layer.padding, divisor_override=1)
            return sums.mul_(int(layer.weight.max()) * SCALE)
        if self._bytes is not None and peak <= BYTE_PAYLOAD and float(x.permute(0, 2, 3, 1).amin()) >= 0:
            return _byte_sums(layer, x, self._bytes, self.bias)
        return linear_part(layer, x, self.weight, self.bias)


def _adds_windows(layer: LayerStage) -> bool:
    """Whether the layer adds the payloads of each channel in a window, as OR pools do."""
    if layer.kind != "pool" or layer.dilation != (1, 1) or layer.bias.any():
        return False
    channels, depth, *window = layer.weight.shape
    own = layer.weight[np.arange(channels), np.arange(channels) % depth]
    alike = channels == layer.in_shape[0] and np.count_nonzero(layer.weight) == own.size
    padded = any(2 * p > k for p, k in zip(layer.padding, window, strict=True))
    return alike and bool((own == own.flat[0]).all()) and not padded


# -- bytes --------------------------------------------------------------------------------------------------


def _packed(layer: LayerStage) -> tuple[Tensor, Tensor, Tensor]:
    """Weights in the form of the byte kernel, and the factor and the zero point of each channel."""
    channels = layer.weight.shape[0]
    scale, zero = torch.full((channels,), float(SCALE)), torch.zeros(channels, dtype=torch.int32)
    weight = torch.as_tensor(layer.weight, dtype=torch.int8)
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    packed = torch.ops.onednn.qconv_prepack(weight, scale, 1.0, 0, *geometry, None)
    return packed, scale, zero


def _byte_sums(layer: LayerStage, x: Tensor, packed: tuple[Tensor, Tensor, Tensor], bias: Tensor) -> Tensor:
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    sums: Tensor = torch.ops.onednn.qconv2d_pointwise(
        x.to(torch.uint8), 1.0, 0, *packed, bias, *geometry, 1.0, 0, torch.float32, "none", [], ""
    )
    return sums


@cache
def bytes_are_exact() -> bool:
    """Whether PyTorch has a byte convolution here that gives sums in float32, tried on the largest weights and payloads."""
    weight, x = _trial(BYTE_WEIGHT, BYTE_PAYLOAD + 1)
    small = (weight / SCALE).long().numpy()
    layer = LayerStage("trial", "conv", (64, 6, 6), small, np.arange(16) * 1000, np.asarray(1))
    bias = torch.as_tensor(SCALE * layer.bias, dtype=torch.float32)
    try:
        sums = _byte_sums(layer, x.float(), _packed(layer), bias)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.equal(sums.double(), functional.conv2d(x, weight, bias.double()))
