"""Lowering of gates: TCJA blocks of spikes with the pools around them."""

from __future__ import annotations

from dataclasses import replace

from tcja_deploy.exporters.lava.averages import tiled
from tcja_deploy.exporters.lava.float_graph import FloatGate, FloatTerm
from tcja_deploy.exporters.lava.lowered_values import Values
from tcja_deploy.exporters.lava.regions import Region
from tcja_deploy.ir import Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.layers import SpatialPool
from tcja_deploy.unsupported import UnsupportedInContext

__all__ = ["Gates"]


class Gates(Values):
    """Values, some of which are sent by gates."""

    def gated(self, region: Region) -> bool:
        """Whether a gate with its pool can compute a region: a TCJA block of spikes, its pools, and nothing else."""
        first, *others = (self.graph[name].op for name in region.nodes)
        pools = all(isinstance(op, ir.AvgPool2d | ir.MaxPool2d) for op in others)
        padding = [
            op.padding if i == 0 else None for i, op in enumerate(others) if isinstance(op, ir.MaxPool2d)
        ]
        absorbed = padding in ([], [(0, 0)])
        return isinstance(first, ir.TCJA) and pools and absorbed and self._gateable(region.source) is not None

    def _gateable(self, name: str) -> tuple[FloatTerm, SpatialPool | None] | None:
        """The spikes that a gate can read for a node's value, and the averages in between, which commute with the gate."""
        x = self.values[name]
        term, pool = x.terms[0], tiled(x.averages) if x.averages else None
        plain = len(x.terms) == 1 and term.synapse is None and term.factor == 1 and not x.bias.any()
        if not plain or term.source not in self.spiking or len(x.shape) != 3 or len(term.shape) != 3:
            return None
        return None if x.averages and pool is None else (term, pool)

    def gate(self, node: Node, op: ir.TCJA) -> None:
        """Lower a TCJA block of spikes to a gate.

        Raises:
            UnsupportedInContext: If the block reads anything else.
        """
        found = self._gateable(node.inputs[0])
        if found is None:
            raise UnsupportedInContext("a gate needs the spikes of a layer before it")
        term, pool = found
        channels, height, width = term.shape
        self.result.stages.append(
            FloatGate(node.name, term.source, (channels, height, width), op, pool, node.name)
        )
        self.result.notes[node.name] = "integer weights and a table; its window adds T - 1 steps"
        if pool is not None:
            self.result.notes[node.name] += "; the average pool before it is done after it, which is the same"
        self.place(node.name, node.name, node.signal.features)

    def pool_gate(self, node: Node, gate: FloatGate, pool: SpatialPool, note: str) -> None:
        """Move a pool into the gate before it."""
        place = next(i for i, stage in enumerate(self.result.stages) if stage is gate)
        self.result.stages[place] = replace(gate, pool=pool, pooled=node.name)
        self.result.notes[node.name] = f"{note} {gate.name}"
        self.place(node.name, gate.name, node.signal.features)
