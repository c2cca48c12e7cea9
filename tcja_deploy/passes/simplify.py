"""Removing moves of axes that cancel out."""

from __future__ import annotations

from tcja_deploy.ir import Dim, Graph, GraphBuilder, Node, Op
from tcja_deploy.ir.ops import Flatten, Permute, Reshape, Vote

__all__ = ["simplify"]


def simplify(graph: Graph) -> Graph:
    """Drop permutations and reshapes that do nothing or undo each other, and give feature flattening its own op.

    A vote works on the last axis alone, so reshapes of the axes before it pass through. Values stay exactly the same.
    """
    while True:
        smaller = _once(graph)
        if len(smaller.nodes) == len(graph.nodes):
            return smaller
        graph = smaller


def _once(graph: Graph) -> Graph:
    builder = GraphBuilder(graph.T)
    name_of: dict[str, str] = {}
    for node in graph:
        inputs = [name_of[i] for i in node.inputs]
        op: Op = node.op
        if isinstance(op, Permute | Reshape | Vote) and len(inputs) == 1:
            source = builder[inputs[0]]
            if isinstance(op, Permute) and isinstance(source.op, Permute):
                inner = source.op.order
                op, inputs = Permute(tuple(inner[i] for i in op.order)), list(source.inputs)
            elif isinstance(op, Reshape) and isinstance(source.op, Reshape | Flatten):
                named = _through(op.named, source, builder.signal(source.inputs[0]).dims)
                if named is not None:
                    op, inputs = Reshape(op.dims, named), list(source.inputs)
            elif (
                isinstance(op, Reshape)
                and isinstance(source.op, Vote)
                and isinstance(builder[source.inputs[0]].op, Reshape)
            ):
                # Reshape(Vote(Reshape(x))) = Vote(x) if the reshapes touch only the axes before the voters.
                before = builder[source.inputs[0]].inputs[0]
                if builder.signal(before).dims[:-1] == op.dims[:-1]:
                    op, inputs = source.op, [before]
            x = builder.signal(inputs[0])
            nothing = (isinstance(op, Permute) and op.order == tuple(range(len(op.order)))) or (
                isinstance(op, Reshape) and op.dims == x.dims
            )
            if nothing:
                name_of[node.name] = inputs[0]
                continue
            if (
                isinstance(op, Reshape)
                and x.dims[:2] == ("T", "N")
                and op.dims == ("T", "N", x.size)
                and len(x.dims) > 3
            ):
                op = Flatten()
        name_of[node.name] = builder.add(node.name, op, *inputs)
    return builder.finish(name_of[graph.output], graph.source)


def _through(named: tuple[int, ...], inner: Node, before: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """Axes of a reshape's result as axes of its input; ``None`` where one of them is no axis there."""
    own = [i for i, d in enumerate(inner.signal.dims) if isinstance(d, str)]
    source = (
        inner.op.named
        if isinstance(inner.op, Reshape)
        else [i for i, d in enumerate(before) if isinstance(d, str)]
    )
    axis = dict(zip(own, source, strict=True))
    return tuple(axis[i] for i in named) if all(i in axis for i in named) else None
