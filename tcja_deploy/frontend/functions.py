"""Rules for functions and tensor methods: ``(tracer, label, tensor, arguments) -> tensor``.

Axes are translated from what the code sees to the axes of the IR value (see ``tracer``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import GraphError
from tcja_deploy.frontend.tracer import SAMPLES, ModuleTracer, Offence, ShapeOffence, Traced
from tcja_deploy.ir import Dim
from tcja_deploy.ir import ops as ir

__all__ = ["FUNCTIONS", "array", "pair", "pool1d", "reshape", "same_or_pair"]


# -- arguments ----------------------------------------------------------------------------------------------------
def array(tensor: Any) -> NDArray[np.float32] | None:
    """Weights as float32.

    Raises:
        Offence: If they are not known before the network runs.
    """
    if tensor is None:
        return None
    if not isinstance(tensor, torch.Tensor):
        raise Offence("has weights that depend on the input")
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """One number for both axes, or two."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def same_or_pair(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Padding (before, after) of each axis, from a number, numbers, ``"same"`` or ``"valid"``."""
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


def _axis(x: Traced, axis: int, T: int) -> int:
    """The IR axis of an axis that the code sees."""
    rank = len(x.shape(T))
    if not -rank <= axis < rank:
        raise ShapeOffence(f"there is no axis {axis} in a tensor of {rank} axes")
    axis %= rank
    if x.view == "window":
        return axis
    if axis == 0:
        raise Offence(
            "works on the batch axis, where samples and time steps lie", "keep samples and time steps apart"
        )
    return axis + 1


def _axes(x: Traced, dim: Any, T: int) -> tuple[int, ...]:
    if dim is None:
        raise Offence("reduces over all axes, samples included", "name the axes")
    return tuple(_axis(x, d, T) for d in ([dim] if isinstance(dim, int) else dim))


# -- layout ---------------------------------------------------------------------------------------------------------
def reshape(tr: ModuleTracer, label: str, x: Traced, target: Iterable[int]) -> Traced:
    """The same elements under another shape, as the code sees it; finds out which axes are T and N."""
    shape = list(target)
    total = math.prod(x.shape(tr.T))
    if -1 in shape:
        shape[shape.index(-1)] = total // max(1, -math.prod(shape))
    if math.prod(shape) != total:
        raise ShapeOffence(f"cannot view {x.shape(tr.T)} as {tuple(shape)}")
    views: list[tuple[Any, list[Any]]] = [("window", shape)]
    if shape and shape[0] == tr.T * SAMPLES:
        views.insert(0, ("batch", [tr.T, SAMPLES, *shape[1:]]))
    if x.view == "frame":
        views = [("frame", [tr.T, *shape])]
    for view, lengths in views:
        dims = _named_dims(tr, x, lengths, fixed=2 if view != "window" else 0)
        if dims == x.signal.dims:
            return replace(x, view=view)
        if dims is not None:
            named = tuple(i for i, d in enumerate(x.signal.dims) if isinstance(d, str))
            return tr.emit(label, ir.Reshape(dims, named), x, view=view)
    raise ShapeOffence(
        f"the view of {x.shape(tr.T)} as {tuple(shape)} mixes samples or time steps with features"
    )


def _named_dims(tr: ModuleTracer, x: Traced, lengths: list[int], fixed: int) -> tuple[Dim, ...] | None:
    """``lengths`` with T and N marked such that every element keeps its sample and time step."""
    names = [d for d in x.signal.dims if isinstance(d, str)]
    size = {"T": tr.T, "N": SAMPLES}
    places = [[i for i, n in enumerate(lengths) if n == size[name]] for name in names]
    for choice in product(*places):
        if list(choice) != sorted(set(choice)) or (fixed and list(choice[:fixed]) != list(range(fixed))):
            continue
        dims: list[Dim] = list(lengths)
        for name, i in zip(names, choice, strict=True):
            dims[i] = name
        named = tuple(i for i, d in enumerate(x.signal.dims) if isinstance(d, str))
        try:
            ir.Reshape(tuple(dims), named).infer(x.signal, T=tr.T)
        except GraphError:
            continue
        return tuple(dims)
    return None


def _view(tr: ModuleTracer, label: str, x: Traced, *shape: Any) -> Traced:
    target = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    return reshape(tr, label, x, target)


def _flatten(tr: ModuleTracer, label: str, x: Traced, start_dim: int = 0, end_dim: int = -1) -> Traced:
    shape = x.shape(tr.T)
    start, end = start_dim % len(shape), end_dim % len(shape)
    if (
        (x.view != "window"
        and start == 1
        and end == len(shape) - 1)
        or (x.view == "window"
        and start == 2
        and x.signal.streams)
    ):
        if end == len(shape) - 1 and len(x.signal.dims) > 3:
            return tr.emit(label, ir.Flatten(), x)
    return reshape(tr, label, x, [*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]])


def _unflatten(tr: ModuleTracer, label: str, x: Traced, dim: int, sizes: Sequence[int]) -> Traced:
    shape = x.shape(tr.T)
    dim %= len(shape)
    return reshape(tr, label, x, [*shape[:dim], *sizes, *shape[dim + 1 :]])


def _unsqueeze(tr: ModuleTracer, label: str, x: Traced, dim: int) -> Traced:
    shape = list(x.shape(tr.T))
    shape.insert(dim % (len(shape) + 1), 1)
    return reshape(tr, label, x, shape)


def _squeeze(tr: ModuleTracer, label: str, x: Traced, dim: Any = None) -> Traced:
    shape = x.shape(tr.T)
    drop = (
        range(len(shape))
        if dim is None
        else [d % len(shape) for d in ([dim] if isinstance(dim, int) else dim)]
    )
    return reshape(tr, label, x, [n for i, n in enumerate(shape) if i not in drop or n != 1])


def _permute(tr: ModuleTracer, label: str, x: Traced, *order: Any) -> Traced:
    order = tuple(order[0]) if len(order) == 1 and isinstance(order[0], tuple | list) else order
    order = tuple(i % len(order) for i in order)
    tr.note_first_op(label, x, order)
    if x.view != "window":
        if order[0] != 0:
            raise Offence(
                "moves the batch axis, where samples and time steps lie", "keep samples and time steps apart"
            )
        order = (0, *(i + 1 for i in order))
    return x if order == tuple(range(len(order))) else tr.emit(label, ir.Permute(order), x)


def _transpose(tr: ModuleTracer, label: str, x: Traced, dim0: int, dim1: int) -> Traced:
    order = list(range(len(x.shape(tr.T))))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(tr, label, x, order)


def _getitem(tr: ModuleTracer, label: str, x: Traced, index: Any) -> Traced:
    items = list(index) if isinstance(index, tuple) else [index]
    if x.pair and items == [0]:
        return replace(x, pair=False)
    rank = len(x.shape(tr.T))
    if Ellipsis in items:
        i = items.index(Ellipsis)
        items[i : i + 1] = [slice(None)] * (rank - sum(j is not None and j is not Ellipsis for j in items))
    if any(not (i is None or i == slice(None)) for i in items):
        raise Offence(
            "takes out part of a tensor",
            "apply the modules to the whole window in step mode 'm' instead of looping over time",
        )
    shape = list(x.shape(tr.T))
    for position, item in enumerate(items):
        if item is None:
            shape.insert(position, 1)
    return reshape(tr, label, x, shape)


# -- arithmetic -------------------------------------------------------------------------------------------------------
def _number(value: Any) -> float | None:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value.detach())
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _pairwise(
    op: Callable[[], ir.Add | ir.Mul], scalar: Callable[[float], ir.Affine]
) -> Callable[..., Traced]:
    def rule(tr: ModuleTracer, label: str, a: Any, b: Any) -> Traced:
        if isinstance(a, Traced) and isinstance(b, Traced):
            if a.view != b.view:
                raise Offence(f"combines a tensor seen as {a.view} with one seen as {b.view}")
            return tr.emit(label, op(), a, b)
        x, other = (a, b) if isinstance(a, Traced) else (b, a)
        number = _number(other)
        if number is None:
            raise Offence(
                "combines the signal with a constant tensor", "fold the constant into a layer's weights"
            )
        return tr.emit(label, scalar(number), x)

    return rule


_add = _pairwise(ir.Add, lambda c: ir.Affine(1.0, c))
_mul = _pairwise(ir.Mul, lambda c: ir.Affine(c, 0.0))


def _sub(tr: ModuleTracer, label: str, a: Any, b: Any) -> Traced:
    if isinstance(b, Traced):
        return _add(tr, label, a, tr.emit(f"{label}.minus", ir.Affine(-1.0, 0.0), b))
    number = _number(b)
    if number is None:
        raise Offence(
            "combines the signal with a constant tensor", "fold the constant into a layer's weights"
        )
    return tr.emit(label, ir.Affine(1.0, -number), a)


def _div(tr: ModuleTracer, label: str, a: Any, b: Any) -> Traced:
    number = _number(b)
    if number is None or not isinstance(a, Traced):
        raise Offence("divides by a tensor")
    before = tr.builder[a.name].op
    if (
        isinstance(before, ir.Reduce)
        and before.how == "sum"
        and before.axes == (0,)
        and number == tr.T
        and not before.keepdims
    ):
        source = tr.builder[a.name].inputs[0]
        return tr.emit(label, ir.TimeMean(), Traced(source, tr.builder.signal(source), a.view), view=a.view)
    if math.frexp(number)[0] not in (0.5, -0.5):
        raise Offence(
            f"divides by {number}, which rounds unlike a product", "multiply by the reciprocal instead"
        )
    return tr.emit(label, ir.Affine(1.0 / number, 0.0), a)


def _reduce(how: Any) -> Callable[..., Traced]:
    def rule(
        tr: ModuleTracer, label: str, x: Traced, dim: Any = None, keepdim: bool = False, **_: Any
    ) -> Traced:
        axes = _axes(x, dim, tr.T)
        if how == "mean" and axes == (0,) and not keepdim and x.signal.streams:
            return tr.emit(label, ir.TimeMean(), x)
        return tr.emit(label, ir.Reduce(how, axes, keepdim), x)

    return rule


def _max(tr: ModuleTracer, label: str, x: Traced, dim: Any = None, keepdim: bool = False) -> Traced:
    return replace(_reduce("max")(tr, label, x, dim, keepdim), pair=True)


def _cat(tr: ModuleTracer, label: str, tensors: Sequence[Traced], dim: int = 0) -> Traced:
    if len({t.view for t in tensors}) != 1:
        raise Offence("puts tensors side by side that are seen in different ways")
    return tr.emit(label, ir.Concat(_axis(tensors[0], dim, tr.T)), *tensors)


def _same(tr: ModuleTracer, label: str, x: Traced, *_: Any, **__: Any) -> Traced:
    return x


def _dropout(
    tr: ModuleTracer, label: str, x: Traced, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Traced:
    if training:
        raise Offence("drops out at inference as well", "pass training=self.training and call model.eval()")
    return x


# -- layers as functions -----------------------------------------------------------------------------------------------
def _conv2d(
    tr: ModuleTracer, label: str, x: Traced, weight: Any, bias: Any = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Traced:  # fmt: skip
    w = array(weight)
    if w is None or len(x.shape(tr.T)) != 4:
        raise ShapeOffence(
            f"a 2-D convolution gets {len(x.shape(tr.T))} axes",
            "wrap it in SeqToANNContainer or use layer.Conv2d in step mode 'm'",
        )
    (top, bottom), (left, right) = same_or_pair(padding, w.shape[2:], pair(dilation))
    op = ir.Conv2d(w, array(bias), pair(stride), (top, left, bottom, right), pair(dilation), groups)
    return tr.emit(label, op, x)


def _conv1d(
    tr: ModuleTracer, label: str, x: Traced, weight: Any, bias: Any = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Traced:  # fmt: skip
    w = array(weight)
    if w is None or len(x.shape(tr.T)) != 3:
        raise ShapeOffence(f"a 1-D convolution gets {len(x.shape(tr.T))} axes, it needs [N, C, L]")
    (padded,) = same_or_pair(padding, w.shape[2:], [pair(dilation)[0]])
    return tr.emit(label, ir.Conv1d(w, array(bias), pair(stride)[0], padded, pair(dilation)[0], groups), x)


def _linear(tr: ModuleTracer, label: str, x: Traced, weight: Any, bias: Any = None) -> Traced:
    w = array(weight)
    if w is None:
        raise Offence("has no weight")
    return tr.emit(label, ir.Linear(w, array(bias)), x)


def pool1d(tr: ModuleTracer, label: str, x: Traced, kernel: int, stride: int, padding: int) -> Traced:
    """Average pooling along the last axis without overlap: a vote.

    Raises:
        Offence: If the windows overlap or are padded.
    """
    if stride != kernel or padding:
        raise Offence(
            "averages over overlapping or padded windows of neurons",
            "use kernel_size == stride and no padding",
        )
    return tr.emit(label, ir.Vote(kernel), x)


def _avg_pool1d(
    tr: ModuleTracer, label: str, x: Traced, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any
) -> Traced:
    kernel = pair(kernel_size)[0]
    return pool1d(tr, label, x, kernel, kernel if stride is None else pair(stride)[0], pair(padding)[0])


def _max_pool2d(
    tr: ModuleTracer, label: str, x: Traced, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Traced:  # fmt: skip
    if pair(dilation) != (1, 1) or ceil_mode or return_indices:
        raise Offence("pools with dilation, ceil_mode or indices", "use plain max pooling")
    return tr.emit(
        label,
        ir.MaxPool2d(pair(kernel_size), pair(kernel_size if stride is None else stride), pair(padding)),
        x,
    )


def _avg_pool2d(
    tr: ModuleTracer, label: str, x: Traced, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: Any = None,
) -> Traced:  # fmt: skip
    if ceil_mode or divisor_override is not None:
        raise Offence("pools with ceil_mode or another divisor", "use plain average pooling")
    op = ir.AvgPool2d(
        pair(kernel_size), pair(kernel_size if stride is None else stride), pair(padding), count_include_pad
    )
    return tr.emit(label, op, x)


def _adaptive_avg_pool2d(tr: ModuleTracer, label: str, x: Traced, output_size: Any) -> Traced:
    if output_size is None or (not isinstance(output_size, int) and None in output_size):
        raise Offence("pools to a size that depends on the input", "give both sizes")
    return tr.emit(label, ir.AdaptiveAvgPool2d(pair(output_size)), x)


FUNCTIONS: dict[str, Callable[..., Traced]] = {
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "add": _add,
    "amax": _reduce("max"),
    "avg_pool1d": _avg_pool1d,
    "avg_pool2d": _avg_pool2d,
    "cat": _cat,
    "clone": _same,
    "concat": _cat,
    "contiguous": _same,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "detach": _same,
    "div": _div,
    "dropout": _dropout,
    "flatten": _flatten,
    "float": _same,
    "getitem": _getitem,
    "iadd": _add,
    "imul": _mul,
    "linear": _linear,
    "max": _max,
    "max_pool2d": _max_pool2d,
    "mean": _reduce("mean"),
    "mul": _mul,
    "multiply": _mul,
    "permute": _permute,
    "relu": lambda tr, label, x, inplace=False: tr.emit(label, ir.ReLU(), x),
    "reshape": _view,
    "sigmoid": lambda tr, label, x: tr.emit(label, ir.Sigmoid(), x),
    "squeeze": _squeeze,
    "sub": _sub,
    "sum": _reduce("sum"),
    "swapaxes": _transpose,
    "transpose": _transpose,
    "truediv": _div,
    "unflatten": _unflatten,
    "unsqueeze": _unsqueeze,
    "view": _view,
}
"""Rules by name of the function, operator or tensor method (leading and trailing underscores off)."""
