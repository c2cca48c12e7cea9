"""The structure of a network: which nodes belong to an attention branch, and which layer is the first."""

from __future__ import annotations

from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir

__all__ = ["attention_nodes", "first_layers"]


def attention_nodes(graph: Graph) -> frozenset[str]:
    """Names of the nodes that only serve a gate: every path to the output goes through a sigmoid into a product.

    The products themselves are included; the spikes that a branch squeezes are not, because the trunk reads them too.
    """
    gates: set[str] = set()  # sigmoids, and what depends on their results alone
    for node in graph:
        combines = node.op.moves_only or node.op.elementwise or isinstance(node.op, ir.Reduce)
        if isinstance(node.op, ir.Sigmoid) or (combines and all(name in gates for name in node.inputs)):
            gates.add(node.name)
    for node in reversed(graph.nodes):
        readers = graph.readers(node.name)
        serves = bool(readers) and all(isinstance(r.op, ir.Mul) or r.name in gates for r in readers)
        if node.name in gates and not serves:
            gates.discard(node.name)
    branch = set(gates)
    for node in reversed(graph.nodes):
        readers = graph.readers(node.name)
        inside = bool(readers) and all(r.name in branch for r in readers) and node.name != graph.output
        if inside and not node.op.spiking and not isinstance(node.op, ir.Input):
            branch.add(node.name)
    products = {n.name for n in graph if isinstance(n.op, ir.Mul) and any(i in gates for i in n.inputs)}
    return frozenset(branch | products | {n.name for n in graph if isinstance(n.op, ir.TCJA)})


def first_layers(graph: Graph) -> frozenset[str]:
    """Names of the layers with weights that read the network's input: no neuron and no other weights precede them."""
    raw = {graph.input.name}  # values that depend on the input alone
    first = set()
    for node in graph.nodes[1:]:
        if node.inputs and all(name in raw for name in node.inputs):
            if node.op.synaptic:
                first.add(node.name)
            elif not node.op.spiking:
                raw.add(node.name)
    return frozenset(first)
