"""The schedule of a Lava run: which frame is where at which step.

Steps count from 0: frame f enters at step f. A synapse takes one step, a gate or a program over a window T - 1 steps (it
waits for the last frame), neurons, relays and programs of single frames none. So a stage receives frame 0 when the latest
of its inputs delivers it, and the other inputs are delayed until then; every state is zeroed at exactly that step. N
windows follow one another without a gap and take N * T + latency steps; what leaves a stage before its frame 0 is
discarded.

A .net file whose input receives frame 0 at step d emits it from layer k (counted from 0) at step d + 1 + k, and netx must
be given `reset_offset = d + 1` (its default is one step too early).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tcja_deploy.runtime.integers.edges import AnyStage
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork, runs
from tcja_deploy.runtime.integers.stages import HOST, ProgramStage, SynapseStage

__all__ = ["Part", "StageTime", "duration", "latency", "misaligned", "parts", "schedule"]


@dataclass(frozen=True, slots=True)
class StageTime:
    """The steps of one stage.

    Attributes:
        arrives: Step at which it receives frame 0.
        leaves: Step at which it sends frame 0.
        delays: For each of its inputs, the number of steps by which it is delayed.
    """

    arrives: int
    leaves: int
    delays: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What becomes one file of a bundle: consecutive layers, or one stage of another kind.

    Attributes:
        stages: The stages in order; several only if all are layers.
        times: The steps of each stage.
    """

    stages: tuple[AnyStage, ...]
    times: tuple[StageTime, ...]

    @property
    def arrives(self) -> int:
        """Step at which the first stage receives frame 0."""
        return self.times[0].arrives

    @property
    def reset_offset(self) -> int:
        """The offset with which netx starts each window from zero."""
        return self.arrives + 1

    @property
    def layers(self) -> tuple[LayerStage, ...]:
        """The stages, if they are layers; otherwise none."""
        return tuple(stage for stage in self.stages if isinstance(stage, LayerStage))


def duration(stage: AnyStage) -> int:
    """Steps from a frame's arrival at a stage to its departure."""
    if isinstance(stage, GateStage | ProgramStage):
        return stage.frames - 1
    return int(isinstance(stage, LayerStage | SynapseStage))


def schedule(network: IntegerNetwork) -> dict[str, StageTime]:
    """The steps of each stage, by name."""
    leaves, times = {HOST: 0}, {}
    for stage in network.stages:
        arrives = max(leaves[name] for name in stage.inputs)
        leaves[stage.name] = arrives + duration(stage)
        delays = tuple(arrives - leaves[name] for name in stage.inputs)
        times[stage.name] = StageTime(arrives, leaves[stage.name], delays)
    return times


def misaligned(network: IntegerNetwork, times: Mapping[str, StageTime]) -> list[str]:
    """Errors of a schedule; empty if every stage receives the same frame from all its inputs.

    The steps are checked along every edge, independently of how the schedule was made.
    """
    problems = []
    for stage in network.stages:
        own = times[stage.name]
        for name, delay in zip(stage.inputs, own.delays, strict=True):
            sent = 0 if name == HOST else times[name].leaves
            if delay < 0:
                problems.append(f"{stage.name}: {name} would have to arrive {-delay} steps before it is sent")
            elif sent + delay != own.arrives:
                problems.append(
                    f"{stage.name}: frame 0 of {name} arrives at step {sent + delay}, not at {own.arrives}"
                )
        if own.leaves != own.arrives + duration(stage):
            problems.append(f"{stage.name}: takes {duration(stage)} steps, not {own.leaves - own.arrives}")
    return problems


def parts(network: IntegerNetwork) -> tuple[Part, ...]:
    """The network cut into the parts that become files, in order, with the timing of each part."""
    times = schedule(network)
    return tuple(Part(run, tuple(times[stage.name] for stage in run)) for run in runs(network))


def latency(network: IntegerNetwork) -> int:
    """Steps from a frame's entry to its result; N windows take N * T + latency steps."""
    return schedule(network)[network.stages[-1].name].leaves
