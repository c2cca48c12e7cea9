"""Translation of a graph to a `nir.NIRGraph`.

The sum of one or several NIR nodes represents every value of the network, up to a factor: residual additions are edges
that meet, and pooling by sums is free where the weights or thresholds after it can absorb the factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.nir.convolution import diagonal
from tcja_deploy.exporters.nir.rules import RULES, unsupported_nodes
from tcja_deploy.exporters.nir.writer import NirValue, Writer
from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedParts

__all__ = ["NirNetwork", "emit"]


@dataclass(frozen=True)
class NirNetwork:
    """A graph in NIR.

    Attributes:
        graph: The NIR graph, with the shapes along all edges checked by nir.
        names: For each node of the network, the NIR node whose result is its value; nodes merged into others have none.
        notes: What was done to each node, by name.
    """

    graph: nir.NIRGraph
    names: dict[str, str]
    notes: dict[str, str]


def emit(network: Graph, dt: float, metadata: dict[str, Any]) -> NirNetwork:
    """Translate a network.

    Args:
        network: The network, without its readout: its result has to have a time axis.
        dt: Length of a time step in seconds.
        metadata: Metadata of the NIR graph.

    Raises:
        UnsupportedError: If NIR cannot hold a node; lists all of them.
    """
    unsupported = unsupported_nodes(network)
    _raise(unsupported)
    writer = Writer(network, dt)
    values: dict[str, NirValue] = {}
    names: dict[str, str] = {}
    for node in network:
        inputs = [values[i] for i in node.inputs]
        value = NirValue(())
        with unsupported.at(node.name):
            if isinstance(node.op, ir.Input):
                value = writer.put(node, nir.Input(np.array(node.signal.features)), value)
            elif isinstance(node.op, ir.Add):
                value = _add(writer, node, inputs)
            else:
                value = RULES[type(node.op)](writer, node, node.op, inputs[0])
        values[node.name] = value
        if len(value.sources) == 1 and value.factor == 1.0:
            names[node.name] = value.sources[0]
    result = values[network.output]
    if len(result.sources) > 1:
        with unsupported.at(network.output):
            result = _gathered(writer, network[network.output], result)
            names[network.output] = result.sources[0]
    _raise(unsupported)
    writer.nodes["output"] = nir.Output(np.array(network[network.output].signal.features))
    writer.edges.append((result.sources[0], "output"))
    graph = nir.NIRGraph(writer.nodes, writer.edges, metadata=metadata)
    return NirNetwork(graph, names, {name: "; ".join(texts) for name, texts in writer.notes.items()})


def _raise(unsupported: UnsupportedParts) -> None:
    unsupported.raise_if_any(UnsupportedError, "NIR cannot express {}", noun="node")


def _add(writer: Writer, node: Node, inputs: list[NirValue]) -> NirValue:
    """A residual addition: readers of NIR add up edges that meet.

    Raises:
        Unsupported: If it adds a value to itself.
    """
    sources = tuple(s for x in inputs for s in x.sources)
    if len(set(sources)) < len(sources):
        raise Unsupported("adds a value to itself, and NIR has no double edges")
    writer.note(node, "edges that meet in the next node")
    return NirValue(sources)


def _gathered(writer: Writer, node: Node, x: NirValue) -> NirValue:
    """A sum as the result of a single node, because readers return each edge into the output separately.

    Raises:
        Unsupported: If the frames have neither one axis nor three.
    """
    features = node.signal.features
    if len(features) == 1:
        return writer.put(node, nir.Linear(np.eye(features[0], dtype=np.float32)), x)
    if len(features) != 3:
        raise Unsupported(f"is a sum of frames {list(features)}, which cannot be the result of a NIR graph")
    op = diagonal(np.ones((features[0], 1, 1), np.float32))
    written = nir.Conv2d(features[1:], op.weight, 1, 0, 1, 1, np.zeros(features[0], np.float32))
    return writer.put(node, written, x)
