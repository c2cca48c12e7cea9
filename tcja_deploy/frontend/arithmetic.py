"""Rules for functions, operators and tensor methods that calculate element by element or over axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from tcja_deploy.frontend.constants import combined, number, weights
from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.layout import LAYOUT, axes, name_time
from tcja_deploy.frontend.traced import SAMPLES, Traced
from tcja_deploy.ir import Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["ARITHMETIC"]


def _number(value: Any, x: Traced, T: int) -> float:
    """The same number for all elements of a signal.

    Raises:
        Unsupported: If it differs among elements.
    """
    one = number(value, x, T)
    if one is None:
        raise Unsupported("clamps each channel to its own limits", "use the same limits for all")
    return one


def _pairwise(op: type[ir.Add] | type[ir.Mul], scalar: Callable[[float], ir.Affine]) -> Callable[..., Traced]:
    def rule(tr: RuleContext, label: str, a: Any, b: Any) -> Traced:
        if isinstance(a, Traced) and isinstance(b, Traced):
            if a.view != b.view or (a.view == "batch" and a.lead != b.lead):
                raise UnsupportedInContext(
                    f"combines a tensor seen as {a.view} with one seen as {b.view}",
                    "give both the same leading axes",
                )
            a, b = _same_time(tr, label, a, b)
            if a.signal.dims[:2] == b.signal.dims[:2] == ("N", "T") and len(a.signal.dims) == len(
                b.signal.dims
            ):
                return _swap(tr, label, tr.emit(label, op(), _swap(tr, label, a), _swap(tr, label, b)))
            return tr.emit(label, op(), a, b)
        x, other = (a, b) if isinstance(a, Traced) else (b, a)
        one = number(other, x, tr.T)
        if one is None:
            return combined(tr, label, x, other, op is ir.Mul)
        affine = scalar(one)
        return x if (affine.scale, affine.offset) == (1, 0) else tr.emit(label, affine, x)

    return rule


def _swap(tr: RuleContext, label: str, x: Traced) -> Traced:
    """The first two axes exchanged. Batch-first code is translated time-first, as a stream, where that is the same."""
    order = (1, 0, *range(2, len(x.signal.dims)))
    return tr.emit(f"{label}.swap", ir.Permute(order), x)


def _same_time(tr: RuleContext, label: str, a: Traced, b: Traced) -> tuple[Traced, Traced]:
    """Two values; if weights that mix the steps of one left its time axis unnamed, the axis is named again."""
    from_end = [len(v.signal.dims) - v.signal.dims.index("T") if "T" in v.signal.dims else 0 for v in (a, b)]
    if from_end[0] and not from_end[1]:
        b = name_time(tr, label, b, len(b.signal.dims) - from_end[0])
    elif from_end[1] and not from_end[0]:
        a = name_time(tr, label, a, len(a.signal.dims) - from_end[1])
    return a, b


_add = _pairwise(ir.Add, lambda c: ir.Affine(1.0, c))
_mul = _pairwise(ir.Mul, lambda c: ir.Affine(c, 0.0))


def _neg(tr: RuleContext, label: str, x: Traced) -> Traced:
    return tr.emit(label, ir.Affine(-1.0, 0.0), x)


def _sub(tr: RuleContext, label: str, a: Any, b: Any) -> Traced:
    if isinstance(a, Traced) and isinstance(b, Traced):
        return _add(tr, label, a, _neg(tr, f"{label}.minus", b))
    if isinstance(b, Traced):
        if (one := number(a, b, tr.T)) is None:
            return combined(tr, label, _neg(tr, f"{label}.minus", b), a, False)
        return tr.emit(label, ir.Affine(-1.0, one), b)
    return _add(tr, label, a, -b)


def _div(tr: RuleContext, label: str, a: Any, b: Any) -> Traced:
    if isinstance(b, Traced):
        raise Unsupported("divides by a signal")
    divisor = number(b, a, tr.T)
    if divisor is None:
        return _divided(tr, label, a, b.detach())
    before = tr.builder[a.name]
    if isinstance(before.op, ir.Reduce) and before.op.how == "sum":
        source = Traced(before.inputs[0], tr.builder.signal(before.inputs[0]), a.view, a.lead)
        lengths = source.signal.shape(tr.T, 0)
        if divisor == math.prod(lengths[i] for i in before.op.axes):
            return _mean(tr, label, source, before.op.axes, before.op.keepdims)
    if not divisor:
        raise Unsupported("divides by zero")
    if math.frexp(divisor)[0] not in (0.5, -0.5) and a.signal.kind is not Kind.BINARY:
        tr.notes.append(
            f"{label}: x / {divisor:g} is computed as x * (1 / {divisor:g}), equal up to the last digit"
        )
    return tr.emit(label, ir.Affine(1.0 / divisor, 0.0), a)


def _divided(tr: RuleContext, label: str, x: Traced, divisors: torch.Tensor) -> Traced:
    """Division by constants that differ by channel, feature or time step."""
    if not bool(divisors.all()):
        raise Unsupported("divides by zero")
    tr.notes.append(f"{label}: a division by constants is computed as a product, equal up to the last digit")
    return combined(tr, label, x, 1.0 / divisors.double(), True)


def _pow(tr: RuleContext, label: str, x: Any, exponent: Any = 2) -> Traced:
    if not isinstance(x, Traced) or exponent != 2:
        raise Unsupported(f"raises to the power {exponent}", "only squares are supported")
    return tr.emit(label, ir.Mul(), x, x)


def _mean(tr: RuleContext, label: str, x: Traced, over: tuple[int, ...], keepdim: bool) -> Traced:
    """Mean over IR axes; over time alone it is the readout op."""
    dims = x.signal.dims
    if len(over) != 1 or dims[over[0]] != "T" or keepdim:
        return tr.emit(label, ir.Reduce("mean", over, keepdim), x)
    if over != (0,):
        order = (over[0], *(i for i in range(len(dims)) if i != over[0]))
        x = tr.emit(f"{label}.time_first", ir.Permute(order), x)
    return tr.emit(label, ir.TimeMean(), x)


def _reduce(how: Any) -> Callable[..., Traced]:
    def rule(
        tr: RuleContext, label: str, x: Traced, dim: Any = None, keepdim: bool = False, dtype: Any = None
    ) -> Traced:
        if dtype not in (None, torch.float32):
            raise Unsupported(f"sums in {dtype}", "deployed networks compute in float32")
        over = axes(x, dim, tr.T)
        if how == "mean":
            return _mean(tr, label, x, over, keepdim)
        return tr.emit(label, ir.Reduce(how, over, keepdim), x)

    return rule


def _max(tr: RuleContext, label: str, x: Traced, dim: Any = None, keepdim: bool = False) -> Traced:
    if isinstance(dim, Traced):
        raise Unsupported("takes the larger of two signals", "use max pooling, or a sum")
    return replace(_reduce("max")(tr, label, x, dim, keepdim), pair=True)


def _clamp(tr: RuleContext, label: str, x: Traced, min: Any = None, max: Any = None) -> Traced:
    low = -ir.LARGEST if min is None else _number(min, x, tr.T)
    high = ir.LARGEST if max is None else _number(max, x, tr.T)
    if (low, high) == (0, ir.LARGEST):
        return tr.emit(label, ir.ReLU(), x)
    return tr.emit(label, ir.Clamp(low, high), x)


_LARGEST_PRODUCT = 1 << 26
"""Elements of the products of a matrix multiplication, of one sample and time step, up to which it is written out."""


def _matmul(tr: RuleContext, label: str, a: Any, b: Any) -> Traced:
    """Product of two matrices: of all pairs of a row and a column, the sum of the products."""
    if isinstance(a, Traced) and isinstance(b, torch.Tensor) and b.ndim == 2:
        return tr.emit(label, ir.Linear(weights(b.t())), a)
    if isinstance(b, Traced) and isinstance(a, torch.Tensor) and a.ndim == 2:
        turned = LAYOUT["transpose"](tr, f"{label}.turn", b, -1, -2)
        return LAYOUT["transpose"](tr, f"{label}.back", tr.emit(label, ir.Linear(weights(a)), turned), -1, -2)
    if not isinstance(a, Traced) or not isinstance(b, Traced):
        raise Unsupported("multiplies a matrix by a constant of more than two axes", "use a linear layer")
    left, right = a.shape(tr.T), b.shape(tr.T)
    if len(left) != len(right) or len(left) < 3:
        raise UnsupportedInContext(
            f"multiplies matrices of {len(left)} and {len(right)} axes", "give both the same leading axes"
        )
    if math.prod(n for n in left[:-2] if n % SAMPLES) * left[-2] * left[-1] * right[-1] > _LARGEST_PRODUCT:
        raise Unsupported(
            "multiplies matrices of two signals that are too large to write out",
            "use smaller windows of attention",
        )
    rows = LAYOUT["unsqueeze"](tr, f"{label}.rows", a, -2)
    columns = LAYOUT["unsqueeze"](
        tr, f"{label}.columns", LAYOUT["transpose"](tr, f"{label}.turn", b, -1, -2), -3
    )
    products = _mul(tr, f"{label}.products", rows, columns)
    return tr.emit(label, ir.Reduce("sum", (len(products.signal.dims) - 1,), False), products)


def _dropout(tr: RuleContext, label: str, x: Traced, p: float = 0.5, training: bool = True) -> Traced:
    if training and p:
        raise Unsupported("applies dropout at inference as well", "pass training=self.training")
    return x


ARITHMETIC: dict[str, Callable[..., Traced]] = {
    "add": _add,
    "amax": _reduce("max"),
    "bmm": _matmul,
    "clamp": _clamp,
    "clamp_max": lambda tr, label, x, max: _clamp(tr, label, x, None, max),
    "clamp_min": _clamp,
    "clip": _clamp,
    "div": _div,
    "divide": _div,
    "dropout": _dropout,
    "dropout1d": _dropout,
    "dropout2d": _dropout,
    "hardtanh": lambda tr, label, x, min_val=-1.0, max_val=1.0: _clamp(tr, label, x, min_val, max_val),
    "iadd": _add,
    "imul": _mul,
    "isub": _sub,
    "itruediv": _div,
    "matmul": _matmul,
    "max": _max,
    "mean": _reduce("mean"),
    "mul": _mul,
    "multiply": _mul,
    "neg": _neg,
    "negative": _neg,
    "pow": _pow,
    "relu6": lambda tr, label, x: _clamp(tr, label, x, 0.0, 6.0),
    "relu": lambda tr, label, x: tr.emit(label, ir.ReLU(), x),
    "sigmoid": lambda tr, label, x: tr.emit(label, ir.Sigmoid(), x),
    "square": _pow,
    "sub": _sub,
    "subtract": _sub,
    "sum": _reduce("sum"),
    "true_divide": _div,
    "truediv": _div,
}
"""Rules by name: `(tracer, label, tensor, arguments) -> tensor`."""
