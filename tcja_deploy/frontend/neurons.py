"""Rules for SpikingJelly's neurons and readout membranes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.functions import FUNCTIONS
from tcja_deploy.frontend.layout import name_time
from tcja_deploy.frontend.traced import Traced
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported

__all__ = ["NEURONS", "READOUTS", "ModuleRule"]

ModuleRule = Callable[[RuleContext, str, Any, Traced], Traced]
"""Translates a module: (context, path, module, input) -> result."""


def _common(module: Any) -> dict[str, Any]:
    """Threshold and reset of one of SpikingJelly's neurons.

    Raises:
        Unsupported: If it computes something other than its class says.
    """
    rest = 0.0 if module.v_reset is None else float(module.v_reset)
    if getattr(module, "_memories_rv", {}).get("v", rest) != rest:
        raise Unsupported(
            "starts from a membrane other than its reset value", "leave the initial membrane as it is"
        )
    if not getattr(module.surrogate_function, "spiking", True):
        raise Unsupported(
            "uses its surrogate instead of spikes (surrogate_function.spiking is False)", "set it to True"
        )
    if getattr(module, "_neuron_precision", None) is not None:
        raise Unsupported("computes in a precision other than float32", "switch the reduced precision off")
    return {
        "v_threshold": float(module.v_threshold),
        "v_reset": None if module.v_reset is None else float(module.v_reset),
    }


def _neuron(make: Callable[[Any], ir.Neuron]) -> ModuleRule:
    def rule(tracer: RuleContext, path: str, module: Any, x: Traced) -> Traced:
        op = make(module)
        tracer.once(path)
        return tracer.emit(path, op, name_time(tracer, path, x, 0))

    return rule


def _lif(module: Any) -> ir.LIF:
    return ir.LIF(**_common(module), tau=float(module.tau), decay_input=bool(module.decay_input))


def _plif(module: Any) -> ir.PLIF:
    decay = float(torch.sigmoid(module.w.detach().float()))
    return ir.PLIF(**_common(module), decay=decay, decay_input=bool(module.decay_input))


# -- parallel spiking neurons: sums over frames instead of a membrane ------------------------------------------------------
def _fires(module: Any) -> None:
    if not getattr(module.surrogate_function, "spiking", True):
        raise Unsupported(
            "uses its surrogate instead of spikes (surrogate_function.spiking is False)", "set it to True"
        )


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), np.float32)


def _all_frames(tracer: RuleContext, path: str, module: Any, x: Traced, weight: torch.Tensor) -> Traced:
    """`H = W X + b` along time, then a spike where `H >= 0`: needs the whole window."""
    _fires(module)
    x = name_time(tracer, path, x, 0)
    rank = len(x.signal.dims)
    y = tracer.emit(f"{path}.time_last", ir.Permute((*range(1, rank), 0)), x)
    y = tracer.emit(f"{path}.frames", ir.Linear(_array(weight), _array(module.bias.flatten())), y)
    y = tracer.emit(f"{path}.time_first", ir.Permute((rank - 1, *range(rank - 1))), y)
    tracer.once(path)
    return tracer.emit(path, ir.Recurrence(("ge x 0.0",), "h0", (), ()), name_time(tracer, path, y, 0))


def _latest_frames(
    tracer: RuleContext, path: str, module: Any, x: Traced, table: NDArray[np.float32]
) -> Traced:
    """`H[t] = b[t] + sum_j w[t, j] X[t - j]`, then a spike where `H >= 0`: the frames before are states.

    `table` `[k + 1, S, 1]` holds the weights of the frames from the oldest to the latest, then the bias.
    """
    _fires(module)
    k = len(table) - 1
    frames = [*(f"v{j}" for j in reversed(range(k - 1))), "x"]
    program = [f"mul {frames[0]} c0"]
    for i, frame in enumerate(frames[1:], start=1):
        program += [f"mul {frame} c{i}", f"add h{len(program) - 1} h{len(program)}"]
    program += [f"add h{len(program) - 1} c{k}", f"ge h{len(program)} 0.0"]
    after = ("x", *(f"v{j}" for j in range(k - 2)))[: k - 1]
    op = ir.Recurrence(tuple(program), f"h{len(program) - 1}", after, (0.0,) * (k - 1), table)
    tracer.once(path)
    return tracer.emit(path, op, name_time(tracer, path, x, 0))


def _psn(tracer: RuleContext, path: str, module: Any, x: Traced) -> Traced:
    return _all_frames(tracer, path, module, x, module.weight)


def _masked_psn(tracer: RuleContext, path: str, module: Any, x: Traced) -> Traced:
    weight = module.masked_weight()
    if module.lambda_ < 1.0:
        return _all_frames(tracer, path, module, x, weight)
    w, bias = _array(weight), _array(module.bias.flatten())
    rows = [np.pad(np.diagonal(w, -j), (j, 0)) for j in reversed(range(min(module.k, module.T)))]
    return _latest_frames(tracer, path, module, x, np.stack([*rows, bias])[..., None])


def _sliding_psn(tracer: RuleContext, path: str, module: Any, x: Traced) -> Traced:
    rows = np.concatenate([_array(module.weight.flatten()), _array(module.bias.flatten())])
    return _latest_frames(tracer, path, module, x, rows[:, None, None])


# -- readouts ------------------------------------------------------------------------------------------------------------
_DECODED = {"mean-mem": ("mean", 0), "max-mem": ("amax", 0), "last_mem": ("getitem", -1)}
"""How a membrane is read off a window: the function over time, and its argument."""


def _readout(integrator: Callable[[Any], ir.LI]) -> Callable[..., Any]:
    """A membrane without spikes, and what is read off it over the window; without `decode` a list of all steps."""

    def rule(tracer: RuleContext, path: str, module: Any, x: Traced) -> Traced | tuple[Traced, ...]:
        if module.decode is not None and module.decode not in _DECODED:
            raise Unsupported(
                f"passes on its membrane as decode={module.decode!r}", "use decode='mean-mem' or 'max-mem'"
            )
        op = integrator(module)
        if math.frexp(op.decay)[0] != 0.5 and op.decay:
            tracer.notes.append(f"{path}: x / tau is computed as x * (1 / tau), equal up to the last digit")
        membrane = tracer.emit(path, op, x)
        if module.decode is None:
            return tuple(replace(membrane, view="frame", step=t) for t in range(tracer.T))
        function, argument = _DECODED[module.decode]
        decoded: Traced = FUNCTIONS[function](tracer, f"{path}.{module.decode}", membrane, argument)
        return decoded

    return rule


NEURONS: dict[str, ModuleRule] = {
    "spikingjelly:IFNode": _neuron(lambda m: ir.IF(**_common(m))),
    "spikingjelly:LIFNode": _neuron(_lif),
    "spikingjelly:MaskedPSN": _masked_psn,
    "spikingjelly:PSN": _psn,
    "spikingjelly:ParametricLIFNode": _neuron(_plif),
    "spikingjelly:SimpleIFNode": _neuron(lambda m: ir.IF(**_common(m))),
    "spikingjelly:SimpleLIFNode": _neuron(_lif),
    "spikingjelly:SlidingPSN": _sliding_psn,
}
"""Spiking neurons by package and class name."""

READOUTS: dict[str, Callable[..., Any]] = {
    "spikingjelly:NonSpikingIFNode": _readout(lambda m: ir.LI(0.0, decay_input=False)),
    "spikingjelly:NonSpikingLIFNode": _readout(lambda m: ir.LI(1.0 / m.tau)),
}
"""Membranes without spikes by package and class name."""
