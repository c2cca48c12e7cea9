"""What Lava (lava-nc 0.10.0, lava-dl 0.6.0) accepts but computes wrongly, and what exceeds Loihi's specification.

Every rule was established by running Lava; see docs/lava.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.schedule import misaligned, schedule
from tcja_deploy.runtime.integers.edges import synapse_bound
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stages import UNITY, Edge, NeuronStage, RelayStage, SynapseStage
from tcja_deploy.unsupported import bullets

__all__ = ["Findings", "check", "lint"]

INT8_MAX = 127
INT16 = (-(1 << 15), (1 << 15) - 1)
HARDWARE_BIAS = (1 << 12) - 1
THRESHOLD_MAX = (1 << 17) - 1
CURRENT_MAX = (1 << 17) - 1
SUM_MAX = (1 << 25) - 1
INT32_MAX = (1 << 31) - 1
CONV_MAX = 1 << 23
"""Sums of convolutions wrap to 24 bits."""
MESSAGE_MAX = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class Findings:
    """What the lint found.

    Attributes:
        errors: Stages for which Lava would compute other spikes, or fail without a message; each as "stage: reason".
        notes: Stages that are exact in Lava's simulation, but outside the chip's specification or not provably free of
            wrapping.
    """

    errors: tuple[str, ...]
    notes: tuple[str, ...]


def lint(network: IntegerNetwork) -> Findings:
    """All findings of a network."""
    errors: list[str] = []
    notes: list[str] = []
    for stage in network.stages:
        received = network.arrives(stage)
        problems: list[str] = []
        remarks: list[str] = []
        if isinstance(stage, LayerStage):
            _neurons(stage, problems, remarks)
            _sums(stage, received[0], network.frames, problems, remarks)
            (_dense if stage.kind == "dense" else _convolution)(stage, problems, remarks)
        elif isinstance(stage, SynapseStage):
            _synapse(stage, received[0], problems, remarks)
        elif isinstance(stage, NeuronStage | RelayStage):
            _meeting(stage, received, problems, remarks)
        if network.edges[stage.name].peak > MESSAGE_MAX and not isinstance(stage, SynapseStage):
            problems.append(
                f"payloads up to {network.edges[stage.name].peak} exceed the 24 bits of a message"
            )
        errors += [f"{stage.name}: {problem}" for problem in problems]
        notes += [f"{stage.name}: {remark}" for remark in remarks]
    errors += misaligned(network, schedule(network))
    return Findings(tuple(errors), tuple(notes))


def check(network: IntegerNetwork) -> Findings:
    """The findings of a network without errors.

    Raises:
        UnsupportedError: If there are errors; lists all of them.
    """
    findings = lint(network)
    if findings.errors:
        raise UnsupportedError(
            f"Lava would load this network and compute something else:{bullets(findings.errors)}",
            where=network.name,
        )
    return findings


def _neurons(layer: LayerStage | NeuronStage, problems: list[str], remarks: list[str]) -> None:
    low, high = int(layer.bias.min()), int(layer.bias.max())
    if low < INT16[0] or high > INT16[1]:
        problems.append(f"biases from {low} to {high} do not fit 16 bits; Lava wraps them silently")
    elif max(-low, high) > HARDWARE_BIAS:
        remarks.append(f"biases up to {max(-low, high)} exceed the 13 bits of the chip")
    least, most = int(layer.threshold.min()), int(layer.threshold.max())
    if most > THRESHOLD_MAX:
        problems.append(f"threshold {most} can never be exceeded: the voltage saturates at {THRESHOLD_MAX}")
    if least < 0:
        problems.append(f"threshold {least} is negative: the neuron would fire from rest")
    if layer.threshold.ndim:
        remarks.append("a threshold per channel runs in the simulation, but a chip has one per population")


def _sums(layer: LayerStage, received: Edge, frames: int, problems: list[str], remarks: list[str]) -> None:
    bound = synapse_bound(layer, received)
    kept = bound if layer.kind == "dense" else min(bound, CONV_MAX)
    # a current with memory adds up; wrapping once per step undoes little of that
    added = kept if layer.i_decay == UNITY else kept * frames
    if layer.kind != "dense" and bound > INT32_MAX:
        problems.append(f"sums up to {bound} can overflow 32 bits before Lava wraps them to 24")
    elif added > SUM_MAX:
        problems.append(f"currents up to {added} can overflow: Lava keeps 64 times their value in 32 bits")
    elif bound > CURRENT_MAX and layer.kind != "pool":
        remarks.append(f"the weights allow currents up to {bound}; beyond {CURRENT_MAX} they wrap")


def _convolution(layer: LayerStage | SynapseStage, problems: list[str], remarks: list[str]) -> None:
    small = {"groups": layer.groups, "kernel": max(layer.weight.shape[2:])}
    small |= {name: max(getattr(layer, name)) for name in ("stride", "padding", "dilation")}
    for name, value in small.items():
        if value > INT8_MAX:
            problems.append(
                f"{name} {value} does not fit the 8 bits that Lava keeps it in: outputs become zero"
            )
    if np.abs(layer.weight).max() > INT8_MAX:
        remarks.append(f"weights up to {np.abs(layer.weight).max()} exceed the 8 bits of a synapse")


def _dense(layer: LayerStage | SynapseStage, problems: list[str], remarks: list[str]) -> None:
    low, high = int(layer.weight.min()), int(layer.weight.max())
    if low == high == 0:
        problems.append("all weights are zero: netx fails with an OverflowError")
    elif high < 0:
        problems.append("all weights are negative: netx computes other weights for some such matrices")
    elif low >= 0 and high > 255:
        problems.append(f"non-negative weights up to {high} exceed 255: netx makes them all zero")
    elif low < 0 and (low < -256 or high > 254):
        problems.append(f"weights from {low} to {high} exceed -256..254: netx clips them")
    elif max(-low, high) > INT8_MAX:
        remarks.append(f"weights from {low} to {high} exceed 8 bits; only even ones exist on the chip")


def _synapse(stage: SynapseStage, received: Edge, problems: list[str], remarks: list[str]) -> None:
    bound = synapse_bound(stage, received)
    if stage.kind == "dense":
        _dense(stage, problems, remarks)
        bound <<= _shifted_left(stage)
    else:
        _convolution(stage, problems, remarks)
    if bound > INT32_MAX:
        problems.append(f"sums up to {bound} can overflow the 32 bits that Lava adds them in")
    elif stage.kind != "dense" and bound >= CONV_MAX:
        remarks.append(f"the weights allow sums up to {bound}; beyond {CONV_MAX} they wrap")
    if stage.kind == "transposed":
        reach = [d * (k - 1) for d, k in zip(stage.dilation, stage.weight.shape[2:], strict=True)]
        if any(p > r for p, r in zip(stage.padding, reach, strict=True)):
            problems.append(f"padding {stage.padding} is wider than the kernel of a transposed convolution")


def _shifted_left(stage: SynapseStage) -> int:
    """Bits by which netx shifts dense weights to fill eight bits; the sums are shifted too until they are shifted back."""
    low, high = int(stage.weight.min()), int(stage.weight.max())
    room = min([127 / high] * (high > 0) + [128 / -low] * (low < 0), default=1.0)
    return max(int(np.floor(np.log2(room))) + 1, 0) if room > 0 else 0


def _meeting(
    stage: NeuronStage | RelayStage, received: tuple[Edge, ...], problems: list[str], remarks: list[str]
) -> None:
    total = sum(edge.peak for edge in received)
    if isinstance(stage, RelayStage):
        if total > INT32_MAX:
            problems.append(f"sums up to {total} exceed the 32 bits of a port")
        return
    _neurons(stage, problems, remarks)
    if total > SUM_MAX:
        problems.append(f"currents up to {total} can overflow: Lava keeps 64 times their value in 32 bits")
    elif total > CURRENT_MAX:
        remarks.append(f"the inputs allow currents up to {total}; beyond {CURRENT_MAX} they wrap")
    if not stage.stock:
        remarks.append("a soft reset or a reset value needs a neuron program: Loihi 2 only")
