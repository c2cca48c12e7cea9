"""The intermediate representation: what a trained network computes, free of any framework or file format."""

from __future__ import annotations

from tcja_deploy.ir.builder import GraphBuilder
from tcja_deploy.ir.dump import dump
from tcja_deploy.ir.graph import Graph, Node
from tcja_deploy.ir.op import Op
from tcja_deploy.ir.signal import Dim, Kind, Signal, Value
from tcja_deploy.ir.verify import verify, violations

__all__ = [
    "Dim",
    "Graph",
    "GraphBuilder",
    "Kind",
    "Node",
    "Op",
    "Signal",
    "Value",
    "dump",
    "verify",
    "violations",
]
