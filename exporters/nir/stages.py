"""Cutting a network into its readout, which NIR cannot express, stages that NIR can hold, and stages that it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.nir.rules import unsupported_nodes
from tcja_deploy.ir import Graph, GraphBuilder, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.notes import READOUT
from tcja_deploy.unsupported import UnsupportedParts

__all__ = ["Stage", "part", "split_readout", "stages"]


@dataclass(frozen=True)
class Stage:
    """A part of a network with one input and one output.

    Attributes:
        kind: `"nir"` if NIR can hold it, `"host"` if not.
        graph: The part; its input has the name of the value that enters it.
    """

    kind: Literal["nir", "host"]
    graph: Graph


def part(graph: Graph, entry: str, nodes: Sequence[Node]) -> Graph:
    """Some nodes as a separate network, from the value `entry` to the last of them."""
    builder = GraphBuilder(graph.T)
    start = graph[entry]
    op = start.op if isinstance(start.op, ir.Input) else ir.Input(start.signal.features, start.signal.kind)
    builder.add(entry, op)
    for node in nodes:
        builder.add(node.name, node.op, *node.inputs)
    return builder.finish(nodes[-1].name if nodes else entry)


def split_readout(graph: Graph) -> tuple[Graph, tuple[Op, ...]]:
    """The network up to its readout, and the means and votes that form the readout."""
    output, ops = graph.output, []
    while type(graph[output].op) in READOUT.values():
        node = graph[output]
        ops.append(node.op)
        output = node.inputs[0]
        if len(graph.readers(output)) > 1:
            return graph, ()
    body = [n for n in graph.nodes[1:] if n.name not in _behind(graph, output)]
    return part(graph, graph.input.name, body), tuple(ops[::-1])


def _behind(graph: Graph, name: str) -> set[str]:
    found = set()
    for node in graph:
        if any(i == name or i in found for i in node.inputs):
            found.add(node.name)
    return found


def stages(graph: Graph) -> list[Stage]:
    """Stages in order; neighbours of the same kind are merged.

    Raises:
        UnsupportedError: If NIR cannot hold a neuron, which would then have to run on the host.
    """
    on_host, neurons = unsupported_nodes(graph), UnsupportedParts()
    for name, reason in on_host:
        if graph[name].op.spiking:
            neurons.add(name, reason)
    neurons.raise_if_any(
        UnsupportedError, "NIR cannot express {}, and on the host there are none", noun="neuron"
    )
    places = on_host.places
    found: list[tuple[bool, str, list[Node]]] = []
    entry, block = graph.input.name, []
    for i, node in enumerate(graph.nodes[1:], start=1):
        block.append(node)
        if _is_cut(graph, i):
            host = any(n.name in places for n in block)
            if found and found[-1][0] == host:
                found[-1][2].extend(block)
            else:
                found.append((host, entry, block))
            entry, block = node.name, []
    return [Stage("host" if host else "nir", part(graph, start, nodes)) for host, start, nodes in found]


def _is_cut(graph: Graph, i: int) -> bool:
    """Whether later nodes read no earlier value than that of node `i`, and it is a stream of frames."""
    node = graph.nodes[i]
    if node.name == graph.output:
        return True
    before = {n.name for n in graph.nodes[:i]}
    crossing = any(name in before for later in graph.nodes[i + 1 :] for name in later.inputs)
    return not crossing and node.signal.dims == ("T", "N", *node.signal.features)
