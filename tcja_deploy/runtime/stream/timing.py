"""When things happen under the paced schedule."""

from __future__ import annotations

from dataclasses import dataclass

from tcja_deploy.runtime.stream.cells import Delayed
from tcja_deploy.runtime.stream.plan import StreamPlan, Takes

__all__ = ["Timing", "timing"]


@dataclass(frozen=True)
class Timing:
    """When things happen, in steps from the first frame of a window.

    Attributes:
        start: The step of each cell's first frame, or of its work if it works once per window.
        first: The step at which each value appears: its frame 0, or the value of the window.
        latency: Steps between the frame that completes a result and the result.
    """

    start: dict[str, int]
    first: dict[str, int]
    latency: int


def timing(plan: StreamPlan, *, synapse: int = 0) -> Timing:
    """When each cell works and each value appears under the paced schedule.

    Args:
        plan: The network.
        synapse: Steps that a layer with weights takes: none in a stream, one on Loihi.
    """
    T, start, first = plan.T, {}, {plan.input: 0}
    for link in plan.links:
        wait = {Takes.FRAME: 0, Takes.VALUE: 0, Takes.WINDOW: T - 1}
        start[link.name] = max(
            first[name] + wait[takes] for name, takes in zip(link.inputs, link.takes, strict=True)
        )
        ahead = 0
        if isinstance(link.cell, Delayed):
            ahead = link.cell.lookahead
        elif link.per_frame and not link.signal.streams:
            ahead = T - 1
        first[link.name] = start[link.name] + ahead + synapse * link.cell.synaptic
    signal = plan.signals[plan.output]
    return Timing(start, first, first[plan.output] - (0 if signal.streams else T - 1))
