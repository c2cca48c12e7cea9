"""Building a graph node by node, with every signal inferred and every rule checked."""

from __future__ import annotations

from collections.abc import Iterator

from tcja_deploy.errors import GraphError
from tcja_deploy.ir.graph import Graph, Node
from tcja_deploy.ir.op import Op
from tcja_deploy.ir.ops import Input
from tcja_deploy.ir.signal import Signal, Value
from tcja_deploy.ir.verify import verify

__all__ = ["GraphBuilder"]


_LONGEST = 500
"""Characters of a node's name."""


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
        if not name.isprintable() or len(name) > _LONGEST:
            raise GraphError("a node's name has control characters, or is very long", where=name[:_LONGEST])
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

    def __iter__(self) -> Iterator[Node]:
        """The nodes so far, in the order in which they were added."""
        return iter(tuple(self._nodes.values()))

    def __getitem__(self, name: str) -> Node:
        """A node added before."""
        return self._nodes[name]

    def signal(self, name: str) -> Signal:
        """Signal of a value added before."""
        return self._nodes[name].signal

    def finish(self, output: str, source: dict[str, str] | None = None) -> Graph:
        """The graph whose result is `output`; nodes that do not lead there are left out.

        Raises:
            GraphError: If the finished graph breaks a rule.
        """
        if output not in self._nodes:
            raise GraphError("the output is not a value of the graph", where=output)
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
