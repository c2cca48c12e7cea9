"""Nodes and edges of a NIR graph while it is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nir

from tcja_deploy.ir import Graph, Node, Op, Signal
from tcja_deploy.ir import ops as ir

__all__ = ["NirValue", "Writer", "WriterRule"]


@dataclass(frozen=True)
class NirValue:
    """A value of the network in NIR: the sum of the nodes `sources` is `factor` times the value."""

    sources: tuple[str, ...]
    factor: float = 1.0


WriterRule = Callable[["Writer", Node, Any, NirValue], NirValue]
"""Writes a node that reads a value: (writer, node, op, input) -> result."""


@dataclass
class Writer:
    """Nodes and edges of a NIR graph while it is written."""

    network: Graph
    dt: float
    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    values: dict[str, NirValue] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=lambda: {"output", "state"})

    def put(self, node: Node, written: nir.NIRNode, x: NirValue, part: str = "") -> NirValue:
        """Append a NIR node that reads `x`; it has the name of the node, with `part` as a suffix if given."""
        name = self._name(f"{node.name}.{part}" if part else node.name)
        self.nodes[name] = written
        self.edges += [(source, name) for source in x.sources]
        return NirValue((name,))

    def _name(self, name: str) -> str:
        """A name that HDF5, torch.fx and nirtorch (which replaces dots by underscores) distinguish from all others."""
        clean = re.sub(r"[^A-Za-z0-9_.]", "_", name)
        candidate, i = clean, 1
        while candidate.replace(".", "_") in self.taken:
            i += 1
            candidate = f"{clean}_{i}"
        self.taken.add(candidate.replace(".", "_"))
        return candidate

    def note(self, node: Node, *texts: str) -> None:
        """Remember what was done to a node."""
        kept = [text for text in texts if text]
        if kept:
            self.notes.setdefault(node.name, []).extend(kept)

    def input(self, node: Node) -> Signal:
        """Signal of a node's first input."""
        return self.network.signals_in(node)[0]

    def absorbed(self, name: str) -> bool:
        """Whether all readers of a value can absorb a positive factor, in weights or thresholds."""
        if name == self.network.output:
            return False
        return all(self._absorbs(reader) for reader in self.network.readers(name))

    def _absorbs(self, reader: Node) -> bool:
        op: Op = reader.op
        if isinstance(op, ir.Flatten | ir.AvgPool2d | ir.AdaptiveAvgPool2d):
            return self.absorbed(reader.name)
        return isinstance(op, ir.Conv1d | ir.Conv2d | ir.Linear | ir.BatchNorm1d | ir.BatchNorm2d | ir.Neuron)
