"""Rules for modules: PyTorch's layers and SpikingJelly's layers and containers; neurons are in `neurons` and `norse`.

Classes are matched by package and name along the method resolution order, so that neither package has to be imported here.
A subclass counts only if it does not redefine what the class computes; everything else is run and traced through.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.functions import FUNCTIONS
from tcja_deploy.frontend.neurons import NEURONS, READOUTS, ModuleRule
from tcja_deploy.frontend.norse import HINTS as NORSE_HINTS
from tcja_deploy.frontend.norse import NORSE, STEP_MODES, is_norse
from tcja_deploy.frontend.traced import OtherReading, Traced, View
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["container_view", "is_leaf", "neuron_step_modes", "refresh", "remembers", "translate"]

_COMPUTING = (
    "forward", "single_step_forward", "multi_step_forward", "single_step_functional_forward", "multi_step_functional_forward",
    "functional_forward", "super_forward", "neuronal_charge", "neuronal_fire", "neuronal_reset", "materialize_states",
    "_conv_forward", "reset",
)  # fmt: skip


def _key(cls: type) -> str:
    return f"{cls.__module__.partition('.')[0]}:{cls.__name__}"


def _match(module: nn.Module, known: Any) -> str | None:
    """Key of the known class that a module is, if it computes the same."""
    if any(name in vars(module) for name in _COMPUTING):
        return None
    for cls in type(module).__mro__:
        if _key(cls) in known:
            return _key(cls)
        if any(name in cls.__dict__ for name in _COMPUTING):
            return None
    return None


def _step_mode(module: Any) -> str | None:
    """Step mode of one of SpikingJelly's modules; up to 0.0.0.0.12 there is a class for each mode instead."""
    mode = getattr(module, "step_mode", None)
    own = next(
        (c for c in type(module).__mro__ if c.__module__.startswith("spikingjelly.clock_driven")), None
    )
    if mode is not None or own is None or not hasattr(module, "_memories"):
        return mode
    return "m" if own.__name__.startswith("MultiStep") else "s"


def container_view(module: Any) -> View | None:
    """How the children of a container see the time axis; `None` if the module is not a known container."""
    match _match(module, _CONTAINERS):
        case "spikingjelly:SeqToANNContainer":
            return "batch"
        case "spikingjelly:MultiStepContainer":
            return "frame"
        case "spikingjelly:StepModeContainer":
            if module.step_mode == "s":
                return "window"  # the children see what the container gets
            return "frame" if module.stateful else "batch"
        case "norse:Lift":
            return "frame" if module.is_stateful else "batch"
    return None


_CONTAINERS = (
    "spikingjelly:SeqToANNContainer",
    "spikingjelly:MultiStepContainer",
    "spikingjelly:StepModeContainer",
    "norse:Lift",
)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is translated as a whole instead of being run."""
    if _match(module, MODULES) is not None:
        return True
    own = type(module).__module__
    if own.startswith("torch.nn.modules"):
        return not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    if is_norse(module):
        return True
    stateful = any(_key(cls) == "spikingjelly:MemoryModule" for cls in type(module).__mro__)
    return stateful or own.startswith("spikingjelly.activation_based.neuron")


def remembers(module: nn.Module) -> bool:
    """Whether a module that is translated as a whole has state."""
    stateful = {**_SPIKING, **READOUTS, **NORSE}
    return _match(module, stateful) is not None or hasattr(module, "_memories")


def neuron_step_modes(root: nn.Module) -> set[str]:
    """Step modes of the neurons that see the time axis of the root itself, not that of a container."""
    modes: set[str] = set()

    def walk(module: nn.Module) -> None:
        if container_view(module) in ("frame", "batch"):
            return
        key = _match(module, MODULES) or ""
        if key in STEP_MODES:
            modes.add(STEP_MODES[key])
        elif hasattr(module, "_memories") and (mode := _step_mode(module)) is not None:
            modes.add(mode)
        for child in module.children():
            walk(child)

    walk(root)
    return modes


def refresh(module: nn.Module) -> None:
    """Bring weights up to date that hooks derive from others before each pass (pruning, weight and spectral normalisation).

    Raises:
        Unsupported: If there are other hooks; the module is not called, so they would not run.
    """
    others = [*module._forward_hooks.values()]
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod | WeightNorm | SpectralNorm):
            hook(module, ())
        else:
            others.append(hook)
    if others:
        name = getattr(others[0], "__qualname__", type(others[0]).__qualname__)
        raise Unsupported(
            f"has a forward hook ({name}) that may change what it computes",
            "remove hooks first, such as those of a monitor",
        )


def translate(
    tracer: RuleContext, module: nn.Module, path: str, x: Traced, *args: Any, **kwargs: Any
) -> Traced:
    """The node of a leaf module.

    Raises:
        Unsupported: If the module has no rule, is in the wrong step mode, or its settings have no translation.
    """
    key = _match(module, MODULES)
    if key is None:
        raise Unsupported(*_unknown(module))
    if any(a is not None for a in (*args, *kwargs.values())):
        raise Unsupported(f"{type(module).__name__} is called with more than one argument")
    _check_step_mode(module, key, x)
    return MODULES[key](tracer, path, module, x)


def _unknown(module: nn.Module) -> tuple[str, str]:
    """What is wrong with a module without a rule, and what to do."""
    cls = type(module)
    known = next((_key(c) for c in cls.__mro__ if _key(c) in MODULES), None)
    if known is not None:
        return (
            f"{cls.__name__} changes how {known.partition(':')[2]} computes",
            f"use {known.partition(':')[2]} itself" if not _is_packaged(cls) else "",
        )
    if hasattr(module, "_memories") or cls.__module__.startswith("spikingjelly.activation_based.neuron"):
        return (
            f"{cls.__name__} has its own kind of state",
            f"the neurons with a translation are {', '.join(sorted(k.partition(':')[2] for k in NEURONS))}",
        )
    name = cls.__name__
    return f"{cls.__module__}.{name} has no translation", _HINTS.get(name, "")


def _is_packaged(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("spikingjelly", "norse", "torch")


_NORM = "train with BatchNorm instead: the statistics of the running input cannot be folded into weights"
_SOFTMAX = "leave it out where it is the last layer: it does not change which output is largest"
_HINTS = {
    **NORSE_HINTS,
    **dict.fromkeys(("GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LayerNorm"), _NORM),
    **dict.fromkeys(("ELU", "GELU", "LeakyReLU", "SiLU", "Tanh"), "spiking networks use neurons or ReLU"),
    **dict.fromkeys(("LogSoftmax", "Softmax"), _SOFTMAX),
}


def _check_step_mode(module: Any, key: str, x: Traced) -> None:
    mode = _step_mode(module)
    spiking = key in _SPIKING
    if mode == "m" and x.view not in ("window", "lone"):
        if x.view == "image":
            raise OtherReading("gets one image instead of a window", "repeat the image over time before it")
        raise UnsupportedInContext(
            "is in step mode 'm' but gets single frames",
            "call functional.set_step_mode(net, 's'), or leave out the container",
        )
    if spiking and x.view == "batch":
        raise UnsupportedInContext(
            "is a neuron inside SeqToANNContainer: it would see time steps as further samples",
            "put it outside the container",
        )
    if spiking and mode == "s" and x.view != "frame":
        raise Unsupported(
            "is in step mode 's' but gets whole windows", "call functional.set_step_mode(net, 'm')"
        )
    if spiking and x.view == "lone":
        raise UnsupportedInContext("gets a window of one time step", "repeat the image over time before it")


# -- layers -------------------------------------------------------------------------------------------------------
def _zero_padded(module: Any) -> None:
    if module.padding_mode != "zeros":
        raise Unsupported(f"pads with {module.padding_mode!r}", "use padding_mode='zeros'")


def _conv(function: str) -> ModuleRule:
    def rule(tracer: RuleContext, path: str, m: Any, x: Traced) -> Traced:
        _zero_padded(m)
        result: Traced = FUNCTIONS[function](
            tracer, path, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups
        )
        return result

    return rule


def _conv_transpose2d(tracer: RuleContext, path: str, m: Any, x: Traced) -> Traced:
    _zero_padded(m)
    result: Traced = FUNCTIONS["conv_transpose2d"](
        tracer, path, x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation
    )
    return result


def _batch_norm(*ranks: int) -> ModuleRule:
    def rule(tracer: RuleContext, path: str, m: Any, x: Traced) -> Traced:
        seen = len(x.shape(tracer.T))
        if seen not in ranks:
            raise UnsupportedInContext(
                f"{type(m).__name__} gets {seen} axes instead of {' or '.join(map(str, ranks))}",
                "fold time into the batch before it: x.flatten(0, 1), or SpikingJelly's layer in step mode 'm'"
                if x.view == "window" and seen - 1 in ranks
                else f"give it {' or '.join(map(str, ranks))} axes",
            )
        return FUNCTIONS["batch_norm"](  # type: ignore[no-any-return]
            tracer, path, x, m.running_mean, m.running_var, m.weight, m.bias, eps=m.eps
        )

    return rule


def _multi_step(rule: ModuleRule) -> ModuleRule:
    """SpikingJelly's wrapper of a layer: in step mode 'm' it folds time into the batch."""

    def wrapped(tracer: RuleContext, path: str, m: Any, x: Traced) -> Traced:
        if m.step_mode == "s":
            return rule(tracer, path, m, x)
        inner: View = "batch" if x.view == "window" else "image"
        return replace(rule(tracer, path, m, replace(x, view=inner, lead=2)), view=x.view)

    return wrapped


def _calls(function: str, *attributes: str) -> ModuleRule:
    """A rule that passes attributes of the module to a function's rule."""
    return lambda tr, path, m, x: FUNCTIONS[function](tr, path, x, *(getattr(m, name) for name in attributes))


def _vote(tracer: RuleContext, path: str, m: Any, x: Traced) -> Traced:
    return tracer.emit(path, ir.Vote(int(m.voting_size)), x)


def _through(tracer: RuleContext, path: str, m: Any, x: Traced) -> Traced:
    return x


_POOL = ("kernel_size", "stride", "padding")
_FOLDED: dict[str, ModuleRule] = {
    **{f"AdaptiveAvgPool{n}d": _calls(f"adaptive_avg_pool{n}d", "output_size") for n in (1, 2, 3)},
    "AvgPool1d": _calls("avg_pool1d", *_POOL, "ceil_mode", "count_include_pad"),
    "AvgPool2d": _calls("avg_pool2d", *_POOL, "ceil_mode", "count_include_pad", "divisor_override"),
    "BatchNorm1d": _batch_norm(2, 3),
    "BatchNorm2d": _batch_norm(4),
    "BatchNorm3d": _batch_norm(5),
    "Conv1d": _conv("conv1d"),
    "Conv2d": _conv("conv2d"),
    "ConvTranspose2d": _conv_transpose2d,
    "Flatten": _calls("flatten", "start_dim", "end_dim"),
    "MaxPool1d": _calls("max_pool1d", *_POOL, "dilation", "ceil_mode", "return_indices"),
    "MaxPool2d": _calls("max_pool2d", *_POOL, "dilation", "ceil_mode", "return_indices"),
}
"""Layers that SpikingJelly wraps so that they fold time into the batch."""

_TORCH: dict[str, ModuleRule] = {
    **_FOLDED,
    **{f"Adaptive{how}Pool{n}d": _calls(f"adaptive_{how.lower()}_pool{n}d", "output_size")
       for how in ("Avg", "Max") for n in (1, 2, 3)},
    "Conv3d": _conv("conv3d"),
    "AlphaDropout": _through,
    "Dropout": _through,
    "Dropout1d": _through,
    "Dropout2d": _through,
    "Dropout3d": _through,
    "Hardtanh": _calls("hardtanh", "min_val", "max_val"),
    "Identity": _through,
    "Linear": _calls("linear", "weight", "bias"),
    "ReLU": _calls("relu"),
    "ReLU6": _calls("relu6"),
    "Sigmoid": _calls("sigmoid"),
    "SyncBatchNorm": _batch_norm(2, 3, 4, 5),
    "Upsample": _calls("interpolate", "size", "scale_factor", "mode"),
    "UpsamplingNearest2d": _calls("interpolate", "size", "scale_factor", "mode"),
    "Unflatten": _calls("unflatten", "dim", "unflattened_size"),
}  # fmt: skip

_SPIKING: dict[str, ModuleRule] = {
    **NEURONS,
    **{
        f"spikingjelly:MultiStep{name}": NEURONS[f"spikingjelly:{name}"]
        for name in ("IFNode", "LIFNode", "ParametricLIFNode")
    },
}
"""Spiking neurons, with the classes for windows that SpikingJelly has up to 0.0.0.0.12."""

MODULES: dict[str, ModuleRule] = {
    **{f"torch:{name}": rule for name, rule in _TORCH.items()},
    **{f"spikingjelly:{name}": _multi_step(rule) for name, rule in _FOLDED.items()},
    **_SPIKING,
    **READOUTS,
    **NORSE,
    "spikingjelly:Dropout": _through,
    "spikingjelly:Dropout2d": _through,
    "spikingjelly:MultiStepDropout": _through,
    "spikingjelly:MultiStepDropout2d": _through,
    "spikingjelly:Linear": _TORCH["Linear"],
    "spikingjelly:VotingLayer": _vote,
}
"""Rules by package and class name."""
