"""Normalisations with parameters for each time step, in a list from which a loop over time takes one per step (BNTT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from tcja_deploy.ir import GraphBuilder
from tcja_deploy.ir import ops as ir

__all__ = ["PerStep"]

Call = TypeVar("Call")


@dataclass
class _StepCall(Generic[Call]):
    """A call of the first step, and the modules that later steps call in its place."""

    call: Call
    modules: list[Any]


class PerStep(Generic[Call]):
    """Calls of `NAME.0` in the first step, of `NAME.1` on the same stream in the second, and so on.

    Args:
        T: Time steps.
    """

    def __init__(self, T: int) -> None:
        self._T = T
        self._places: dict[Any, _StepCall[Call]] = {}
        self._nodes: dict[str, _StepCall[Call]] = {}

    def first(self, path: str, module: nn.Module, given: Any, call: Call) -> None:
        """The first step called a module."""
        place, _, number = path.rpartition(".")
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
        if number == "0" and norm:
            self._places[place, given] = _StepCall(call, [module])
            self._nodes[getattr(call, "result").name] = self._places[place, given]  # noqa: B009

    def called(self, path: str, module: nn.Module, given: Any, step: int) -> Call | None:
        """The call of the first step that a module stands in for in a later one; `None` for any other."""
        parent, _, number = path.rpartition(".")
        place = self._places.get((parent, given))
        if place is None or step < 1 or number != str(step) or len(place.modules) not in (step, step + 1):
            return None
        if type(module) is not type(place.modules[0]) or getattr(module, "running_mean", None) is None:
            return None
        if len(place.modules) == step:
            place.modules.append(module)
        return place.call

    def applied(self, builder: GraphBuilder) -> GraphBuilder:
        """The nodes with the parameters of all steps."""
        several = {name: p.modules for name, p in self._nodes.items() if len(p.modules) == self._T > 1}
        if not several:
            return builder
        built = GraphBuilder(builder.T)
        for node in builder:
            norm = isinstance(node.op, ir.BatchNorm1d | ir.BatchNorm2d)
            op = _normalisations(several[node.name]) if norm and node.name in several else node.op
            built.add(node.name, op, *node.inputs)
        return built


def _normalisations(modules: list[Any]) -> ir.Recurrence:
    """Without a state: `x` times a factor plus an offset, for each step and channel."""
    rows = []
    for m in modules:
        scale = torch.ones_like(m.running_mean) if m.weight is None else m.weight.detach()
        shift = torch.zeros_like(m.running_mean) if m.bias is None else m.bias.detach()
        factor = scale / torch.sqrt(m.running_var + m.eps)
        rows.append(torch.stack([factor, shift - m.running_mean * factor]))
    table = torch.stack(rows, 1).cpu().float()
    space = (1, 1) if isinstance(modules[0], nn.BatchNorm2d) else ()
    shaped = np.ascontiguousarray(table.reshape(*table.shape, *space).numpy())
    return ir.Recurrence(("mul x c0", "add h0 c1"), "h1", (), (), shaped)
