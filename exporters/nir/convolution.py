"""Convolutions in the form that NIR's readers accept: one group, a square kernel, the same padding on both sides.

To infer shapes, nir 1.0.8 takes the kernel's height for its width too and expects `weight.shape[1]` input channels
whatever the number of groups; it has no padding that differs between the sides. Zeros in the kernel express all of these:
they add nothing to any sum.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tcja_deploy.ir.op import Array
from tcja_deploy.ir.ops import Conv2d
from tcja_deploy.unsupported import Unsupported

__all__ = ["diagonal", "portable"]


def portable(op: Conv2d) -> tuple[Conv2d, str]:
    """An equivalent convolution that every reader accepts, and what was done to it (empty if nothing was).

    With padding `p` before and `q` after, a kernel of size `k` equals one of size `k + 2 P - p - q` with padding `P` on
    both sides, `P - p` zeros before and `P - q` zeros after.

    Raises:
        Unsupported: If no square kernel is equivalent, because one axis needs an even size and the other an odd one.
    """
    done = []
    if op.groups > 1:
        op = _ungrouped(op)
        done.append(f"{op.weight.shape[1]} channels written as one group")
    front, back = op.padding[:2], op.padding[2:]
    if front == back and op.weight.shape[2] == op.weight.shape[3]:
        return op, "; ".join(done)
    if op.dilation != (1, 1):
        op = _undilated(op)
    fixed = [k - p - q for k, p, q in zip(op.weight.shape[2:], front, back, strict=True)]
    size = max(n + 2 * max(p, q) for n, p, q in zip(fixed, front, back, strict=True))
    if any((size - n) % 2 for n in fixed):
        raise Unsupported(
            f"the kernel {op.weight.shape[2:]} with padding {op.padding} is not equal to any square kernel with "
            "even padding, and readers of NIR accept only those"
        )
    padding = [(size - n) // 2 for n in fixed]
    zeros = [(P - p, P - q) for P, p, q in zip(padding, front, back, strict=True)]
    weight = np.pad(op.weight, ((0, 0), (0, 0), *zeros))
    done.append(f"kernel enlarged to {size} x {size} with zeros")
    return replace(op, weight=weight, padding=(*padding, *padding)), "; ".join(done)


def diagonal(kernels: Array, **settings: Any) -> Conv2d:
    """A convolution that applies a separate kernel to each channel.

    Args:
        kernels: One kernel per channel, `[C, kH, kW]`.
        **settings: Further fields of the convolution.
    """
    c = len(kernels)
    weight = np.zeros((c, *kernels.shape), np.float32)
    weight[np.arange(c), np.arange(c)] = kernels
    return Conv2d(weight, **settings)


def _ungrouped(op: Conv2d) -> Conv2d:
    outputs, inputs = op.weight.shape[0] // op.groups, op.weight.shape[1]
    weight = np.zeros((op.weight.shape[0], inputs * op.groups, *op.weight.shape[2:]), np.float32)
    for g in range(op.groups):
        rows, columns = slice(g * outputs, (g + 1) * outputs), slice(g * inputs, (g + 1) * inputs)
        weight[rows, columns] = op.weight[rows]
    return replace(op, weight=weight, groups=1)


def _undilated(op: Conv2d) -> Conv2d:
    (kh, kw), (dh, dw) = op.weight.shape[2:], op.dilation
    weight = np.zeros((*op.weight.shape[:2], dh * (kh - 1) + 1, dw * (kw - 1) + 1), np.float32)
    weight[:, :, ::dh, ::dw] = op.weight
    return replace(op, weight=weight, dilation=(1, 1))
