"""A NIR node while it is translated: its parameters, checked, and where its ops go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import GraphBuilder, Op
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["NirReading", "NodeContext", "NodeRule", "ThresholdComparison", "free"]

ThresholdComparison = Literal[">", ">="]


@dataclass(frozen=True)
class NirReading:
    """How the numbers of a file are to be read.

    Attributes:
        dt: Length of a time step in the file's unit of time.
        comparison: Whether a neuron fires only above its threshold, or at it as well.
        soft_reset: Whether a spike lowers the membrane by the threshold instead of setting it to `v_reset`.
    """

    dt: float
    comparison: ThresholdComparison = ">"
    soft_reset: bool = False


@dataclass(frozen=True)
class NodeContext:
    """One NIR node in its place: what a rule reads, and where it writes.

    Attributes:
        builder: Where ops go.
        name: Name of the node.
        fields: Its parameters.
        reading: How they are meant.
        taken: Names that are not free for parts of nodes.
    """

    builder: GraphBuilder
    name: str
    fields: Mapping[str, Any]
    reading: NirReading
    taken: set[str]

    def emit(self, op: Op, x: str, part: str = "") -> str:
        """Append an op that reads `x`; the node's last one carries its name, others a suffix."""
        return self.builder.add(free(f"{self.name}.{part}", self.taken) if part else self.name, op, x)

    def features(self, x: str) -> tuple[int, ...]:
        """Shape of one frame of a value."""
        return self.builder.signal(x).features

    # -- parameters ----------------------------------------------------------------------------------------
    def field(self, name: str) -> Any:
        """A parameter of the file.

        Raises:
            Unsupported: If it is not there.
        """
        if name not in self.fields:
            raise Unsupported(f"the file does not give {name}")
        return self.fields[name]

    def array(self, name: str, ndim: int) -> NDArray[np.float32]:
        """Weights.

        Raises:
            Unsupported: If they have another number of axes, or are not finite.
        """
        value = np.ascontiguousarray(np.asarray(self.field(name)), np.float32)
        if value.ndim != ndim:
            raise Unsupported(f"{name} has {value.ndim} axes instead of {ndim}")
        if not np.isfinite(value).all():
            raise Unsupported(f"{name} holds numbers that are not finite")
        return value

    def bias(self) -> NDArray[np.float32] | None:
        """The bias; `None` where it is zero, which computes the same."""
        if self.fields.get("bias") is None:
            return None
        value = self.array("bias", 1)
        return value if value.any() else None

    def uniform(self, name: str, x: str) -> float:
        """A neuron parameter that all neurons share.

        Raises:
            Unsupported: If neurons differ, or the array does not fit the input.
        """
        value = np.asarray(self.field(name), np.float64)
        if value.size != 1 and value.shape != self.features(x):
            raise UnsupportedInContext(
                f"{name} has shape {list(value.shape)}, but the neurons are {list(self.features(x))}"
            )
        low, high = float(value.min(initial=np.inf)), float(value.max(initial=-np.inf))
        if not np.isfinite([low, high]).all():
            raise Unsupported(f"{name} holds numbers that are not finite")
        if low != high:
            raise Unsupported(
                f"{name} differs from neuron to neuron ({low:g} to {high:g})",
                "give all neurons of a layer the same value",
            )
        return low

    def integers(self, name: str, count: int) -> tuple[int, ...]:
        """Sizes such as a stride: one number for all axes, or one each."""
        value = np.asarray(self.field(name))
        if value.dtype.kind not in "iu" or value.size not in (1, count):
            raise Unsupported(f"{name} = {value.tolist()} is not {count} whole numbers")
        return tuple(int(n) for n in np.broadcast_to(value.ravel(), count))

    def time(self, name: str, x: str) -> float:
        """A time constant in time steps."""
        return self.uniform(name, x) / self.reading.dt


def free(name: str, taken: set[str]) -> str:
    """`name`, with underscores after it if it is taken; taken from now on."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


NodeRule = Callable[[NodeContext, str], str]
"""Emits a node that reads a value; returns the name of its result."""
