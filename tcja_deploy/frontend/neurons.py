"""Rules for SpikingJelly's neurons and readout membranes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

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
        Unsupported: If it computes otherwise than its class says.
    """
    rest = 0.0 if module.v_reset is None else float(module.v_reset)
    if getattr(module, "_memories_rv", {}).get("v", rest) != rest:
        raise Unsupported(
            "starts from another membrane than its reset value", "leave the initial membrane as it is"
        )
    if not getattr(module.surrogate_function, "spiking", True):
        raise Unsupported(
            "uses its surrogate instead of spikes (surrogate_function.spiking is False)", "set it to True"
        )
    if getattr(module, "_neuron_precision", None) is not None:
        raise Unsupported("computes in another precision than float32", "switch the reduced precision off")
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


_DECODED = {"mean-mem": ("mean", 0), "max-mem": ("amax", 0), "last_mem": ("getitem", -1)}
"""How a membrane is read off a window: the function over time, and its argument."""


def _readout(integrator: Callable[[Any], ir.LI]) -> Callable[..., Any]:
    """A membrane without spikes, and what is read off it over the window; without `decode` a list of all steps."""

    def rule(tracer: RuleContext, path: str, module: Any, x: Traced) -> Traced | tuple[Traced, ...]:
        if module.decode is not None and module.decode not in _DECODED:
            raise Unsupported(
                f"hands on its membrane as decode={module.decode!r}", "use decode='mean-mem' or 'max-mem'"
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
    "spikingjelly:ParametricLIFNode": _neuron(_plif),
    "spikingjelly:SimpleIFNode": _neuron(lambda m: ir.IF(**_common(m))),
    "spikingjelly:SimpleLIFNode": _neuron(_lif),
}
"""Spiking neurons by package and class name."""

READOUTS: dict[str, Callable[..., Any]] = {
    "spikingjelly:NonSpikingIFNode": _readout(lambda m: ir.LI(0.0, decay_input=False)),
    "spikingjelly:NonSpikingLIFNode": _readout(lambda m: ir.LI(1.0 / m.tau)),
}
"""Membranes without spikes by package and class name."""
