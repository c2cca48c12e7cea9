"""The graph: nodes in order of evaluation, each with one named value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tcja_deploy.errors import GraphError
from tcja_deploy.ir.op import Op
from tcja_deploy.ir.ops import Input, Neuron
from tcja_deploy.ir.signal import Signal, Value

__all__ = ["Graph", "GraphBuilder", "Node"]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One op at one place.

    Attributes:
        name: Module path in the model it came from, unique; also the name of the node's value.
        op: What it computes.
        inputs: Names of the values it reads.
        value: Its result.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    value: Value

    @property
    def signal(self) -> Signal:
        """Signal of the result."""
        return self.value.signal


@dataclass(frozen=True, eq=False)
class Graph:
    """A network over windows of ``T`` time steps.

    Build it with ``GraphBuilder``; the constructor does not check (``ir.verify`` does).

    Attributes:
        T: Time steps of a window.
        nodes: In an order in which every input precedes its readers. The first one is the ``Input``.
        output: Name of the value that is the result.
        source: Where the graph came from: format, file hash, architecture and the like, for manifests.
    """

    T: int
    nodes: tuple[Node, ...]
    output: str
    source: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def input(self) -> Node:
        """The node where frames enter."""
        return self.nodes[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input frame of one sample, such as ``(2, 128, 128)``."""
        return self.input.signal.features

    def signals_in(self, node: Node) -> tuple[Signal, ...]:
        """Signals that the node reads."""
        by_name = {n.name: n.signal for n in self.nodes}
        return tuple(by_name[name] for name in node.inputs)

    def readers(self, name: str) -> tuple[Node, ...]:
        """Nodes that read a value."""
        return tuple(n for n in self.nodes if name in n.inputs)

    @property
    def neurons(self) -> tuple[Node, ...]:
        """The spiking layers, in order."""
        return tuple(n for n in self.nodes if isinstance(n.op, Neuron))

    @property
    def parameters(self) -> int:
        """Number of stored weights."""
        return sum(n.op.parameters for n in self.nodes)

    @property
    def hash(self) -> str:
        """SHA-256 of structure and weights, independent of ``source``; the identity of the model in manifests."""
        digest = hashlib.sha256()
        for node in self.nodes:
            plain: dict[str, Any] = {}
            for name, constant in node.op.constants().items():
                if isinstance(constant, np.ndarray):
                    plain[name] = [
                        list(constant.shape),
                        hashlib.sha256(np.ascontiguousarray(constant).tobytes()).hexdigest(),
                    ]
                else:
                    plain[name] = constant
            digest.update(
                json.dumps([node.name, type(node.op).__name__, node.inputs, plain], sort_keys=True).encode()
            )
        digest.update(json.dumps([self.T, self.output]).encode())
        return digest.hexdigest()


class GraphBuilder:
    """Builds a graph node by node, inferring every signal.

    >>> b = GraphBuilder(T=4)
    >>> x = b.add("input", Input((2, 8, 8)))
    >>> graph = b.finish(b.add("spikes", IF(), x))
    """

    def __init__(self, T: int) -> None:
        if T < 1:
            raise GraphError(f"a window needs at least one time step, got T = {T}")
        self.T = T
        self._nodes: dict[str, Node] = {}

    def add(self, name: str, op: Op, *inputs: str) -> str:
        """Append a node and return the name of its value.

        Raises:
            GraphError: If the name is taken, an input is unknown, the op has faults, or does not accept its inputs.
        """
        if name in self._nodes:
            raise GraphError("two nodes have this name", where=name)
        missing = [i for i in inputs if i not in self._nodes]
        if missing:
            raise GraphError(f"reads values that do not exist (yet): {', '.join(missing)}", where=name)
        if not op.accepts(len(inputs)):
            raise GraphError(f"{type(op).__name__} got {len(inputs)} inputs", where=name)
        if faults := op.faults():
            raise GraphError(f"{type(op).__name__}: {'; '.join(faults)}", where=name)
        try:
            signal = op.infer(*(self._nodes[i].signal for i in inputs), T=self.T)
        except GraphError as error:
            raise GraphError(f"{type(op).__name__}: {error.reason}", where=name) from None
        self._nodes[name] = Node(name, op, tuple(inputs), Value(name, signal))
        return name

    def __getitem__(self, name: str) -> Node:
        """A node added before."""
        return self._nodes[name]

    def signal(self, name: str) -> Signal:
        """Signal of a value added before."""
        return self._nodes[name].signal

    def finish(self, output: str, source: dict[str, str] | None = None) -> Graph:
        """The graph whose result is ``output``; nodes that do not lead there are left out.

        Raises:
            GraphError: If the finished graph breaks a rule.
        """
        from tcja_deploy.ir.verify import verify

        if output not in self._nodes:
            raise GraphError("the output is no value of the graph", where=output)
        needed, open_names = set(), [output]
        while open_names:
            name = open_names.pop()
            if name not in needed:
                needed.add(name)
                open_names.extend(self._nodes[name].inputs)
        nodes = tuple(n for n in self._nodes.values() if n.name in needed or isinstance(n.op, Input))
        graph = Graph(self.T, nodes, output, dict(source or {}))
        verify(graph)
        return graph
