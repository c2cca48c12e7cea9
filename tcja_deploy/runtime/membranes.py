"""Membranes on torch, step by step and over a window: what charges them, when neurons spike, and what resets them."""

from __future__ import annotations

import torch
from torch import Tensor

from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.device import in_cache, tensor_on
from tcja_deploy.runtime.recurrence import distance, initial_states, recurrence_step

__all__ = ["Charged", "Membrane", "charge", "integrate", "integrator_step", "margin", "neuron_step"]

Charged = ir.Neuron | ir.LI | ir.AffineIntegrator
"""Ops whose state is one membrane that is charged."""

Membrane = Charged | ir.Recurrence
"""Ops whose state is one membrane, or several states of the same size."""


def charge(op: Charged, x: Tensor, v: Tensor, room: Tensor | None = None) -> Tensor:
    """Membrane before the comparison with the threshold (`H[t]`), from input and previous membrane.

    Args:
        op: The neurons or integrators.
        x: Input `[N, ...]`.
        v: Previous membrane `[N, ...]`; not changed.
        room: Tensor of the same shape that the result may be written to; new memory if not given.
    """
    if isinstance(op, ir.AffineNeuron | ir.AffineIntegrator):
        h = torch.mul(v, tensor_on(op.leak, x.device), out=room)
        if op.has_offset:
            h = h.add_(tensor_on(op.offset, x.device))
        h = h.add_(x * tensor_on(op.gain, x.device) if op.has_gain else x)
        return h if op.floor is None else h.clamp_min_(op.floor)
    if isinstance(op, ir.IF):
        return torch.add(v, x, out=room)
    leak = v if op.v_rest == 0.0 else v - op.v_rest
    if isinstance(op, ir.PLIF | ir.LI):
        if op.decay_input:
            return torch.sub(x, leak, out=room).mul_(op.decay).add_(v)
        lost = torch.mul(leak, op.decay, out=room)
    elif not isinstance(op, ir.LIF):
        raise TypeError(type(op).__name__)
    elif op.decay_input:
        return torch.sub(x, leak, out=room).div_(op.tau).add_(v)
    else:
        lost = torch.div(leak, op.tau, out=room)
    return torch.sub(v, lost, out=None if room is None else lost).add_(x)  # autograd does not allow `out`


def neuron_step(
    op: ir.Neuron, x: Tensor, v: Tensor, out: Tensor | None = None, room: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One time step of neurons: charge, compare with the threshold, reset.

    Args:
        op: The neurons.
        x: Input `[N, ...]`.
        v: Previous membrane `[N, ...]`, after its last reset; not changed.
        out: Tensor that the spikes are written to; new memory if not given.
        room: As `out`, for the membrane.

    Returns:
        Spikes, 0 or 1 in the type of `x`, and the membrane after the reset.
    """
    h = charge(op, x, v, room)
    fires = torch.gt if op.strict else torch.ge
    spikes = fires(h.detach(), op.v_threshold, out=torch.empty_like(h) if out is None else out)
    if op.v_reset is None:
        return spikes, h.sub_(spikes, alpha=op.lowered_by)
    limit = op.v_threshold
    if op.strict:  # the next number above it, from which neurons fire
        bound = torch.tensor(limit, dtype=h.dtype)
        limit = torch.nextafter(bound, torch.full_like(bound, torch.inf)).item()
    # torch fills where a mask is set element by element; what lies below a limit it replaces in whole vectors.
    return spikes, torch.threshold_(h.neg_(), -limit, -op.v_reset).neg_()


def integrator_step(
    op: ir.LI | ir.AffineIntegrator, x: Tensor, v: Tensor, room: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One time step of integrators; arguments and result are those of `neuron_step`, with the membrane in place of spikes."""
    h = charge(op, x, v, room)
    if isinstance(op, ir.LI) or op.v_threshold is None:
        return h, h
    fired = h > op.v_threshold if op.strict else h >= op.v_threshold
    after = h - op.v_threshold if op.v_reset is None else torch.full_like(h, op.v_reset)
    return h, torch.where(fired, after, h)


def integrate(
    op: Membrane, x: Tensor, v: Tensor | None = None, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Neurons or integrators over a window.

    Args:
        op: The neurons, integrators or recurrence.
        x: Input `[T, N, ...]`.
        v: Initial membrane `[N, ...]` (states `[S, N, ...]` of a recurrence); at rest if not given.
        out: Tensor that the result is written to, which may be `x`; new memory if not given.

    Returns:
        The result `[T, N, ...]`, and the membrane afterwards.
    """
    out = torch.empty_like(x) if out is None else out
    if isinstance(op, ir.Recurrence):
        v = initial_states(op, x[0]) if v is None else v
        for t in range(len(x)):
            out[t], v = recurrence_step(op, x[t], v, t)
        return out, v
    v = torch.full_like(x[0], op.v_rest) if v is None else v
    flat = (x, out, v)
    if not isinstance(op, ir.AffineNeuron | ir.AffineIntegrator) and all(a.is_contiguous() for a in flat):
        return out, _in_blocks(op, x.view(len(x), -1), v.view(-1), out.view(len(x), -1)).view(v.shape)
    return out, _over_window(op, x, v, out)


def _in_blocks(op: Charged, x: Tensor, v: Tensor, out: Tensor) -> Tensor:
    """As `_over_window`, for neurons `[T, M]` that are all alike, some of them after the others."""
    size, after = in_cache(x), torch.empty_like(v)
    for start in range(0, v.numel(), size):
        part = slice(start, start + size)
        after[part] = _over_window(op, x[:, part], v[part], out[:, part])
    return after


def _over_window(op: Charged, x: Tensor, v: Tensor, out: Tensor) -> Tensor:
    """The membrane after a window, whose result is written to `out`."""
    rooms = torch.empty_like(x[:2])  # used alternately: new memory for every step costs more than the sums
    for t in range(len(x)):
        room = rooms[t % 2]
        if isinstance(op, ir.Neuron):
            _, v = neuron_step(op, x[t], v, out[t], room)
        else:
            out[t], v = integrator_step(op, x[t], v, room)
    return v


def margin(op: Membrane, x: Tensor, v: Tensor | None = None) -> Tensor:
    """How far each neuron is from deciding otherwise, `[T, N, ...]`; arguments as for `integrate`.

    This is membrane minus threshold before the reset; for a recurrence, the unsigned distance to its nearest decision.
    """
    distances = torch.empty_like(x)
    for t in range(len(x)):
        if isinstance(op, ir.Recurrence):
            v = initial_states(op, x[0]) if v is None else v
            distances[t], v = distance(op, x[t], v, t), recurrence_step(op, x[t], v, t)[1]
        else:
            v = torch.full_like(x[0], op.v_rest) if v is None else v
            distances[t] = charge(op, x[t], v) - op.constants()["v_threshold"]
            v = integrate(op, x[t : t + 1], v)[1]
    return distances
