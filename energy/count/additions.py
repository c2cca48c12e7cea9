"""What a network with branches needs on a spiking chip besides its layers with weights, derived from the graph alone.

Real values that are sent on need relays: neurons without a threshold, whose sums leave as graded spikes. Products of
spikes are populations of threshold logic. Where branches of unequal depth meet, the earlier one is delayed. Attention is
a program for a processor next to the neuron cores. A layer with weights and a pool take one time step each, a program T -
1 steps if it needs the whole window, neurons and relays none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tcja_deploy.energy.count.branches import attention_nodes
from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir

__all__ = ["Addition", "additions"]


@dataclass(frozen=True, slots=True)
class Addition:
    """One part that is not a layer with weights.

    Attributes:
        kind: Kind of the part.
        node: Its node: the one whose value a relay or a logic population sends, whose input a delay holds back, or with
            which a program ends.
        source: The value that a delay holds back; otherwise that of the node.
        elements: Number of values per time step.
        steps: Length of a delay, or duration of a program, in time steps; 0 otherwise.
        layer: For a relay, the layer with weights whose population it is, because its sums arrive there; empty if there
            is none.
    """

    kind: Literal["relay", "logic", "delay", "program"]
    node: str
    source: str
    elements: int
    steps: int = 0
    layer: str = ""


def additions(graph: Graph) -> tuple[Addition, ...]:
    """All additions, in the order of the graph."""
    attention, tail = attention_nodes(graph), _tail(graph)
    leaves: dict[str, int] = {}
    found: list[Addition] = []
    programs = _programs(graph, attention)
    for node in graph:
        inputs = [name for name in node.inputs if name in leaves]
        arrives = max((leaves[name] for name in inputs), default=0)
        if node.name in attention:
            if node.name in programs:
                sources, window = programs[node.name]
                arrives = max((leaves[name] for name in sources), default=0)
                steps = graph.T - 1 if window else 0
                leaves[node.name] = arrives + steps
                found.append(Addition("program", node.name, node.name, node.signal.size, steps))
            continue
        leaves[node.name] = arrives + _takes(node)
        if node.name in tail:
            continue
        found += [
            Addition("delay", node.name, name, graph[name].signal.size, arrives - leaves[name])
            for name in inputs
            if leaves[name] < arrives
        ]
        if isinstance(node.op, ir.Mul):
            found.append(Addition("logic", node.name, node.name, node.signal.size))
        elif _relayed(graph, node, tail):
            layer = _layer(graph, node)
            found.append(Addition("relay", node.name, node.name, node.signal.size, layer=layer))
    return tuple(found)


def _takes(node: Node) -> int:
    pools = ir.MaxPool2d | ir.AvgPool2d | ir.AdaptiveAvgPool2d
    return int(node.op.synaptic or isinstance(node.op, pools))


_SUMS = ir.Add | ir.Affine | ir.BatchNorm1d | ir.BatchNorm2d


def _relayed(graph: Graph, node: Node, tail: frozenset[str]) -> bool:
    """Whether a real value is sent to other populations, instead of being a sum inside a single population."""
    integrator = node.op.membrane and not node.op.spiking
    if not (node.op.synaptic or integrator or isinstance(node.op, _SUMS)):
        return False
    readers = graph.readers(node.name)
    if integrator or len(readers) != 1:
        return True
    reader = readers[0]
    within = isinstance(reader.op, _SUMS) or reader.op.membrane
    return not within or reader.name in tail


def _layer(graph: Graph, node: Node) -> str:
    """A layer with weights whose sums are a node's value or a summand of it; empty if there is none."""
    if node.op.synaptic:
        return node.name
    if isinstance(node.op, _SUMS) or (node.op.membrane and not node.op.spiking):
        alone = [graph[name] for name in node.inputs if len(graph.readers(name)) == 1]
        return next(filter(None, (_layer(graph, before) for before in alone)), "")
    return ""


def _tail(graph: Graph) -> frozenset[str]:
    """The last nodes, which the host computes: linear maps, means over time, a sigmoid."""
    hosted = (
        ir.Flatten
        | ir.Linear
        | ir.Vote
        | ir.AvgPool2d
        | ir.AdaptiveAvgPool2d
        | ir.TimeMean
        | ir.Reduce
        | ir.Sigmoid
    )
    names: set[str] = set()
    node = graph[graph.output]
    while isinstance(node.op, hosted) and node.inputs and len(graph.readers(node.name)) <= 1:
        names.add(node.name)
        node = graph[node.inputs[0]]
    return frozenset(names)


def _programs(graph: Graph, attention: frozenset[str]) -> Mapping[str, tuple[frozenset[str], bool]]:
    """For the last node of each attention, what the attention reads, and whether it needs the whole window."""
    inside: dict[str, tuple[frozenset[str], bool]] = {}
    ends: dict[str, tuple[frozenset[str], bool]] = {}
    for node in graph:
        if node.name not in attention:
            continue
        sources = frozenset(name for name in node.inputs if name not in attention)
        window = isinstance(node.op, ir.TCJA) or not node.signal.streams
        for name in node.inputs:
            if name in inside:
                sources, window = sources | inside[name][0], window or inside[name][1]
        inside[node.name] = (sources, window)
        readers = graph.readers(node.name)
        if not readers or any(reader.name not in attention for reader in readers):
            ends[node.name] = inside[node.name]
    return ends
