"""What a node does with one frame: pure functions from inputs and state to outputs and state, on torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from tcja_deploy.ir import Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.membranes import integrator_step, neuron_step
from tcja_deploy.runtime.recurrence import initial_states, recurrence_step
from tcja_deploy.runtime.sequence import evaluate
from tcja_deploy.runtime.stream.packing import Item

__all__ = [
    "STEPS_SEEN",
    "BundleCell",
    "Cell",
    "CellState",
    "Delayed",
    "Every",
    "Integrators",
    "Membranes",
    "Neurons",
    "PlainCell",
    "Recurrences",
    "RunningMean",
    "Scale",
    "Window",
    "aligned",
    "plain",
]

CellState = Mapping[str, Tensor]
"""Tensors by name, never changed in place."""

STEPS_SEEN = "seen"
"""The part of an event cell's state that counts the steps that its membranes have seen, 0 to T."""


class Cell(Protocol):
    """One node of a stream.

    The engine counts a cell's steps and puts it back to `initial` after the last one of a window, so that a
    cell keeps no clock and leaks nothing from one window to the next.
    """

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates per call of `step` and sample; the mean where calls differ."""
        ...

    @property
    def synaptic(self) -> bool:
        """Whether its MACs are those of synapses, which silent inputs do not use."""
        ...

    @property
    def membrane(self) -> bool:
        """Whether its state is a membrane (with its currents, where those have a memory)."""
        ...

    def initial(self, samples: int) -> CellState:
        """State before the first frame of a window, for a batch of `samples`."""
        ...

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[Sequence[Item], CellState]:
        """Consume the inputs of step `t`.

        Args:
            inputs: For each input a frame `[N, ...]`, or a whole window `[T, N, ...]`, or a value without
                time axis.
            state: State before.
            t: Index of this step in the window; 0 for a cell that takes no single frames.

        Returns:
            What became final (frames, or one value without time axis), and the new state.
        """
        ...


@runtime_checkable
class Delayed(Cell, Protocol):
    """A cell whose result for a frame comes some frames later: the gate of an attention block."""

    @property
    def lookahead(self) -> int:
        """Frames that it waits for."""
        ...

    @property
    def exact_lookahead(self) -> int:
        """Frames that it would have to wait for to be exact."""
        ...


class BundleCell(ABC):
    """A cell that takes bundles as they are; others get tensors."""

    @abstractmethod
    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[Sequence[Item], CellState]:
        """As `Cell.step`; with `reuse`, nobody else holds `state`, and the new state may take its memory."""


class PlainCell:
    """A cell with neither synapses nor a membrane, which is what most are."""

    @property
    def synaptic(self) -> bool:
        """See `Cell`."""
        return False

    @property
    def membrane(self) -> bool:
        """See `Cell`."""
        return False


def aligned(op: Op) -> Op:
    """The op with its constants in torch's own memory; see `plain`."""
    arrays = {name: a for name, a in op.constants().items() if isinstance(a, np.ndarray)}
    return replace(op, **{name: torch.tensor(a).numpy() for name, a in arrays.items()})


def plain(x: Tensor) -> Tensor:
    """The same values, contiguous and aligned: a copy only where they are not.

    Sums and products may be added up in another order for operands with other strides, or that start at other than 64-byte
    boundaries. With all operands alike, equal inputs give equal bits, in any run and any process on the same kind of machine.
    """
    usual = torch.empty(x.shape, device="meta").stride()
    same = x.stride() == usual and x.data_ptr() % 64 == 0
    return x if same else x.clone(memory_format=torch.contiguous_format)


class Stateless(PlainCell):
    """A cell without state."""

    def initial(self, samples: int) -> CellState:
        """An empty state."""
        return {}


@dataclass(frozen=True, eq=False)
class Every(Stateless):
    """An op without state that makes one frame of each step's inputs.

    Attributes:
        op: The op.
        frames: Whether each input is a frame.
        macs: See `Cell`.
    """

    op: Op
    frames: tuple[bool, ...]
    macs: int

    @property
    def synaptic(self) -> bool:
        """See `Cell`."""
        return self.op.synaptic

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        y = evaluate(
            self.op, *(x[None] if frame else x for x, frame in zip(inputs, self.frames, strict=True))
        )
        return [y[0] if any(self.frames) else y], state


@dataclass(frozen=True, eq=False)
class Window(Stateless):
    """An op that needs its whole window at once; the engine's queues hold the frames until it is complete.

    Attributes:
        op: The op.
        emits: Whether the result is a stream of frames again.
        macs: See `Cell`.
    """

    op: Op
    emits: bool
    macs: int

    @property
    def synaptic(self) -> bool:
        """See `Cell`."""
        return self.op.synaptic

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        y = evaluate(self.op, *inputs)
        return (list(y) if self.emits else [y]), state


@dataclass(frozen=True, eq=False)
class Membranes(PlainCell):
    """An op with a state `v` of its own for every element.

    Attributes:
        op: The op.
        features: Shape of one frame of one sample.
        macs: See `Cell`.
    """

    op: Op
    features: tuple[int, ...]
    macs: int = 0

    @property
    def membrane(self) -> bool:
        """See `Cell`."""
        return True


@dataclass(frozen=True, eq=False)
class Neurons(Membranes):
    """Spiking neurons; state: the membrane `v` `[N, ...]` after the reset."""

    op: ir.Neuron

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        return {"v": torch.full((samples, *self.features), self.op.v_rest)}

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        spikes, v = neuron_step(self.op, inputs[0], state["v"])
        return [spikes], {"v": v}


@dataclass(frozen=True, eq=False)
class Integrators(Membranes):
    """Leaky integrators; state: the membrane `v` `[N, ...]`, which is also the result (before a reset)."""

    op: ir.LI | ir.AffineIntegrator

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        return {"v": torch.full((samples, *self.features), self.op.v_rest)}

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        y, v = integrator_step(self.op, inputs[0], state["v"])
        return [y], {"v": v}


@dataclass(frozen=True, eq=False)
class Recurrences(Membranes):
    """Neurons given as arithmetic; state: their states `v` `[S, N, ...]`."""

    op: ir.Recurrence

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        return {"v": initial_states(self.op, torch.empty(samples, *self.features))}

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        y, v = recurrence_step(self.op, inputs[0], state["v"], t)
        return [y], {"v": v}


@dataclass(frozen=True, eq=False)
class RunningMean(PlainCell):
    """Mean over the window, added up frame by frame; state: the `sum` `[N, ...]`."""

    T: int
    features: tuple[int, ...]
    macs: int = 0

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        return {"sum": torch.zeros(samples, *self.features)}

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        total = state["sum"] + inputs[0]
        return ([total / self.T] if t == self.T - 1 else []), {"sum": total}


@dataclass(frozen=True, eq=False)
class Scale(Stateless):
    """The gate applied: `Y[c,h,w] = X[c,h,w] F[c]`.

    Attributes:
        macs: Elements of a frame.
    """

    macs: int

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        x, gate = inputs
        return [x * gate[..., None, None]], state
