"""What code hands around besides tensors: states, nested arguments, SpikingJelly's own loop over time, words."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.fx
from torch import nn

from tcja_deploy.frontend.proxy import Proxy
from tcja_deploy.frontend.traced import SAMPLES

__all__ = ["is_own", "readable", "spikingjelly_loops", "untangled", "without_state"]


@contextmanager
def spikingjelly_loops(once: Callable[[Proxy, Any], Any]) -> Iterator[None]:
    """Inside, SpikingJelly's loop over time hands a stream and the modules of one step to `once`."""
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


def without_state(result: Any, kind: type) -> Any:
    """The tensor alone, where Norse's code passes on `(tensor, state)` with states that hold nothing traced."""
    if isinstance(result, Proxy) and result.traced.pair:
        return result.values
    if not isinstance(result, tuple | list) or not result or not isinstance(result[0], kind):
        return result
    return result if any(isinstance(x, kind) for x in _leaves(result[1:])) else result[0]


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
    """Words for the batch size of tracing, which no user knows."""

    def name(match: re.Match[str]) -> str:
        times, rest = divmod(int(match[0]), SAMPLES)
        return match[0] if rest or not times else "N" if times == 1 else f"{times} N"

    return re.sub(r"(?<![\w.])\d{4,}(?![\w.])", name, text)


def is_own(module: nn.Module) -> bool:
    """Whether a module's `forward` is the user's code."""
    return type(module).__module__.partition(".")[0] not in ("torch", "spikingjelly", "norse")
