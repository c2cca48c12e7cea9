"""The manifest's section on the network of a bundle: parts in order, their timing, shapes, kinds and units.

A chain of layers and gates needs only version 1 of this section. A graph needs version 2, in which every part also names
its inputs, the steps by which each is delayed, and what the part sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcja_deploy.exporters.lava.netfile import net_input_shape
from tcja_deploy.exporters.lava.schedule import Part, latency, parts
from tcja_deploy.exporters.lava.stage_files import kind_of
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stages import Edge, ProgramStage, SynapseStage

__all__ = ["STRUCTURE", "describe", "message_bits"]

VERSION = 2
_LAYER = {"name": str, "kind": str, "in_shape": [int]}
STRUCTURE = {
    "name": str,
    "frames": int,
    "version?": int,
    "parts": [
        {
            "kind": str,
            "file": str,
            "name?": str,
            "type?": str,
            "in_shape": [int],
            "out_shape?": [int],
            "inputs?": [str],
            "layers?": [_LAYER],
        }
    ],
    "input": {"shape": [int], "binary": bool, "peak": int, "scale": int, "unit": int, "limbs": [int]},
    "readout": {"vote": int, "time_mean": bool},
}
"""Structure of the entries of the section that are read."""


def describe(network: IntegerNetwork) -> dict[str, Any]:
    """The manifest's section on the network itself."""
    numbers: dict[str, int] = {}
    entries = []
    for part in parts(network):
        kind = "segment" if part.layers else kind_of(part.stages[0])
        number = numbers.setdefault(kind, 0)
        numbers[kind] += 1
        suffix = "net" if part.layers else "npz"
        entry = {"kind": kind, "file": f"{kind}_{number}.{suffix}", "arrives": part.arrives}
        entry |= _segment(part, network) if part.layers else _single(part, network)
        if not network.chain:
            entry["inputs"], entry["delays"] = list(part.stages[0].inputs), list(part.times[0].delays)
        entries.append(entry)
    host, readout = network.host_input, network.readout
    section = {} if network.chain else {"version": VERSION}
    about = {
        "where": "on the host",
        "linear": readout.weight is not None,
        "vote": readout.vote,
        "time_mean": readout.time_mean,
    }
    if readout.function is not None:
        about["function"] = readout.function
    return section | {
        "name": network.name,
        "frames": network.frames,
        "latency": latency(network),
        "unit": network.unit,
        "input": {
            "shape": list(host.shape),
            "payload_shape": list(host.out_shape),
            "binary": host.binary,
            "peak": host.peak,
            "scale": host.scale,
            "unit": host.unit,
            "limbs": list(host.limbs),
        },
        "parts": entries,
        "readout": about,
    }


def message_bits(edge: Edge) -> int:
    """Number of message bits that netx and Lava's synapses are given; with 0 they treat every payload as a spike."""
    return 0 if edge.kind == "spike" else edge.peak.bit_length()


def _segment(part: Part, network: IntegerNetwork) -> Mapping[str, Any]:
    layers = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "in_shape": list(layer.in_shape),
            "out_shape": list(layer.out_shape),
            "step": time.leaves,
        }
        for layer, time in zip(part.layers, part.times, strict=True)
    ]
    return {
        "reset_offset": part.reset_offset,
        "message_bits": message_bits(network.arrives(part.layers[0])[0]),
        "in_shape": list(net_input_shape(part.layers)),
        "layers": layers,
    }


def _single(part: Part, network: IntegerNetwork) -> Mapping[str, Any]:
    (stage,), received = part.stages, network.arrives(part.stages[0])
    sent = network.edges[stage.name]
    entry: dict[str, Any] = {
        "name": stage.name,
        "step": part.times[0].leaves,
        "in_shape": list(stage.in_shape if isinstance(stage, SynapseStage) else received[0].shape),
        "out_shape": list(sent.shape),
        "unit": sent.unit,
        "peak": sent.peak,
    }
    if network.chain:
        return entry
    entry |= {"sends": sent.kind, "bits": sent.bits}
    if isinstance(stage, SynapseStage):
        entry |= {"type": stage.kind, "message_bits": message_bits(received[0])}
    if isinstance(stage, ProgramStage):
        entry |= {
            "program": stage.program.description,
            "in_shapes": [list(shape) for shape in stage.in_shapes],
        }
    return entry
