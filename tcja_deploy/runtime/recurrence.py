"""Recurrences on torch: one step of a neuron given as arithmetic, with the kernels that its source used."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.ops.arithmetic import COMPARISONS, ROUNDINGS

__all__ = ["CALLS", "distance", "initial_states", "recurrence_step"]

Computed = Tensor | float
"""Constants of the program stay Python numbers, so that torch rounds them as it did in the source."""

_Table = dict[int, dict[tuple[int, int, torch.device], Computed]]
_TABLES: _Table = {}
"""Rows of tables as tensors, by the table; they are dropped together with it."""


def _row(op: ir.Recurrence, k: int, t: int, device: torch.device) -> Computed:
    """Row `k` of the table in step `t`; a number where it is a single one."""
    if id(op.table) not in _TABLES:
        weakref.finalize(op.table, _TABLES.pop, id(op.table), None)
        _TABLES[id(op.table)] = {}
    rows, key = _TABLES[id(op.table)], (k, t if op.per_step else 0, device)
    if key not in rows:
        values = op.row(k, t)
        rows[key] = torch.from_numpy(np.array(values)).to(device)
    return rows[key]


def initial_states(op: ir.Recurrence, x: Tensor) -> Tensor:
    """States `[S, N, ...]` before the first frame, for frames like `x` `[N, ...]`."""
    first = torch.empty((len(op.initial), *x.shape), dtype=x.dtype, device=x.device)
    for i, value in enumerate(op.initial):
        first[i] = value
    return first


def recurrence_step(
    op: ir.Recurrence,
    x: Tensor,
    states: Tensor,
    t: int,
    watch: Callable[[str, tuple[Computed, ...]], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """One time step.

    Args:
        op: The recurrence.
        x: Input `[N, ...]`.
        states: Previous states, `[S, N, ...]`; not changed in place.
        t: Index of the step in its window.
        watch: Called with each line's function and arguments.

    Returns:
        The result and the states afterwards.
    """

    def call(function: str, *args: Computed) -> Computed:
        if watch is not None:
            watch(function, args)
        return CALLS[function](x, *args)

    y, after, _ = op.computed(x, list(states), lambda k: _row(op, k, t, x.device), float, call)
    kept = torch.empty_like(states)
    for i, value in enumerate(after):
        kept[i] = value
    return (y if isinstance(y, Tensor) and y.shape == x.shape else torch.zeros_like(x) + y), kept


def distance(op: ir.Recurrence, x: Tensor, states: Tensor, t: int) -> Tensor:
    """How near each neuron's step comes to another decision, `[N, ...]`; infinite without decisions.

    This is the least distance between two compared numbers, or of a rounded number from the middle between two integers.
    Arguments are those of `recurrence_step`.
    """
    nearest = torch.full_like(x, torch.inf)

    def watch(function: str, args: tuple[Computed, ...]) -> None:
        nonlocal nearest
        if function in COMPARISONS:
            nearest = torch.minimum(nearest, (torch.zeros_like(x) + args[0] - args[1]).abs())
        elif function in ROUNDINGS:
            a = torch.zeros_like(x) + args[0] - (0.5 if function == "round" else 0.0)
            nearest = torch.minimum(nearest, (a - a.round()).abs())

    recurrence_step(op, x, states, t, watch)
    return nearest


def _compared(relation: Callable[[Any, Any], Any]) -> Callable[..., Computed]:
    def call(x: Tensor, a: Computed, b: Computed) -> Computed:
        return relation(torch.as_tensor(a, device=x.device), b).to(x.dtype)  # type: ignore[no-any-return]

    return call


def _one(kernel: Callable[[Tensor], Tensor]) -> Callable[..., Computed]:
    return lambda x, a: kernel(torch.as_tensor(a, dtype=x.dtype, device=x.device))


def _bound(kernel: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Computed]:
    def call(x: Tensor, a: Computed, b: Computed) -> Computed:
        return kernel(*(torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in (a, b)))

    return call


def _where(x: Tensor, c: Computed, a: Computed, b: Computed) -> Computed:
    return torch.where(torch.as_tensor(c, device=x.device) != 0, a, b)


CALLS: dict[str, Callable[..., Computed]] = {
    "abs": _one(torch.abs),
    "add": lambda x, a, b: a + b,
    "ceil": _one(torch.ceil),
    "div": lambda x, a, b: a / b,
    "eq": _compared(torch.eq),
    "exp": _one(torch.exp),
    "floor": _one(torch.floor),
    "ge": _compared(torch.ge),
    "gt": _compared(torch.gt),
    "le": _compared(torch.le),
    "lt": _compared(torch.lt),
    "max": _bound(torch.maximum),
    "min": _bound(torch.minimum),
    "mul": lambda x, a, b: a * b,
    "ne": _compared(torch.ne),
    "neg": lambda x, a: -a,
    "round": _one(torch.round),
    "sigmoid": _one(torch.sigmoid),
    "sign": _one(torch.sign),
    "sqrt": _one(torch.sqrt),
    "sub": lambda x, a, b: a - b,
    "tanh": _one(torch.tanh),
    "where": _where,
}
"""Each function by name: (frame, arguments) -> result."""
