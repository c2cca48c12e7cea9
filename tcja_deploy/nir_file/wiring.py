"""Nodes and edges of a NIR graph: subgraphs flattened, cycles found, in an order in which to translate them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tcja_deploy.errors import FileFormatError
from tcja_deploy.unsupported import Unsupported, UnsupportedParts

__all__ = ["Wiring", "mapping"]


@dataclass
class Wiring:
    """A graph without subgraphs: their nodes carry the name of the subgraph before their own.

    Attributes:
        nodes: Parameters of each node.
        targets: For each node those that read it.
        sources: For each node those whose results it adds up.
        unsupported: What cannot be translated, by node.
    """

    nodes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    targets: dict[str, list[str]] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    unsupported: UnsupportedParts = field(default_factory=UnsupportedParts)

    @classmethod
    def of(cls, graph: Mapping[str, Any]) -> Wiring:
        """The wiring of a graph."""
        wiring = cls()
        wiring.collect(graph)
        return wiring

    def collect(self, graph: Mapping[str, Any], prefix: str = "") -> None:
        """Add a graph, its subgraphs included."""
        ends: dict[str, dict[str, str]] = {"Input": {}, "Output": {}}
        broken = set()
        for name, node in mapping(graph.get("nodes")).items():
            path = prefix + name
            if mapping(node).get("type") != "NIRGraph":
                self.nodes[path] = mapping(node)
                continue
            self.collect(node, f"{path}.")
            for kind, found in ends.items():
                inner = [n for n, i in mapping(node.get("nodes")).items() if mapping(i).get("type") == kind]
                if len(inner) == 1:
                    found[name] = f"{path}.{inner[0]}"
                else:
                    broken.add(name)
                    self.unsupported.add(path, Unsupported(f"is a subgraph with {len(inner)} {kind} nodes"))
        for a, b in _edges(graph):
            if a in broken or b in broken:
                continue
            source, target = ends["Output"].get(a, prefix + str(a)), ends["Input"].get(b, prefix + str(b))
            missing = [n for n in (source, target) if n not in self.nodes]
            if missing:
                self.unsupported.add(missing[0], Unsupported("is named by an edge, but is not a node"))
            elif target in self.targets.get(source, ()):
                self.unsupported.add(source, Unsupported(f"is connected twice to {target}"))
            else:
                self.targets.setdefault(source, []).append(target)
                self.sources.setdefault(target, []).append(source)

    def order(self) -> list[str]:
        """Names such that every source precedes its targets. A cycle is noted and cut, so that translation finds more."""
        waiting = {name: len(self.sources.get(name, ())) for name in self.nodes}
        order = [name for name, count in waiting.items() if not count]
        done, i = set(order), 0
        while i < len(order) or len(order) < len(self.nodes):
            if i == len(order):
                cut = self._entry(done)
                order.append(cut)
                done.add(cut)
            for target in self.targets.get(order[i], ()):
                waiting[target] -= 1
                if not waiting[target] and target not in done:
                    order.append(target)
                    done.add(target)
            i += 1
        return order

    def _entry(self, done: set[str]) -> str:
        """Where to go on when nothing is ready: a node of a cycle, preferably one that something leads to."""
        left = [name for name in self.nodes if name not in done]
        reached = [name for name in left if any(s in done for s in self.sources[name])]
        name = next((n for n in (*reached, *left) if self._returns(n, done)), left[0])
        cycle = " -> ".join(self._returns(name, done))
        self.unsupported.add(
            name, Unsupported(f"is part of a cycle ({cycle})", "recurrent connections have no translation")
        )
        return name

    def _returns(self, start: str, done: set[str]) -> list[str]:
        """A way from a node back to itself through nodes that are not done; empty if there is none."""
        came: dict[str, str] = {}
        ahead = [start]
        for current in ahead:
            for target in self.targets.get(current, ()):
                if target == start:
                    way = [start, current]
                    while way[-1] != start:
                        way.append(came[way[-1]])
                    return way[::-1]
                if target not in done and target not in came:
                    came[target] = current
                    ahead.append(target)
        return []


def _edges(graph: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of names.

    Raises:
        FileFormatError: If they are not.
    """
    edges = np.asarray(graph.get("edges", ()), object)
    if edges.size == 0:
        return []
    if edges.ndim != 2 or edges.shape[1] != 2 or not all(isinstance(name, str) for name in edges.flat):
        raise FileFormatError("the edges of the graph are not pairs of names", hint="export it again")
    return [(str(a), str(b)) for a, b in edges]


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, or an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}
