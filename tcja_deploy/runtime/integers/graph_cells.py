"""Stages of an integer graph as cells of a stream: synapses, populations and relays frame by frame, programs over their window.

The engine's queues hold frames that wait for others, so that branches meet without explicit delays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from tcja_deploy.ir import Kind, Signal
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stage_runners import PopulationRunner, SynapseRunner, run_program
from tcja_deploy.runtime.integers.stages import Edge, NeuronStage, ProgramStage, RelayStage, SynapseStage
from tcja_deploy.runtime.stream.cells import CellState, PlainCell, Stateless
from tcja_deploy.runtime.stream.plan import Link, Takes, by_frame

__all__ = ["graph_link"]


def graph_link(
    network: IntegerNetwork,
    stage: SynapseStage | NeuronStage | RelayStage | ProgramStage,
    inputs: tuple[str, ...],
) -> Link:
    """The cell of a stage with its inputs.

    Args:
        network: The network that it belongs to.
        stage: The stage.
        inputs: Names of the values that it reads in the stream.
    """
    kind = Kind.BINARY if network.edges[stage.name].kind == "spike" else Kind.REAL
    signal = Signal(("T", "N", *stage.out_shape), kind, "float32" if kind is Kind.BINARY else "float64")
    if isinstance(stage, SynapseStage):
        return by_frame(stage.name, SynapseCell(stage, network.arrives(stage)[0]), inputs, signal)
    if isinstance(stage, NeuronStage | RelayStage):
        return by_frame(stage.name, PopulationCell(stage), inputs, signal)
    takes = Takes.FRAME if stage.frames == 1 else Takes.WINDOW
    return Link(stage.name, ProgramCell(stage), inputs, (takes,) * len(inputs), signal)


@dataclass(frozen=True, eq=False)
class SynapseCell(Stateless):
    """A synapse's sums of one frame.

    Attributes:
        stage: The synapse.
        received: What it receives.
    """

    stage: SynapseStage
    received: Edge

    @cached_property
    def runner(self) -> SynapseRunner:
        """The twin's own arithmetic."""
        return SynapseRunner(self.stage, self.received)

    @property
    def synaptic(self) -> bool:
        """See `Cell`."""
        return True

    @property
    def macs(self) -> int:
        """See `Cell`."""
        stage = self.stage
        places = prod(stage.in_shape[1:]) if stage.kind == "transposed" else prod(stage.out_shape[1:])
        return int(stage.weight.size) * places

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        return [self.runner.advance(inputs[0], LayerCounts())], state


@dataclass(frozen=True, eq=False)
class PopulationCell(PlainCell):
    """Neurons or a relay; state: currents `u` and voltages `v`, float64, where they have a memory.

    Attributes:
        stage: The neurons or the relay.
    """

    stage: NeuronStage | RelayStage
    macs: int = 0

    @property
    def membrane(self) -> bool:
        """See `Cell`."""
        return bool(self._names)

    @property
    def _names(self) -> tuple[str, ...]:
        if isinstance(self.stage, NeuronStage):
            return ("u", "v")
        return () if self.stage.decay is None else ("v",)

    @cached_property
    def runner(self) -> PopulationRunner:
        """The twin's own arithmetic; its state is set before every use."""
        return PopulationRunner(self.stage)

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        return {name: torch.zeros(samples, *self.stage.shape, dtype=torch.float64) for name in self._names}

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        runner = self.runner
        runner.reset()
        for name, value in state.items():
            setattr(runner, name, value.numpy().astype(np.int64))
        total = np.sum([x.double().numpy() for x in inputs], 0).astype(np.int64)
        sent = torch.from_numpy(runner.advance(total, LayerCounts()))
        kind = torch.float32 if isinstance(self.stage, NeuronStage) else torch.float64
        after = {name: torch.from_numpy(getattr(runner, name).astype(np.float64)) for name in state}
        return [sent.to(kind)], after


@dataclass(frozen=True, eq=False)
class ProgramCell(Stateless):
    """A program over one frame, or over the window that the engine has collected.

    Attributes:
        stage: The program's stage.
    """

    stage: ProgramStage
    macs: int = 0

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        windows = [x.double().numpy().astype(np.int64) for x in inputs]
        single = self.stage.frames == 1
        sent = run_program(self.stage, [w[None] if single else w for w in windows], LayerCounts())
        kind = np.float32 if self.stage.kind == "spike" else np.float64
        return list(torch.from_numpy(sent.astype(kind, order="C"))), state
