"""A graph as rows: what each node is, for tables and JSON."""

from __future__ import annotations

from typing import Any

from tcja_deploy.ir.graph import Graph, Node

__all__ = ["frame_macs", "node_rows"]


def frame_macs(graph: Graph, node: Node) -> int:
    """Dense multiply-accumulates of one frame, or of the window for a value that a window has once."""
    macs = node.op.macs(*graph.signals_in(node), T=graph.T)
    return macs // (graph.T if "T" in node.signal.dims else 1)


def node_rows(graph: Graph) -> list[dict[str, Any]]:
    """Name, op, shape, signal kind, parameters, MACs per frame and look-ahead (in frames) of every node, in order."""
    return [
        {
            "name": node.name,
            "op": type(node.op).__name__,
            "shape": [str(d) for d in node.signal.dims],
            "kind": str(node.signal.kind),
            "parameters": node.op.parameters,
            "macs": frame_macs(graph, node),
            "lookahead": node.op.lookahead(*graph.signals_in(node), T=graph.T),
        }
        for node in graph
    ]
