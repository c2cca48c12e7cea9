"""The rules of the IR, checked all at once."""

from __future__ import annotations

import numpy as np

from tcja_deploy.errors import GraphError
from tcja_deploy.ir.graph import Graph, Node
from tcja_deploy.ir.op import Op
from tcja_deploy.ir.ops import OPS, Input
from tcja_deploy.ir.signal import Signal
from tcja_deploy.unsupported import bullets

__all__ = ["verify", "violations"]


def violations(graph: Graph) -> list[str]:
    """Every broken rule as `node: what is wrong`; empty for a sound graph."""
    found: list[str] = []
    signals: dict[str, Signal] = {}
    if graph.T < 1:
        found.append(f"graph: T = {graph.T} is not positive")
    if not graph.nodes or not isinstance(graph.nodes[0].op, Input):
        found.append("graph: the first node is not the input")
    for node in graph.nodes:
        found += [f"{node.name}: {reason}" for reason in _node_violations(node, signals, graph.T)]
        signals[node.name] = node.signal
    if sum(isinstance(n.op, Input) for n in graph.nodes) > 1:
        found.append("graph: there is more than one input")
    if graph.output not in signals:
        found.append(f"graph: the output {graph.output!r} is not a value of the graph")
    unread = set(signals) - {i for n in graph.nodes for i in n.inputs} - {graph.output}
    found += [f"{name}: nobody reads this value" for name in signals if name in unread]
    return found


def verify(graph: Graph) -> None:
    """Check a graph.

    Raises:
        GraphError: If any rule is broken; the message lists every violation.
    """
    found = violations(graph)
    if found:
        count = f"{len(found)} rule{'s' if len(found) > 1 else ''}"
        raise GraphError(f"the graph breaks {count}:{bullets(found)}")


def _node_violations(node: Node, signals: dict[str, Signal], T: int) -> list[str]:
    found = []
    if node.name in signals:
        found.append("two nodes have this name")
    if node.value.name != node.name:
        found.append(f"its value is called {node.value.name!r}")
    if OPS.get(type(node.op).__name__) is not type(node.op):
        found.append(f"{type(node.op).__name__} is not an op of the IR")
        return found
    unfit = node.op.faults()
    if not node.op.accepts(len(node.inputs)):
        unfit.append(f"{type(node.op).__name__} got {len(node.inputs)} inputs")
    missing = [i for i in node.inputs if i not in signals]
    if missing:
        unfit.append(f"reads values that do not precede it: {', '.join(missing)}")
    if not unfit:
        try:
            inferred = node.op.infer(*(signals[i] for i in node.inputs), T=T)
        except GraphError as error:
            unfit.append(error.reason)
        else:
            if inferred != node.signal:
                unfit.append(f"is declared {node.signal}, but computes {inferred}")
    found += unfit
    return found + _number_violations(node.op)


def _number_violations(op: Op) -> list[str]:
    """Constants that float32 cannot hold."""
    found = []
    for name, constant in op.constants().items():
        if isinstance(constant, np.ndarray) and constant.dtype != np.float32:
            found.append(f"{name} is {constant.dtype}, not float32")
        elif isinstance(constant, np.ndarray) and not np.isfinite(constant).all():
            found.append(f"{name} holds numbers that are not finite")
        elif isinstance(constant, float) and not abs(constant) <= _LARGEST:
            found.append(f"{name} = {constant} is not finite in float32")
    return found


_LARGEST = float(np.finfo(np.float32).max)
