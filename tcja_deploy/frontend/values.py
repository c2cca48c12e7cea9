"""What code passes around besides tensors: states, nested arguments, SpikingJelly's own loop over time, texts."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx
from torch import nn

from tcja_deploy.frontend.proxy import Proxy
from tcja_deploy.frontend.traced import SAMPLES
from tcja_deploy.unsupported import Unsupported

__all__ = [
    "autograd_functions",
    "frames_parameter",
    "is_own",
    "only_value",
    "readable",
    "spikingjelly_loops",
    "untangled",
    "without_state",
]


@contextmanager
def spikingjelly_loops(once: Callable[[Proxy, Any], Any]) -> Iterator[None]:
    """Within the block, SpikingJelly's loop over time passes a stream and the modules of one step to `once`."""
    forward = sys.modules.get("spikingjelly.activation_based.functional.forward")
    original: Callable[..., Any] | None = getattr(forward, "_multi_step_forward", None)
    if forward is None or original is None:
        yield
        return

    def loop(x_seq: Any, modules: Any, time_dim: int) -> Any:
        if not isinstance(x_seq, Proxy) or time_dim != 0:
            return original(x_seq, modules, time_dim)
        return once(x_seq, modules)

    setattr(forward, original.__name__, loop)
    try:
        yield
    finally:
        setattr(forward, original.__name__, original)


@contextmanager
def autograd_functions() -> Iterator[None]:
    """Within the block, a `torch.autograd.Function` on proxies runs its `forward` alone: there are no gradients."""
    original = vars(torch.autograd.Function)["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(a, Proxy) for a in (*args, *kwargs.values())):
            return original.__get__(None, cls)(*args, **kwargs)
        separate = cls.setup_context is not torch.autograd.Function.setup_context
        return cls.forward(*(() if separate else (_Forgetful(),)), *args, **kwargs)

    setattr(torch.autograd.Function, "apply", classmethod(apply))  # noqa: B010 -- no assignment for mypy
    try:
        yield
    finally:
        setattr(torch.autograd.Function, "apply", original)  # noqa: B010


class _Forgetful:
    """The context of an autograd function: it takes what is kept for the gradient."""

    needs_input_grad = (False,) * 32

    def save_for_backward(self, *tensors: Any) -> None:
        """Nothing is kept."""

    mark_dirty = mark_non_differentiable = save_for_forward = set_materialize_grads = save_for_backward


def frames_parameter(forward: Any) -> tuple[str, Unsupported | None]:
    """Name of the parameter of `forward` that takes the frames, and why it cannot be called with frames alone."""
    parameters = [*inspect.signature(forward).parameters.values()]
    named_only = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    if not parameters or parameters[0].kind in named_only:
        return "", Unsupported("forward takes no frames")
    first, *others = parameters
    variadic = (first.VAR_POSITIONAL, first.VAR_KEYWORD)
    needed = [p.name for p in others if p.default is p.empty and p.kind not in variadic]
    problem = Unsupported(
        f"forward takes more than frames: {', '.join(needed)}",
        "wrap the module in one that takes frames alone",
    )
    return first.name, problem if needed else None


def without_state(result: Any, kind: type) -> Any:
    """The tensor alone, where Norse's code passes on `(tensor, state)` with states that hold nothing traced."""
    if isinstance(result, Proxy) and result.traced.pair:
        return result.values
    if not isinstance(result, tuple | list) or not result or not isinstance(result[0], kind):
        return result
    return result if any(isinstance(x, kind) for x in _leaves(result[1:])) else result[0]


def only_value(result: Any, kind: type) -> Any:
    """The tensor of a dictionary that holds nothing else, as `{"logits": y}`; anything else as it is."""
    found = [v for v in result.values() if v is not None] if isinstance(result, dict) else []
    return found[0] if len(found) == 1 and isinstance(found[0], kind) else result


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, tuple | list):
        yield value
        return
    for part in value:
        yield from _leaves(part)


def untangled(value: Any) -> Any:
    """Arguments with proxies replaced by what they stand for."""
    if isinstance(value, torch.fx.Proxy) and hasattr(value.tracer, "values"):
        return value.tracer.values[value.node]  # for an attribute of a tensor, this is where it is called
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, tuple | list):
        return type(value)(untangled(v) for v in value)
    if isinstance(value, dict):
        return {k: untangled(v) for k, v in value.items()}
    return value


def readable(text: str) -> str:
    """The text with words for the batch size of tracing, which no user knows."""

    def name(match: re.Match[str]) -> str:
        times, rest = divmod(int(match[0]), SAMPLES)
        return match[0] if rest or not times else "N" if times == 1 else f"{times} N"

    return re.sub(r"(?<![\w.])\d{4,}(?![\w.])", name, text)


def is_own(module: nn.Module) -> bool:
    """Whether a module's `forward` is the user's code."""
    return type(module).__module__.partition(".")[0] not in ("torch", "spikingjelly", "norse")
