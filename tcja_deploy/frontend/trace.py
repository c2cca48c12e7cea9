"""Live modules: trace, recognise attention blocks, verify."""

from __future__ import annotations

from typing import Any

from torch import nn

from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.frontend.modules import neuron_step_modes
from tcja_deploy.frontend.tracer import ModuleTracer, View
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.attention import recognise_tcja
from tcja_deploy.passes.simplify import simplify

__all__ = ["trace"]


def trace(
    module: nn.Module,
    *,
    timesteps: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    input_kind: Kind = Kind.COUNT,
    batch_first: bool | None = None,
    source: dict[str, str] | None = None,
) -> Graph:
    """Translate a live network. The module is neither run on data nor changed; dropout is off, BN uses its running statistics.

    Args:
        module: SpikingJelly 2.x network, all in step mode 'm' or all in 's' (then it is the network of one time step).
        timesteps: T; found by trying the Conv1d sizes if not given.
        input_shape: One frame, ``(C, H, W)``.
        input_kind: What the frames hold.
        batch_first: Whether the module takes ``[N, T, ...]``; found out if not given.
        source: Provenance for manifests.

    Raises:
        UsageError: If ``input_shape`` or ``timesteps`` is needed.
        TraceError: If something has no translation; lists every offender with its module path and what to do.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"a {type(module).__name__} is no model", hint="pass a path or a torch.nn.Module")
    if input_shape is None:
        raise UsageError(
            "the shape of an input frame is not known",
            hint="pass input_shape=(C, H, W), or --input-shape C,H,W",
        )
    modes = neuron_step_modes(module)
    if len(modes) > 1:
        raise TraceError(
            "some neurons are in step mode 's', others in 'm'", hint="call functional.set_step_mode(net, 'm')"
        )
    view: View = "frame" if modes == {"s"} else "window"
    attempts: list[ModuleTracer] = []
    for T in _candidates(module, timesteps):
        tracer = _attempt(module, T, view, batch_first, ir.Input(tuple(input_shape), input_kind))
        attempts.append(tracer)
        if not tracer.offences:
            break
    tracer = min(attempts, key=lambda t: len(t.offences))
    _raise(tracer)
    if tracer.output is None:
        raise TraceError("forward returned nothing")
    graph = tracer.builder.finish(
        tracer.output.name, {"format": "module", "class": type(module).__qualname__, **(source or {})}
    )
    return simplify(recognise_tcja(simplify(graph)))


def _attempt(
    module: nn.Module, T: int, view: View, batch_first: bool | None, input_op: ir.Input
) -> ModuleTracer:
    tracer = ModuleTracer(T, view, bool(batch_first), input_op)
    tracer.run(module)
    if batch_first is None and tracer.swaps_first and view == "window":
        tracer = ModuleTracer(T, view, True, input_op)
        tracer.run(module)
    return tracer


def _candidates(module: nn.Module, timesteps: int | None) -> list[int]:
    """T as given, or what the network may have been built for: an attribute ``T``, or the channels of a Conv1d or Linear over time."""
    if timesteps is not None:
        return [timesteps]
    named = {int(m.T) for m in module.modules() if isinstance(getattr(m, "T", None), int) and m.T > 0}
    if len(named) == 1:
        return list(named)
    sizes: set[Any] = {m.in_channels for m in module.modules() if isinstance(m, nn.Conv1d)}
    if not sizes:
        raise UsageError(
            "nothing in the model tells the number of time steps", hint="pass timesteps=T, or --timesteps T"
        )
    return sorted(sizes)


def _raise(tracer: ModuleTracer) -> None:
    if not tracer.offences:
        return
    lines = []
    for path, offence in dict.fromkeys((p, (o.reason, o.hint)) for p, o in tracer.offences):
        reason, hint = offence
        lines.append(f"\n  - {path or 'forward'}: {reason}" + (f"\n      -> {hint}" if hint else ""))
    raise TraceError(
        f"{len(lines)} part{'s' if len(lines) > 1 else ''} of the model cannot be translated:{''.join(lines)}"
    )
