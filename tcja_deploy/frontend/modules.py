"""Rules for modules: PyTorch's layers and SpikingJelly's neurons, layers and containers.

Classes are matched by package and name along the method resolution order, so that neither package has to be imported here.
A subclass counts only if it does not redefine what the class computes; everything else is run and traced through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tcja_deploy.frontend.functions import FUNCTIONS, array, pair, pool1d
from tcja_deploy.frontend.tracer import ModuleTracer, Offence, ShapeOffence, Traced, View
from tcja_deploy.ir import ops as ir

__all__ = ["container_view", "is_leaf", "neuron_step_modes", "translate"]

_COMPUTING = (
    "forward", "single_step_forward", "multi_step_forward", "single_step_functional_forward", "multi_step_functional_forward",
    "functional_forward", "super_forward", "neuronal_charge", "neuronal_fire", "neuronal_reset", "materialize_states",
)  # fmt: skip

Rule = Callable[[ModuleTracer, str, Any, Traced], Traced]


def _key(cls: type) -> str:
    return f"{cls.__module__.partition('.')[0]}:{cls.__name__}"


def _match(module: nn.Module, known: Any) -> str | None:
    """Key of the known class that a module is, if it computes the same."""
    for cls in type(module).__mro__:
        if _key(cls) in known:
            return _key(cls)
        if any(name in cls.__dict__ for name in _COMPUTING):
            return None
    return None


def container_view(module: nn.Module) -> View | None:
    """How the children of a container see the time axis; ``None`` if the module is no known container."""
    match _match(module, _CONTAINERS):
        case "spikingjelly:SeqToANNContainer":
            return "batch"
        case "spikingjelly:MultiStepContainer":
            return "frame"
        case "spikingjelly:StepModeContainer":
            if module.step_mode == "s":
                return "window"  # the children see what the container gets
            return "frame" if module.stateful else "batch"
    return None


_CONTAINERS = (
    "spikingjelly:SeqToANNContainer",
    "spikingjelly:MultiStepContainer",
    "spikingjelly:StepModeContainer",
)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is translated as a whole instead of being run."""
    if _match(module, MODULES) is not None:
        return True
    own = type(module).__module__
    if own.startswith("torch.nn.modules") and not isinstance(
        module, nn.Sequential | nn.ModuleList | nn.ModuleDict
    ):
        return True
    return own.startswith("spikingjelly") and hasattr(module, "_memories")


def neuron_step_modes(root: nn.Module) -> set[str]:
    """Step modes of the neurons that see the time axis of the root itself, not that of a container."""
    modes: set[str] = set()

    def walk(module: nn.Module) -> None:
        if container_view(module) in ("frame", "batch"):
            return
        if (_match(module, MODULES) or "") in _NEURONS:
            modes.add(module.step_mode)
        for child in module.children():
            walk(child)

    walk(root)
    return modes


def translate(
    tracer: ModuleTracer, module: nn.Module, path: str, x: Traced, *args: Any, **kwargs: Any
) -> Traced:
    """The node of a leaf module.

    Raises:
        Offence: If the module has no rule, is in the wrong step mode, or its settings have no translation.
    """
    key = _match(module, MODULES)
    if key is None:
        name = type(module).__name__
        raise Offence(
            f"{type(module).__module__}.{name} has no translation",
            _HINTS.get(name, "replace it or leave it out"),
        )
    if args or kwargs:
        raise Offence(f"{type(module).__name__} is called with more than one argument")
    _check_step_mode(tracer, module, key, x)
    return MODULES[key](tracer, path, module, x)


_HINTS = {
    "InstanceNorm2d": "use BatchNorm2d: statistics of the running input cannot be folded",
    "LayerNorm": "use BatchNorm: statistics of the running input cannot be folded",
    "GELU": "spiking networks use neurons or ReLU",
}


def _check_step_mode(tracer: ModuleTracer, module: Any, key: str, x: Traced) -> None:
    mode = getattr(module, "step_mode", None)
    if mode == "m" and x.view != "window":
        raise Offence(
            "is in step mode 'm' but gets single frames",
            "call functional.set_step_mode(net, 's'), or leave out the container",
        )
    if key in _NEURONS:
        if mode == "s" and x.view == "window":
            raise Offence(
                "is in step mode 's' but gets whole windows", "call functional.set_step_mode(net, 'm')"
            )
        if x.view == "batch":
            raise Offence(
                "is a neuron inside SeqToANNContainer: it would see time steps as further samples",
                "put it outside, or use MultiStepContainer",
            )


# -- neurons ------------------------------------------------------------------------------------------------------
def _common(module: Any) -> dict[str, Any]:
    return {
        "v_threshold": float(module.v_threshold),
        "v_reset": None if module.v_reset is None else float(module.v_reset),
    }


def _neuron(make: Callable[[Any], ir.Neuron]) -> Rule:
    def rule(tracer: ModuleTracer, path: str, module: Any, x: Traced) -> Traced:
        tracer.once(path)
        if not getattr(module.surrogate_function, "spiking", True):
            raise Offence(
                "uses its surrogate instead of spikes (surrogate_function.spiking is False)", "set it to True"
            )
        return tracer.emit(path, make(module), x)

    return rule


def _plif(module: Any) -> ir.PLIF:
    decay = float(torch.sigmoid(module.w.detach().float()))
    return ir.PLIF(**_common(module), decay=decay, decay_input=bool(module.decay_input))


# -- layers -------------------------------------------------------------------------------------------------------
def _zero_padded(module: Any) -> None:
    if module.padding_mode != "zeros":
        raise Offence(f"pads with {module.padding_mode!r}", "use padding_mode='zeros'")


def _conv(function: str) -> Rule:
    def rule(tracer: ModuleTracer, path: str, m: Any, x: Traced) -> Traced:
        _zero_padded(m)
        return FUNCTIONS[function](
            tracer, path, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups
        )

    return rule


def _conv_transpose2d(tracer: ModuleTracer, path: str, m: Any, x: Traced) -> Traced:
    _zero_padded(m)
    if len(x.shape(tracer.T)) != 4:
        raise ShapeOffence("a transposed convolution needs [N, C, H, W]", "wrap it in SeqToANNContainer")
    weight = array(m.weight)
    if weight is None:
        raise Offence("has no weight")
    op = ir.ConvTranspose2d(
        weight,
        array(m.bias),
        pair(m.stride),
        pair(m.padding),
        pair(m.output_padding),
        pair(m.dilation),
        m.groups,
    )
    return tracer.emit(path, op, x)


def _batch_norm(cls: type[ir.BatchNorm1d] | type[ir.BatchNorm2d], rank: int) -> Rule:
    def rule(tracer: ModuleTracer, path: str, m: Any, x: Traced) -> Traced:
        if m.running_mean is None:
            raise Offence(
                "normalises with the statistics of the running batch", "use track_running_stats=True"
            )
        seen = len(x.shape(tracer.T))
        expected = rank + 1 if getattr(m, "step_mode", "s") == "m" else rank
        if seen != expected:
            raise ShapeOffence(
                f"{type(m).__name__} gets {seen} axes instead of {expected}", "wrap it in SeqToANNContainer"
            )
        ones = torch.ones_like(m.running_mean)
        gamma, beta = (ones, torch.zeros_like(ones)) if m.weight is None else (m.weight, m.bias)
        stats = [a for a in map(array, (gamma, beta, m.running_mean, m.running_var)) if a is not None]
        return tracer.emit(path, cls(*stats, float(m.eps)), x)

    return rule


def _multi_step(rule: Rule) -> Rule:
    """SpikingJelly's wrapper of a 4-D layer: in step mode 'm' it folds time into the batch."""
    from dataclasses import replace

    def wrapped(tracer: ModuleTracer, path: str, m: Any, x: Traced) -> Traced:
        if m.step_mode == "s" or x.view != "window":
            return rule(tracer, path, m, x)
        y = rule(tracer, path, m, replace(x, view="batch"))
        return replace(y, view="window")

    return wrapped


def _flatten(tracer: ModuleTracer, path: str, m: Any, x: Traced) -> Traced:
    return FUNCTIONS["flatten"](tracer, path, x, m.start_dim, m.end_dim)


def _voting(tracer: ModuleTracer, path: str, m: Any, x: Traced) -> Traced:
    return tracer.emit(path, ir.Vote(int(m.voting_size)), x)


def _through(tracer: ModuleTracer, path: str, m: Any, x: Traced) -> Traced:
    return x


def _no_op(name: str) -> Rule:
    return lambda tracer, path, m, x: FUNCTIONS[name](tracer, path, x)


_LAYERS: dict[str, Rule] = {
    "AdaptiveAvgPool2d": lambda tr, path, m, x: FUNCTIONS["adaptive_avg_pool2d"](tr, path, x, m.output_size),
    "AvgPool2d": lambda tr, path, m, x: FUNCTIONS["avg_pool2d"](
        tr, path, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override
    ),
    "BatchNorm1d": _batch_norm(ir.BatchNorm1d, 2),
    "BatchNorm2d": _batch_norm(ir.BatchNorm2d, 4),
    "Conv2d": _conv("conv2d"),
    "ConvTranspose2d": _conv_transpose2d,
    "Flatten": _flatten,
    "Linear": lambda tr, path, m, x: FUNCTIONS["linear"](tr, path, x, m.weight, m.bias),
    "MaxPool2d": lambda tr, path, m, x: FUNCTIONS["max_pool2d"](
        tr, path, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    ),
}
"""Layers that both packages have."""

_NEURON_RULES: dict[str, Rule] = {
    "spikingjelly:IFNode": _neuron(lambda m: ir.IF(**_common(m))),
    "spikingjelly:LIFNode": _neuron(
        lambda m: ir.LIF(**_common(m), tau=float(m.tau), decay_input=bool(m.decay_input))
    ),
    "spikingjelly:ParametricLIFNode": _neuron(_plif),
}
_NEURONS = frozenset(_NEURON_RULES)

MODULES: dict[str, Rule] = {
    **{f"torch:{name}": rule for name, rule in _LAYERS.items()},
    **{
        f"spikingjelly:{name}": rule
        if name in ("Linear", "BatchNorm1d", "BatchNorm2d")
        else _multi_step(rule)
        for name, rule in _LAYERS.items()
    },
    **_NEURON_RULES,
    "torch:AvgPool1d": lambda tr, path, m, x: pool1d(
        tr, path, x, pair(m.kernel_size)[0], pair(m.stride)[0], pair(m.padding)[0]
    ),
    "torch:Conv1d": _conv("conv1d"),
    "torch:Dropout": _through,
    "torch:Dropout1d": _through,
    "torch:Dropout2d": _through,
    "torch:Identity": _through,
    "torch:ReLU": _no_op("relu"),
    "torch:Sigmoid": _no_op("sigmoid"),
    "spikingjelly:Dropout": _through,
    "spikingjelly:Dropout2d": _through,
    "spikingjelly:VotingLayer": _voting,
}
"""Rules by package and class name."""
