"""Removing moves of axes that cancel out."""

from __future__ import annotations

from tcja_deploy.ir import Dim, Graph, GraphBuilder, Node, Op, Signal
from tcja_deploy.ir.ops import Flatten, Permute, Reshape, Vote

__all__ = ["idle_moves", "simplify"]


def simplify(graph: Graph) -> Graph:
    """Drop permutations and reshapes that do nothing or undo each other, and give feature flattening its own op.

    A vote works on the last axis alone, so reshapes of the axes before it pass through. Values stay exactly the same.
    """
    while True:
        simpler = _once(graph)
        if [(n.op, n.inputs) for n in simpler] == [(n.op, n.inputs) for n in graph]:
            return simpler
        graph = simpler


def idle_moves(graph: Graph) -> list[str]:
    """Names of the permutations and reshapes that do nothing."""
    return [n.name for n in graph if n.inputs and _does_nothing(n.op, graph[n.inputs[0]].signal)]


def _once(graph: Graph) -> Graph:
    builder = GraphBuilder(graph.T)
    name_of: dict[str, str] = {}
    for node in graph:
        op, inputs = node.op, [name_of[i] for i in node.inputs]
        if isinstance(op, Permute | Reshape):
            op, inputs = _merged(builder, op, inputs[0])
            if _does_nothing(op, builder.signal(inputs[0])):
                name_of[node.name] = inputs[0]
                continue
        name_of[node.name] = builder.add(node.name, op, *inputs)
    return builder.finish(name_of[graph.output], graph.source)


def _merged(builder: GraphBuilder, op: Permute | Reshape, name: str) -> tuple[Op, list[str]]:
    """An op and its inputs; it is merged with the op before it where one op computes the same."""
    source = builder[name]
    if isinstance(op, Permute):
        if isinstance(source.op, Permute):
            inner = source.op.order
            return Permute(tuple(inner[i] for i in op.order)), list(source.inputs)
        return op, [name]
    if isinstance(source.op, Reshape | Flatten):
        named = _through(op.named, source, builder.signal(source.inputs[0]).dims)
        if named is not None:
            op, name = Reshape(op.dims, named), source.inputs[0]
    elif isinstance(source.op, Vote) and isinstance(builder[source.inputs[0]].op, Reshape | Flatten):
        inner_name = builder[source.inputs[0]].inputs[0]
        before, voted = builder.signal(inner_name).dims, builder.signal(source.inputs[0]).dims
        if _same_votes(source.op.voters, before, voted, op.dims):
            return source.op, [inner_name]
    dims = builder.signal(name).dims
    if len(dims) > 3 and dims[:2] == op.dims[:2] == ("T", "N") and len(op.dims) == 3:
        return Flatten(), [name]
    return op, [name]


def _same_votes(voters: int, before: tuple[Dim, ...], voted: tuple[Dim, ...], after: tuple[Dim, ...]) -> bool:
    """Whether a vote on `before` gives what reshaping to `voted`, voting and reshaping to `after` gives.

    It does if no element is left over at the end of either last axis, so that voters are neighbours of the same order in both.
    """
    last = before[-1], voted[-1]
    return before[:-1] == after[:-1] and all(isinstance(n, int) and n % voters == 0 for n in last)


def _does_nothing(op: Op, x: Signal) -> bool:
    if isinstance(op, Permute):
        return op.order == tuple(range(len(op.order)))
    return isinstance(op, Reshape) and op.dims == x.dims


def _through(named: tuple[int, ...], inner: Node, before: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """Axes of a reshape's result as axes of its input; `None` where one of them is not an axis there."""
    own = [i for i, d in enumerate(inner.signal.dims) if isinstance(d, str)]
    source = (
        inner.op.named
        if isinstance(inner.op, Reshape)
        else [i for i, d in enumerate(before) if isinstance(d, str)]
    )
    axis = dict(zip(own, source, strict=True))
    return tuple(axis[i] for i in named) if all(i in axis for i in named) else None
