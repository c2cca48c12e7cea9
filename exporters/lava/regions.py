"""Finding attention in a graph: parts with one entry and one exit that become window programs.

An attention of any family multiplies a signal by something computed from it. So the parts are found by their products:
the entry is the last value on which both factors of a product entirely depend (its dominator), and everything between the
two belongs to the part. Adjacent parts are merged, since every program adds a window of delay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tcja_deploy.ir import Graph, Kind, Node
from tcja_deploy.ir import ops as ir

__all__ = ["Region", "regions"]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a graph with one entry and one exit.

    Attributes:
        source: Name of the value that enters; its node is not part of the region.
        nodes: Names of the region's nodes in the graph's order.
        frames: T if an op of the region acts on time, 1 if it can run frame by frame.
    """

    source: str
    nodes: tuple[str, ...]
    frames: int

    @property
    def sink(self) -> str:
        """Name of the value that leaves the region."""
        return self.nodes[-1]


def regions(graph: Graph) -> list[Region]:
    """All regions of attention in a graph, in order, without overlap.

    A part that contains neurons, or whose inner values are read outside it, is not a region: its nodes are outside all
    regions.
    """
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    dominators = _dominators(graph, place)
    found: list[tuple[int, int]] = []
    for i, node in enumerate(graph.nodes):
        if not _needs_program(graph, node) or (found and i <= found[-1][1]):
            continue
        source, sink = dominators[i], _extended(graph, place, i)
        while not graph.nodes[source].signal.streams and source:
            source = dominators[source]
        while found and found[-1][1] >= source:  # they meet or overlap
            merged = min(found[-1][0], source)
            if _sound(graph, place, merged, sink) is None:
                break
            source = merged
            found.pop()
        if _sound(graph, place, source, sink) is not None:
            found.append((source, sink))
    result = []
    for source, sink in found:
        nodes = _sound(graph, place, source, sink)
        if nodes is not None and graph[nodes[-1]].signal.streams and graph.nodes[source].signal.streams:
            result.append(Region(graph.nodes[source].name, nodes, _frames(graph, nodes)))
    return result


def _needs_program(graph: Graph, node: Node) -> bool:
    """Whether only a program can compute the node's result."""
    signals = graph.signals_in(node)
    if isinstance(node.op, ir.Mul):
        return any(s.kind is not Kind.BINARY for s in signals)
    if isinstance(node.op, ir.MaxPool2d):
        return signals[0].kind is not Kind.BINARY
    return isinstance(node.op, ir.TCJA | ir.ReLU | ir.Clamp)


def _dominators(graph: Graph, place: Mapping[str, int]) -> list[int]:
    """For every node, the last node before it through which every path to it leads."""
    found = [0] * len(graph.nodes)
    for i, node in enumerate(graph.nodes):
        ways = [place[name] for name in node.inputs]
        while len(set(ways)) > 1:
            latest = max(ways)
            ways = [found[w] if w == latest else w for w in ways]
        found[i] = ways[0] if ways else 0
    return found


def _between(graph: Graph, place: Mapping[str, int], source: int, sink: int) -> list[int]:
    """Nodes on the paths from `source` to `sink`, without `source`."""
    after = {source}
    for i in range(source + 1, sink + 1):
        if any(place[name] in after for name in graph.nodes[i].inputs):
            after.add(i)
    before = {sink}
    for i in range(sink, source, -1):
        if i in before:
            before.update(place[name] for name in graph.nodes[i].inputs)
    return sorted((after & before) - {source})


def _sound(graph: Graph, place: Mapping[str, int], source: int, sink: int) -> tuple[str, ...] | None:
    """Nodes of a region, or None if it has more than one entry or exit, or memory inside."""
    inside = _between(graph, place, source, sink)
    names = {graph.nodes[i].name for i in inside}
    for i in inside:
        node = graph.nodes[i]
        if node.op.membrane or isinstance(node.op, ir.TimeMean | ir.Vote):
            return None
        if any(name not in names and place[name] != source for name in node.inputs):
            return None
        outside = any(reader.name not in names for reader in graph.readers(node.name))
        if i != sink and (outside or node.name == graph.output):
            return None
    return tuple(graph.nodes[i].name for i in inside)


def _extended(graph: Graph, place: Mapping[str, int], sink: int) -> int:
    """The sink, moved past the nodes that read it alone and that a program can compute: moves, ReLUs and pools."""
    while True:
        readers = graph.readers(graph.nodes[sink].name)
        if len(readers) != 1 or graph.nodes[sink].name == graph.output or len(readers[0].inputs) > 1:
            return sink
        op = readers[0].op
        pools = isinstance(op, ir.MaxPool2d | ir.AvgPool2d | ir.ReLU | ir.Clamp)
        if not (pools or op.moves_only) or isinstance(op, ir.Flatten):
            return sink
        sink = place[readers[0].name]


def _frames(graph: Graph, nodes: tuple[str, ...]) -> int:
    waits = any(graph[name].op.acts_on_time(*graph.signals_in(graph[name])) for name in nodes)
    return graph.T if waits else 1
