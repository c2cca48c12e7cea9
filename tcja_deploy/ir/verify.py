"""The rules of the IR, checked all at once."""

from __future__ import annotations

import math

import numpy as np

from tcja_deploy.errors import GraphError
from tcja_deploy.ir.graph import Graph, Node
from tcja_deploy.ir.ops import IF, LIF, OPS, PLIF, Input, Neuron
from tcja_deploy.ir.signal import Signal

__all__ = ["verify", "violations"]


def violations(graph: Graph) -> list[str]:
    """Every broken rule as ``node: what is wrong``; empty for a sound graph."""
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
        found.append(f"graph: the output {graph.output!r} is no value of the graph")
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
        lines = "".join(f"\n  - {reason}" for reason in found)
        raise GraphError(f"the graph breaks {len(found)} rule{'s' if len(found) > 1 else ''}:{lines}")


def _node_violations(node: Node, signals: dict[str, Signal], T: int) -> list[str]:
    found = []
    if node.name in signals:
        found.append("two nodes have this name")
    if node.value.name != node.name:
        found.append(f"its value is called {node.value.name!r}")
    if OPS.get(type(node.op).__name__) is not type(node.op):
        found.append(f"{type(node.op).__name__} is no op of the IR")
        return found
    missing = [i for i in node.inputs if i not in signals]
    if missing:
        found.append(f"reads values that do not precede it: {', '.join(missing)}")
    else:
        try:
            inferred = node.op.infer(*(signals[i] for i in node.inputs), T=T)
        except GraphError as error:
            found.append(error.reason)
        except (ValueError, TypeError, IndexError) as error:
            found.append(f"does not accept its inputs ({error})")
        else:
            if inferred != node.signal:
                found.append(f"is declared {node.signal}, but computes {inferred}")
    for name, constant in node.op.constants().items():
        if isinstance(constant, np.ndarray):
            if constant.dtype != np.float32:
                found.append(f"{name} is {constant.dtype}, not float32")
            elif not np.isfinite(constant).all():
                found.append(f"{name} holds numbers that are not finite")
    if isinstance(node.op, Neuron):
        found += _neuron_violations(node.op)
    return found


def _neuron_violations(op: Neuron) -> list[str]:
    found = []
    if not (math.isfinite(op.v_threshold) and op.v_threshold > op.v_rest):
        found.append(f"the threshold {op.v_threshold} does not lie above the resting membrane {op.v_rest}")
    if isinstance(op, LIF) and not op.tau >= 1:
        found.append(f"tau = {op.tau} is below 1")
    if isinstance(op, PLIF) and not 0 < op.decay <= 1:
        found.append(f"the decay {op.decay} is outside (0, 1]")
    if not isinstance(op, LIF | PLIF | IF):
        found.append(f"{type(op).__name__} is an abstract neuron")
    return found
