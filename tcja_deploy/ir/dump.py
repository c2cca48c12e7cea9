"""A graph as text: one line per node, the same for the same graph."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tcja_deploy.ir.graph import Graph

__all__ = ["dump"]


def dump(graph: Graph) -> str:
    """Text of a graph, one line per node; weights as shape and the first 8 digits of their SHA-256."""
    lines = [f"graph T={graph.T} hash={graph.hash[:16]}"]
    for node in graph.nodes:
        constants = ", ".join(f"{k}={_text(v)}" for k, v in node.op.constants().items())
        lines.append(
            f"  {node.name}: {node.signal} = {type(node.op).__name__}({', '.join(node.inputs)})"
            + (f" {{{constants}}}" if constants else "")
        )
    lines.append(f"  -> {graph.output}")
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:8]
        return f"{'x'.join(map(str, value.shape))}#{digest}"
    return str(value)
