"""Generic tensor ops: what attention blocks, residual branches and readouts are made of."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tcja_deploy.ir.op import Array, Frames, Op, State
from tcja_deploy.ir.ops.numeric import float32, sigmoid
from tcja_deploy.ir.signal import Dim, Kind, Signal, broadcast_dims

__all__ = [
    "Add",
    "Affine",
    "Concat",
    "Flatten",
    "Input",
    "Mul",
    "Permute",
    "ReLU",
    "Reduce",
    "Reshape",
    "Sigmoid",
    "TimeMean",
    "Vote",
]


@dataclass(frozen=True, eq=False)
class Input(Op):
    """Where frames enter the graph: `y = x`.

    Attributes:
        features: Shape of one frame of one sample, for instance `(2, 128, 128)`.
        kind: Signal kind; event frames are counts.
    """

    arity = 0

    features: tuple[int, ...]
    kind: Kind = Kind.COUNT

    def faults(self) -> list[str]:
        sound = bool(self.features) and min(self.features) > 0
        return [] if sound else [f"the input shape {self.features} is empty"]

    def infer(self, *inputs: Signal, T: int) -> Signal:
        return Signal(("T", "N", *self.features), self.kind)

    def acts_on_time(self, *inputs: Signal) -> bool:
        return False

    def apply(self, *x: Array) -> Array:
        return x[0]


@dataclass(frozen=True, eq=False)
class _Pointwise(Op):
    """An op on every element by itself."""

    elementwise: ClassVar[bool] = True

    def acts_on_time(self, *inputs: Signal) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class Sigmoid(_Pointwise):
    """`y = 1 / (1 + exp(-x))`. Result kind: real."""

    def infer(self, *inputs: Signal, T: int) -> Signal:
        return inputs[0].with_kind(Kind.REAL)

    def apply(self, *x: Array) -> Array:
        return sigmoid(x[0])


@dataclass(frozen=True, eq=False)
class ReLU(_Pointwise):
    """`y = max(x, 0)`. Real becomes graded (zero or a payload), other kinds stay."""

    def infer(self, *inputs: Signal, T: int) -> Signal:
        return inputs[0].with_kind(Kind.GRADED if inputs[0].kind is Kind.REAL else inputs[0].kind)

    def apply(self, *x: Array) -> Array:
        return np.maximum(x[0], 0)


@dataclass(frozen=True, eq=False)
class Affine(_Pointwise):
    """`y = scale x + offset` with two numbers. Without offset spikes become graded, with offset real.

    The inversion `1 - x` of spikes gives spikes.

    Attributes:
        scale: Factor.
        offset: Added afterwards.
    """

    scale: float = 1.0
    offset: float = 0.0

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        if self.offset == 0:
            return x if self.scale == 1 else x.with_kind(x.kind.widened(Kind.GRADED))
        inverts = x.kind is Kind.BINARY and (self.scale, self.offset) == (-1, 1)
        return x if inverts else x.with_kind(Kind.REAL)

    def apply(self, *x: Array) -> Array:
        return float32(x[0] * np.float32(self.scale) + np.float32(self.offset))


@dataclass(frozen=True, eq=False)
class _Broadcast(Op):
    """An op on two or more inputs, element by element, with NumPy broadcasting."""

    arity = None
    elementwise: ClassVar[bool] = True

    def _result_kind(self, kinds: list[Kind]) -> Kind:
        raise NotImplementedError

    def infer(self, *inputs: Signal, T: int) -> Signal:
        dims = broadcast_dims(*(s.dims for s in inputs))
        self._require(dims is not None, "shapes do not broadcast: " + " and ".join(map(str, inputs)))
        return Signal(dims or (), self._result_kind([s.kind for s in inputs]))


@dataclass(frozen=True, eq=False)
class Add(_Broadcast):
    """`y = x1 + x2 + ...`. Spikes and counts add up to counts; with graded inputs graded; with real ones real."""

    def _result_kind(self, kinds: list[Kind]) -> Kind:
        return functools.reduce(Kind.widened, kinds, Kind.COUNT)

    def apply(self, *x: Array) -> Array:
        return functools.reduce(np.add, x)


@dataclass(frozen=True, eq=False)
class Mul(_Broadcast):
    """`y = x1 x2 ...`. A spike times a real number is graded; only real times real is real."""

    def _result_kind(self, kinds: list[Kind]) -> Kind:
        result = functools.reduce(Kind.widened, kinds)
        return Kind.GRADED if result is Kind.REAL and any(k.sparse for k in kinds) else result

    def apply(self, *x: Array) -> Array:
        return functools.reduce(np.multiply, x)


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Inputs side by side along one axis (counted from the front, time is 0).

    Attributes:
        axis: The axis.
    """

    arity = None
    moves_only: ClassVar[bool] = True

    axis: int

    def faults(self) -> list[str]:
        return self._below(0, axis=self.axis)

    def infer(self, *inputs: Signal, T: int) -> Signal:
        first = inputs[0].dims
        self._require(self.axis < len(first), f"there is no axis {self.axis} in {inputs[0]}")
        before, after = first[: self.axis], first[self.axis + 1 :]
        alike = all((s.dims[: self.axis], s.dims[self.axis + 1 :]) == (before, after) for s in inputs)
        lengths = [d for s in inputs for d in s.dims[self.axis : self.axis + 1] if isinstance(d, int)]
        fits = alike and len(lengths) == len(inputs)
        self._require(fits, "shapes do not fit side by side: " + " and ".join(map(str, inputs)))
        kind = functools.reduce(Kind.widened, (s.kind for s in inputs))
        return Signal((*before, sum(lengths), *after), kind)

    def apply(self, *x: Array) -> Array:
        return np.concatenate(x, self.axis)


@dataclass(frozen=True, eq=False)
class Permute(Op):
    """Axes in another order: axis `i` of the result is axis `order[i]` of the input.

    Attributes:
        order: A permutation of all axes.
    """

    moves_only: ClassVar[bool] = True

    order: tuple[int, ...]

    def faults(self) -> list[str]:
        sound = sorted(self.order) == list(range(len(self.order)))
        return [] if sound else [f"{self.order} is not an order of axes"]

    def infer(self, *inputs: Signal, T: int) -> Signal:
        dims = inputs[0].dims
        self._require(len(self.order) == len(dims), f"{self.order} does not order the axes of {inputs[0]}")
        return inputs[0].with_dims(tuple(dims[i] for i in self.order))

    def acts_on_time(self, *inputs: Signal) -> bool:
        return not inputs[0].streams or self.order[0] != 0

    def apply(self, *x: Array) -> Array:
        return np.ascontiguousarray(x[0].transpose(self.order))


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """The same elements under other axes, in the same order. `"N"` stays whole, and elements keep their sample.

    Time may become part of a plain axis (its steps are features then), and a plain axis of length T may become the time axis.

    Attributes:
        dims: Axes of the result.
        named: For each named axis of `dims`, in order, the axis of the input it is.
    """

    moves_only: ClassVar[bool] = True

    dims: tuple[Dim, ...]
    named: tuple[int, ...]

    def faults(self) -> list[str]:
        return self._below(1, dims=tuple(d for d in self.dims if isinstance(d, int)))

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        names = [d for d in self.dims if isinstance(d, str)]
        fits = len(names) == len(self.named) and all(
            0 <= i < len(x.dims) and (x.dims[i] == name or (name == "T" and x.dims[i] == T))
            for i, name in zip(self.named, names, strict=False)
        )
        self._require(
            fits
            and list(self.named) == sorted(set(self.named))
            and all(d != "N" or i in self.named for i, d in enumerate(x.dims)),
            f"{x} cannot become {self.dims}: N has to stay whole, and named axes in order",
        )
        # Between two named axes the number of elements has to stay, or elements would change their sample or time step.
        plain = [T if d == "T" else d for d in x.dims]
        before = _runs(tuple("T" if i in self.named else d for i, d in enumerate(plain)))
        self._require(before == _runs(self.dims), f"{x} cannot become {self.dims}: the sizes differ")
        return x.with_dims(self.dims)

    def acts_on_time(self, *inputs: Signal) -> bool:
        return not inputs[0].streams or self.dims[:1] != ("T",) or self.named[:1] != (0,)

    def apply(self, *x: Array) -> Array:
        lengths = iter(self.named)
        return x[0].reshape(tuple(d if isinstance(d, int) else x[0].shape[next(lengths)] for d in self.dims))


def _runs(dims: tuple[Dim, ...]) -> list[int]:
    """Products of the plain numbers between the named axes."""
    runs = [1]
    for d in dims:
        if isinstance(d, int):
            runs[-1] *= d
        else:
            runs.append(1)
    return runs


@dataclass(frozen=True, eq=False)
class Flatten(Op):
    """All feature axes of `[T, N, ...]` in one: `[T, N, F]`, in C order. Keeps the kind."""

    moves_only: ClassVar[bool] = True

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(x.dims[:2] == ("T", "N") and len(x.dims) > 2, f"flatten needs [T, N, ...], got {x}")
        return x.with_dims(("T", "N", x.size))

    def apply(self, *x: Array) -> Array:
        return x[0].reshape(*x[0].shape[:2], -1)


@dataclass(frozen=True, eq=False)
class Reduce(Op):
    """Mean, largest value or sum over some axes. Spikes become graded by the mean, counts by the sum.

    Attributes:
        how: `"mean"`, `"max"` or `"sum"`.
        axes: Axes counted from the front; time is 0.
        keepdims: Whether the axes stay with length 1.
    """

    how: Literal["mean", "max", "sum"]
    axes: tuple[int, ...]
    keepdims: bool = False

    def faults(self) -> list[str]:
        sound = bool(self.axes) and min(self.axes) >= 0 and len(set(self.axes)) == len(self.axes)
        return [] if sound else [f"{self.axes} are not axes"]

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(max(self.axes) < len(x.dims), f"{x} has no axes {self.axes}")
        self._require(all(x.dims[a] != "N" for a in self.axes), "a reduction over samples would mix them")
        dims: list[Dim] = []
        for i, d in enumerate(x.dims):
            if i not in self.axes:
                dims.append(d)
            elif self.keepdims:
                dims.append(1)
        lift = {"mean": Kind.GRADED, "max": x.kind, "sum": Kind.COUNT}[self.how]
        return Signal(tuple(dims), x.kind.widened(lift))

    def acts_on_time(self, *inputs: Signal) -> bool:
        return not inputs[0].streams or 0 in self.axes

    def apply(self, *x: Array) -> Array:
        if self.how == "max":
            return float32(x[0].max(self.axes, keepdims=self.keepdims))
        if self.how == "sum":
            return float32(x[0].sum(self.axes, keepdims=self.keepdims))
        return float32(x[0].mean(self.axes, keepdims=self.keepdims))


@dataclass(frozen=True, eq=False)
class TimeMean(Op):
    """Mean over the window: `y = 1/T sum_t x[t]`; `[T, N, ...]` becomes `[N, ...]`. Spikes become graded."""

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(x.streams, f"a mean over time needs a stream of frames, got {x}")
        return Signal(x.dims[1:], x.kind.widened(Kind.GRADED))

    def acts_on_time(self, *inputs: Signal) -> bool:
        return True

    def apply(self, *x: Array) -> Array:
        return float32(x[0].mean(0, dtype=np.float32))

    def initial_state(self, *inputs: Signal, T: int, N: int) -> State:
        """State `(t, T, running sum)`."""
        return 0, T, np.zeros(inputs[0].shape(T, N)[1:], np.float32)

    def step(self, frames: Frames, state: State) -> tuple[Frames, State]:
        t, T, total = state
        total = total + frames[0]
        return ((total / np.float32(T),) if t == T - 1 else ()), (t + 1, T, total)


@dataclass(frozen=True, eq=False)
class Vote(Op):
    """Mean over groups of neighbouring outputs: `y[k] = mean_{i < voters} x[k voters + i]` along the last axis.

    Spikes become graded.

    Attributes:
        voters: Outputs per class.
    """

    voters: int

    def faults(self) -> list[str]:
        return self._below(1, voters=self.voters)

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(isinstance(x.dims[-1], int), f"voting needs a feature axis, got {x}")
        classes = x.features[-1] // self.voters
        self._require(classes > 0, f"{x} has no {self.voters} voters per class")
        return Signal((*x.dims[:-1], classes), x.kind.widened(Kind.GRADED))

    def acts_on_time(self, *inputs: Signal) -> bool:
        return False

    def apply(self, *x: Array) -> Array:
        classes = x[0].shape[-1] // self.voters
        used = x[0][..., : classes * self.voters]
        return float32(used.reshape(*x[0].shape[:-1], classes, self.voters).mean(-1, dtype=np.float32))
