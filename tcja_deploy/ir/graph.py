"""The graph: nodes in order of evaluation, each with one named value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir.op import Op
from tcja_deploy.ir.signal import Signal, Value

__all__ = ["Graph", "Node"]


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
    """A network over windows of `T` time steps.

    Build it with `ir.GraphBuilder`; the constructor does not check (`ir.verify` does).

    Attributes:
        T: Time steps of a window.
        nodes: In an order in which every input precedes its readers. The first one is the `Input`.
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
        """Shape of one input frame of one sample, such as `(2, 128, 128)`."""
        return self.input.signal.features

    def signals_in(self, node: Node) -> tuple[Signal, ...]:
        """Signals that the node reads."""
        by_name = {n.name: n.signal for n in self.nodes}
        return tuple(by_name[name] for name in node.inputs)

    def readers(self, name: str) -> tuple[Node, ...]:
        """Nodes that read a value."""
        return tuple(n for n in self.nodes if name in n.inputs)

    def with_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> Graph:
        """The same network with other weights for the named nodes, of the shapes that they had."""
        nodes = (
            replace(node, op=replace(node.op, weight=weights[node.name])) if node.name in weights else node  # type: ignore[call-arg]
            for node in self
        )
        return replace(self, nodes=tuple(nodes))

    @property
    def neurons(self) -> tuple[Node, ...]:
        """The spiking layers, in order."""
        return tuple(n for n in self.nodes if n.op.spiking)

    @property
    def parameters(self) -> int:
        """Number of stored weights."""
        return sum(n.op.parameters for n in self.nodes)

    @property
    def hash(self) -> str:
        """SHA-256 of structure and weights, independent of `source`; the identity of the model in manifests."""
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
