"""Live modules: find out T and how the code sees time, trace, recognise attention blocks, verify."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from tcja_deploy.errors import SilenceWarning, TraceError, UsageError
from tcja_deploy.frontend.dispatch import RULES
from tcja_deploy.frontend.einops import register as register_einops
from tcja_deploy.frontend.last_axis import takes_time_last
from tcja_deploy.frontend.modules import neuron_step_modes
from tcja_deploy.frontend.own import OwnNeurons
from tcja_deploy.frontend.proof import prove as proven
from tcja_deploy.frontend.traced import TimeReading
from tcja_deploy.frontend.tracer import ModuleTracer
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.prepare import tidy

__all__ = ["trace"]

_PROBE = 251
"""A number of time steps that no network is built for: what traces with it, traces with any."""

_LONGEST = 512
"""Largest number of channels or features that is tried as T."""


def trace(
    module: nn.Module,
    *,
    timesteps: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    input_kind: Kind | None = None,
    batch_first: bool | None = None,
    source: dict[str, str] | None = None,
    prove: bool = True,
) -> Graph:
    """Translate a live network in evaluation mode: dropout is off, batch normalisation uses its running statistics.

    What was read is proven by running a copy of the module beside the graph (`frontend.proof`). Then the module is as it
    was: weights, buffers, memories, training flags, attributes.

    Args:
        module: A network of modules of PyTorch, SpikingJelly (2.x), Norse or the user's own: multi-step; single-step (then
            it is the network of one time step); or multi-step after an image that `forward` repeats over time (then the
            graph takes the repeated image).
        timesteps: T; read off an attribute `T` or the weights that mix time steps if not given.
        input_shape: One frame, `[C, H, W]`.
        input_kind: What the frames hold; event counts if not given, real numbers for a repeated image.
        batch_first: Whether the module takes `[N, T, ...]`; worked out if not given.
        source: Provenance for manifests.
        prove: Whether to prove what was read; if not, the source of the graph says so.

    Raises:
        UsageError: If `input_shape` or `timesteps` is needed.
        TraceError: If something has no translation (lists every part with its module path and what to do), or the graph
            computes something other than the module.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"a {type(module).__name__} is not a model", hint="pass a path or a torch.nn.Module")
    if isinstance(module, torch.jit.ScriptModule):
        raise TraceError(
            "TorchScript has no Python code left to trace", hint="pass the module it was made from"
        )
    module = unwrapped(module)
    _refuse_snntorch(module)
    register_einops()
    if input_shape is None:
        raise UsageError(
            "the shape of an input frame is not known",
            hint="pass input_shape=(C, H, W), or --input-shape C,H,W",
        )
    if any(n < 1 for n in input_shape):
        raise UsageError(
            f"an input frame of shape {tuple(input_shape)} is empty", hint="write, for instance, 2,128,128"
        )
    attempts = _Attempts(module, tuple(input_shape), input_kind, batch_first)
    tracer, assumed = _settle(attempts, module, timesteps)
    if tracer.unsupported or tracer.output is None:
        with _untouched(module):  # a copy's forward may be a function that holds the module itself
            time_last = takes_time_last(module, tuple(input_shape), timesteps)
        if time_last:
            raise TraceError(
                "the network takes time as the last axis of its input, [N, C, H, W, T]; it has to be the first, "
                "[T, N, C, H, W], or the second, [N, T, C, H, W]",
                where="forward",
                hint="write forward for time as the first axis: x[t] for x[..., t], x.shape[0] for x.shape[-1], and "
                "torch.stack(frames) for torch.stack(frames, -1)",
            )
        _refuse(tracer, input_shape, timesteps)
    assumed += tracer.notes
    if tracer.reading in ("image", "static"):
        assumed.append("input: one image, the same in every time step; the graph takes it repeated")
    graph = tracer.builder.finish(
        tracer.output.name,
        {
            "format": "module",
            "class": type(module).__qualname__,
            **({"assumptions": "; ".join(assumed)} if assumed else {}),
            **(source or {}),
        },
    )
    graph = _own_weights(tidy(graph))
    if not prove:
        return replace(graph, source={**graph.source, "proof": "switched off"})
    with _untouched(module):
        proof = proven(graph, module, tracer.reading, tracer.batch_first)
    if proof.silent:
        warnings.warn(proof.facts["silence"], SilenceWarning, stacklevel=2)
    return replace(graph, source={**graph.source, **proof.facts})


def _own_weights(graph: Graph) -> Graph:
    """The graph with copies of all weights: until here they lie in the memory of the module, which may be trained on."""
    nodes = []
    for node in graph:
        arrays = {k: v.copy() for k, v in node.op.constants().items() if isinstance(v, np.ndarray)}
        nodes.append(replace(node, op=replace(node.op, **arrays)) if arrays else node)
    return replace(graph, nodes=tuple(nodes))


# -- how the code sees time ------------------------------------------------------------------------------------------
_READINGS: dict[str, tuple[TimeReading, ...]] = {
    "s": ("frame", "window", "static"),
    "": ("window", "image", "frame", "static"),
}
"""What is tried for networks whose neurons are all of one step mode, or have none; others see the time axis themselves."""


class _Attempts:
    """Tracing one module with one T in every way that its code may see time."""

    def __init__(
        self, module: nn.Module, shape: tuple[int, ...], kind: Kind | None, batch_first: bool | None
    ) -> None:
        self._module, self._shape, self._kind, self._batch_first = module, shape, kind, batch_first
        self._own = OwnNeurons(RULES)
        self._readings = _READINGS.get("".join(sorted(neuron_step_modes(module))), ("window", "image"))

    def run(self, T: int) -> ModuleTracer:
        """The first way in which everything can be translated, else the one with the fewest problems."""
        tried = []
        for reading in self._readings:
            tried.append(self._read(T, reading))
            if not tried[-1].unsupported:
                return tried[-1]
        return min(tried, key=lambda tracer: tracer.problems)

    def _read(self, T: int, reading: TimeReading) -> ModuleTracer:
        if reading != "window":
            return self._once(T, reading, False)
        time_first = self._once(T, reading, bool(self._batch_first))
        if self._batch_first is not None or not (time_first.swaps_first or time_first.unsupported):
            return time_first
        batch_first = self._once(T, reading, True)
        worse = bool(batch_first.unsupported) and batch_first.problems >= time_first.problems
        return time_first if worse and not time_first.swaps_first else batch_first

    def _once(self, T: int, reading: TimeReading, batch_first: bool) -> ModuleTracer:
        tracer = self._traced(T, reading, batch_first, by_hand=False)
        if not (tracer.loop_refused or tracer.raised):
            return tracer
        by_hand = self._traced(T, reading, batch_first, by_hand=True)
        return by_hand if by_hand.problems <= tracer.problems else tracer

    def _traced(self, T: int, reading: TimeReading, batch_first: bool, by_hand: bool) -> ModuleTracer:
        kind = self._kind or (Kind.REAL if reading in ("image", "static") else Kind.COUNT)
        tracer = ModuleTracer(T, reading, batch_first, ir.Input(self._shape, kind), self._own.rules, by_hand)
        with _untouched(self._module):
            tracer.run(self._module)
        return tracer


def _settle(attempts: _Attempts, module: nn.Module, timesteps: int | None) -> tuple[ModuleTracer, list[str]]:
    """The trace with the right T, and what was assumed to find it.

    Raises:
        UsageError: If nothing tells T, or several numbers would do.
    """
    if timesteps is not None:
        return attempts.run(timesteps), []
    attributes: set[Any] = {getattr(m, "T", None) for m in module.modules()}
    named: list[int] = sorted(T for T in attributes if type(T) is int and T > 0)
    if len(named) == 1:
        tracer = attempts.run(named[0])
        return tracer, [] if tracer.unsupported else [f"T = {named[0]}: the attribute T of the model"]
    probe = attempts.run(_PROBE)
    if not probe.unsupported:
        raise UsageError(
            "nothing in the model gives the number of time steps", hint="pass timesteps=T, or --timesteps T"
        )
    steps = probe.loops.steps
    if not named and steps is not None and steps < _PROBE:
        tracer = attempts.run(steps)
        if not tracer.unsupported:
            return tracer, [f"T = {tracer.T}: what the loop over time in forward runs"]
    candidates = named or _sizes(module)
    tried = {T: attempts.run(T) for T in candidates}
    fitting = [T for T in candidates if not tried[T].unsupported]
    if len(fitting) > 1:
        raise UsageError(
            f"the model fits {' or '.join(map(str, fitting))} time steps",
            hint="pass timesteps=T, or --timesteps T",
        )
    if fitting:
        return tried[fitting[0]], [f"T = {fitting[0]}: the only number of time steps that fits the weights"]
    return min([*tried.values(), probe], key=lambda t: (t.problems, -t.emitted)), []


def _sizes(module: nn.Module) -> list[int]:
    """Numbers of channels and features that may be time steps."""
    sizes: set[int] = set()
    for m in module.modules():
        if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            sizes.add(m.in_channels)
        elif isinstance(m, nn.Linear):
            sizes.add(m.in_features)
    return sorted(n for n in sizes if n <= _LONGEST)


# -- what is passed in --------------------------------------------------------------------------------------------
def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside `torch.compile` and data parallelism, however often they are nested."""
    while True:
        inner = {
            "OptimizedModule": "_orig_mod",
            "DataParallel": "module",
            "DistributedDataParallel": "module",
        }.get(type(module).__name__ if type(module).__module__.startswith("torch.") else "")
        if inner is None:
            return module
        module = getattr(module, inner)


def _refuse_snntorch(module: nn.Module) -> None:
    found = {type(m).__name__ for m in module.modules() if type(m).__module__.partition(".")[0] == "snntorch"}
    if found:
        raise TraceError(
            f"snnTorch's neurons ({', '.join(sorted(found))}) are not read from a live module",
            hint="export it with snntorch.export_nir.export_to_nir(net, sample), write it with nir.write(path, graph), "
            "and load that file",
        )


# -- care ----------------------------------------------------------------------------------------------------------
@contextmanager
def _untouched(root: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module has the attributes, containers and buffer contents it had before."""
    attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
    containers: list[tuple[Any, Any]] = []
    for module in list(root.modules()):
        own = vars(module)
        attributes.append((own, dict(own)))
        containers += [(v, v.copy()) for v in own.values() if isinstance(v, dict | list | set)]
        own["training"] = False
        own["_compiled_call_impl"] = None  # what module.compile() sets
        own["_modules"].update(
            (name, unwrapped(m)) for name, m in list(own["_modules"].items()) if m is not None
        )
    buffers = [(b, b.clone()) for b in root.buffers()]
    try:
        yield
    finally:
        for own, before in attributes:
            own.clear()
            own.update(before)
        for content, before in containers:
            content.clear()
            content.extend(before) if isinstance(content, list) else content.update(before)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _refuse(tracer: ModuleTracer, input_shape: tuple[int, ...], timesteps: int | None) -> NoReturn:
    shape = ", ".join(map(str, input_shape))
    if timesteps is not None:
        steps = f"T = {timesteps}"
    else:
        steps = "T not known" + ("" if tracer.T == _PROBE else f", nearest with T = {tracer.T}")
    tracer.unsupported.raise_if_any(
        TraceError, f"{{}} of the model cannot be translated ({steps}, frames of {shape})", whole="forward"
    )
    raise TraceError("forward returns nothing that can be translated", where="forward")
