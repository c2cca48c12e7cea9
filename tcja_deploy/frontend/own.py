"""The user's own neurons in a trace: which modules are tried, and what becomes of those that were identified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from tcja_deploy.frontend.confirm import Identified
from tcja_deploy.frontend.context import RuleContext, Rules
from tcja_deploy.frontend.identify import identify
from tcja_deploy.frontend.layout import name_time
from tcja_deploy.frontend.neurons import NEURONS, READOUTS
from tcja_deploy.frontend.probe import Layout
from tcja_deploy.frontend.traced import Traced
from tcja_deploy.ir import ops as ir

__all__ = ["OwnNeurons", "modules_are_called"]

_WITH_WEIGHTS = (
    "conv",
    "linear",
    "batchnorm",
    "normalization",
    "pooling",
    "rnn",
    "transformer",
    "sparse",
    "instancenorm",
)
"""Modules of `torch.nn.modules` whose layers are not part of a neuron."""


class OwnNeurons:
    """What was identified while one network is traced, in as many ways and with as many numbers of steps as it takes.

    Args:
        rules: The tables for all other modules.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._known: dict[tuple[int, Layout, tuple[int, ...], int], Identified | None] = {}
        self._now: dict[int, Identified] = {}

    @property
    def rules(self) -> Rules:
        """The tables, with the user's own neurons."""
        return replace(
            self._rules,
            consider=self.consider,
            is_leaf=lambda module: id(module) in self._now or self._rules.is_leaf(module),
            remembers=lambda module: id(module) in self._now or self._rules.remembers(module),
            dispatch=self.dispatch,
        )

    def consider(self, module: nn.Module, args: tuple[Any, ...], T: int) -> None:
        """Find out whether a module that is about to run on traced frames is a neuron."""
        self._now.pop(id(module), None)
        traced = [getattr(a, "traced", None) for a in args]
        if len(traced) != 1 or not isinstance(traced[0], Traced) or not self._candidate(module):
            return
        layout = _layout(traced[0], T)
        mode = getattr(module, "step_mode", None)
        if layout is None or mode == ("m" if layout == "frame" else "s"):
            return
        features = tuple(n for n in traced[0].signal.dims[2:] if isinstance(n, int))
        key = (id(module), layout, features, 0 if layout == "frame" else T)
        if key not in self._known:
            with modules_are_called():
                self._known[key] = identify(module, features, layout, T)
        found = self._known[key]
        if found is not None:
            self._now[id(module)] = found

    def _candidate(self, module: nn.Module) -> bool:
        """Whether a module may be a neuron: not one with rules of its own, and without layers or weights in it."""
        package = type(module).__module__
        if package.startswith(("torch.", "norse.")) or self._rules.container_view(module):
            return False
        neuron = hasattr(module, "_memories") or hasattr(module, "neuronal_charge")
        if package.startswith(
            "spikingjelly."
        ):  # those without a rule, such as neurons that differ in their training only
            named = f"spikingjelly:{type(module).__name__}"
            neuron = neuron and package.startswith("spikingjelly.activation_based.neuron")
            if not neuron or named in NEURONS or named in READOUTS:
                return False
        if self._rules.is_leaf(module) and not neuron:
            return False
        for part in module.modules():
            place = type(part).__module__.removeprefix("torch.nn.modules.")
            inside = part is not module
            if inside and (place.startswith(_WITH_WEIGHTS) or self._rules.remembers(part)):
                return False
        return neuron or all(sum(n > 1 for n in p.shape) <= 1 for p in module.parameters())

    def dispatch(
        self, tracer: RuleContext, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Traced | tuple[Traced, ...]:
        """As the tables' own, for the user's own neurons as well."""
        found = self._now.get(id(target)) if kind == "call_module" else None
        if found is None:
            return self._rules.dispatch(tracer, kind, target, args, kwargs)
        x, path = args[0], tracer.here
        tracer.once(path)
        return _emitted(tracer, path, found, x)


@contextmanager
def modules_are_called() -> Iterator[None]:
    """Within the block, calling a module runs it, although torch.fx sends such calls to its tracer while it traces."""
    tracing = nn.Module.__call__
    nn.Module.__call__ = nn.Module._wrapped_call_impl  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = tracing  # type: ignore[method-assign]


def _layout(x: Traced, T: int) -> Layout | None:
    """How a module is given time; `None` where no neuron can be."""
    first, second, *features = (*x.signal.dims, None, None)[: max(2, len(x.signal.dims))]
    if x.tainted or "T" in features or "N" in features:
        return None
    if first in ("T", T) and second == "N":
        return {"frame": "frame", "window": "time first"}.get(x.view)  # type: ignore[return-value]
    named = second == "T" or (second == T and len(features) > 0)
    return "batch first" if x.view == "window" and first == "N" and named else None


def _emitted(tracer: RuleContext, path: str, found: Identified, x: Traced) -> Traced:
    """The ops of a neuron, the first under the path of the module."""
    swapped = (1, 0, *range(2, len(x.signal.dims)))
    turned = x.view == "window" and x.signal.dims[0] == "N"
    if turned:
        x = tracer.emit(f"{path}.time_first", ir.Permute(swapped), name_time(tracer, path, x, 1))
    else:
        x = name_time(tracer, path, x, 0)
    for i, op in enumerate(found.ops):
        x = tracer.emit(path if not i else f"{path}.{type(op).__name__.lower()}", op, x)
    return tracer.emit(f"{path}.batch_first", ir.Permute(swapped), x) if turned else x
