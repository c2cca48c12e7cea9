"""Summands on their way to the stage that adds them: rounded synapses, pairs of these, relays that change shape or unit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import GraphError
from tcja_deploy.exporters.lava.float_graph import FloatSynapse, FloatTerm
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.rounding import compensated, input_rows
from tcja_deploy.runtime.integers.edges import AnyStage
from tcja_deploy.runtime.integers.stages import HOST, Edge, ProgramStage, RelayStage, SynapseStage
from tcja_deploy.runtime.integers.twin import MESSAGE_LIMIT
from tcja_deploy.runtime.integers.window.program import Program

__all__ = ["ROOM", "Arm", "rescaling", "reshaping", "round_arm", "split_pair", "synapses"]

ROOM = 8
"""A program takes payloads of the host up to this many times the largest in the calibration data, and clips larger ones."""
FACTOR_BITS, SHIFT_MAX = 23, 31
"""Bits of the factor that converts a stream to another unit, and the longest shift of a relay: a relay reads at most 31 bits,
so that products stay below 2**54, and the factor's error changes a payload of 17 bits by less than 1/128."""


@dataclass(slots=True)
class Arm:
    """One summand on its way to the stage that adds it to the others.

    Attributes:
        term: The summand in the float network.
        unit: Unit of the payloads that it reads.
        synapse: The synapse that it passes through, or None.
        weight: Real weights for sums in units of one; empty without a synapse.
        most: Largest unit of its sums that the bits of the weights allow; without a synapse, that of the stream.
        plain: The same for weights that need no second synapse; None if the bits of one are all it may have.
    """

    term: FloatTerm
    unit: float
    synapse: FloatSynapse | None
    weight: NDArray[np.float64]
    most: float
    plain: float | None = None


def round_arm(arm: Arm, own: float, values: NDArray[np.integer], options: LavaOptions) -> NDArray[np.int64]:
    """Integer weights of a synapse.

    Args:
        arm: The summand.
        own: Unit of its sums.
        values: The payloads that it reads on the calibration data, `[T, N, ...]`.
        options: Whether rounding errors compensate each other; each weight of a transposed convolution or a pair is
            rounded to the nearest integer.
    """
    exact = arm.weight * (own / arm.unit)
    nearest = np.floor(exact + 0.5).astype(np.int64)
    within = int(np.abs(nearest).max()) <= options.weight_max
    if options.compensate and arm.synapse is not None and arm.synapse.kind != "transposed" and within:
        probe = _stage(arm.synapse, "probe", arm.term.source, nearest, own)
        return compensated(exact, input_rows(probe, values), options.weight_max)
    return nearest


def synapses(
    arm: Arm, weight: NDArray[np.int64], own: float, edge: Edge, most: int
) -> tuple[tuple[AnyStage, ...], tuple[str, ...]]:
    """The stages of a summand with a synapse, and the names of the stages whose sums are added.

    Weights beyond `most` become a pair of synapses: W = limb high + low, where the upper half reads the payloads times
    `limb` from a relay.

    Raises:
        GraphError: If the summand has no synapse.
    """
    if arm.synapse is None:
        raise GraphError("has no synapse", where=arm.term.source)
    node, source = arm.synapse.node, arm.term.source
    if int(np.abs(weight).max()) <= most:
        single = _stage(arm.synapse, f"{node}.sums", source, weight, own)
        return (single,), (single.name,)
    limb = most + 1
    high, low = split_pair(weight, limb)
    zero = np.zeros(edge.shape[0], np.int64)
    relay = RelayStage(f"{node}.limb", (source,), edge.shape, zero, edge.unit * limb, multiplier=limb)
    upper = _stage(arm.synapse, f"{node}.upper", relay.name, high, own)
    lower = _stage(arm.synapse, f"{node}.sums", source, low, own)
    return (relay, upper, lower), (upper.name, lower.name)


def split_pair(weight: NDArray[np.int64], limb: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """W = limb high + low, with low in -limb/2 .. limb/2 - 1."""
    low = ((weight + limb // 2) & (limb - 1)) - limb // 2
    return (weight - low) // limb, low


def _stage(
    synapse: FloatSynapse, name: str, source: str, weight: NDArray[np.int64], unit: float
) -> SynapseStage:
    return SynapseStage(
        name, (source,), synapse.kind, synapse.in_shape, weight, unit, synapse.stride, synapse.padding,
        synapse.dilation, synapse.output_padding, synapse.groups,
    )  # fmt: skip


def reshaping(name: str, source: str, edge: Edge, shape: tuple[int, ...]) -> ProgramStage:
    """A program that sends the same elements in frames of another shape."""
    low = -edge.peak if edge.kind == "signed" else 0
    steps: list[dict[str, Any]] = []
    if source == HOST and edge.kind != "spike":  # recordings to come may hold more than those seen
        most = ROOM * edge.peak
        steps.append({"op": "clip", "inputs": [0], "low": -most, "high": most})
        edge, low = replace(edge, peak=MESSAGE_LIMIT - 1), 1 - MESSAGE_LIMIT
    frames = {"shape": [1, *edge.shape], "low": low, "high": edge.peak}
    steps.append({"op": "reshape", "inputs": [len(steps)], "dims": [1, *shape]})
    return ProgramStage(name, (source,), Program({"inputs": [frames], "steps": steps}, {}), edge.unit)


def rescaling(name: str, source: str, shape: tuple[int, ...], ratio: float, unit: float) -> RelayStage:
    """A relay that converts a stage's values to another unit."""
    shift = min(max(FACTOR_BITS - math.frexp(ratio)[1], 0), SHIFT_MAX)
    multiplier = round(ratio * 2.0**shift)
    while shift and multiplier % 2 == 0:
        multiplier, shift = multiplier // 2, shift - 1
    zero = np.zeros(shape[0], np.int64)
    return RelayStage(name, (source,), shape, zero, unit, 24, multiplier, shift)
