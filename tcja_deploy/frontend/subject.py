"""A copy of a module that can be run on windows, watched and reset; the module itself is not touched."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tcja_deploy.errors import TraceError
from tcja_deploy.frontend.traced import TimeReading
from tcja_deploy.frontend.values import only_value

__all__ = ["Subject", "copied"]

_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has."""

Memory = dict[str, dict[str, Any]]
"""Plain attributes by module path and name, as they were."""


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _tensors(part)


def copied(module: nn.Module) -> nn.Module:
    """A deep copy; tensors with a history are detached from it, and what cannot be copied (locks, open files) is shared."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for tensor in _tensors([v for k, v in vars(part).items() if k not in ("_modules", "_parameters")]):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    try:
        return _runnable(copy.deepcopy(module, dict(memo)))
    except Exception:  # any object may lie in an attribute, and raise anything
        for part in module.modules():
            for name, value in vars(part).items():
                if name in _OF_TORCH:
                    continue
                try:
                    copy.deepcopy(value, dict(memo))
                except Exception:
                    memo[id(value)] = value
        return _runnable(copy.deepcopy(module, memo))


def _runnable(root: nn.Module) -> nn.Module:
    """SpikingJelly 2 does not run neurons that define `neuronal_charge` alone, as 0.0.0.0.14 asked for: here they do run."""
    for part in root.modules():
        written = getattr(type(part), "single_step_functional_forward", None)
        if hasattr(part, "neuronal_charge") and getattr(written, "__qualname__", "").startswith("BaseNode."):
            part.forward = partial(_charge_fire_reset, part)
    return root


def _charge_fire_reset(node: Any, x: Tensor) -> Tensor:
    """`BaseNode.forward` of SpikingJelly 0.0.0.0.14: charge, fire, reset; in step mode 'm' over a window."""
    if node.step_mode == "m":
        return torch.stack([_one_step(node, frame) for frame in x])
    return _one_step(node, x)


def _one_step(node: Any, x: Tensor) -> Tensor:
    if isinstance(node.v, float):
        node.v = torch.full_like(x, node.v)
    node.neuronal_charge(x)
    spike: Tensor = node.surrogate_function(node.v - node.v_threshold)
    node.v = (
        node.v - spike * node.v_threshold
        if node.v_reset is None
        else spike * node.v_reset + (1.0 - spike) * node.v
    )
    return spike


class Subject:
    """One module under test, in evaluation mode, in float32 on the CPU.

    Args:
        module: What is copied.
        view: How it sees the time axis of its input.
        batch_first: Whether it takes `[N, T, ...]`.
    """

    def __init__(self, module: nn.Module, view: TimeReading, batch_first: bool) -> None:
        self._original, self._view, self._batch_first = module, view, batch_first
        self._takes_state = "state" in inspect.signature(module.forward).parameters
        self.fresh()

    def fresh(self) -> None:
        """Begin again with a new copy."""
        self._state: Any = None
        self._module = copied(self._original)
        tensors = [*self._module.parameters(), *self._module.buffers()]
        if any(
            t.device.type != "cpu" or t.dtype in (torch.float64, torch.float16, torch.bfloat16)
            for t in tensors
        ):
            self._module.to("cpu", torch.float32)
        for part in self._module.modules():
            part.training = False
            if isinstance(getattr(part, "backend", None), str):
                with suppress(
                    Exception
                ):  # SpikingJelly's neurons have a kernel in PyTorch; others may not accept that name
                    setattr(part, "backend", "torch")  # noqa: B010 -- a Module types its attributes
        self.reset()

    def reset(self) -> None:
        """Forget, as SpikingJelly does: every module that has a `reset()` is asked to."""
        self._state = None
        for part in [*self._module.modules()]:
            reset = getattr(part, "reset", None)
            if callable(reset) and not isinstance(reset, nn.Module):
                with suppress(TypeError):  # it takes arguments: not meant
                    reset()

    def window(self, frames: Tensor) -> Tensor:
        """The module's result for a window `[T, N, ...]`; the results of single steps are stacked.

        Raises:
            TraceError: If it fails.
        """
        try:
            with torch.no_grad():
                if self._view == "frame":
                    return torch.stack([self._call(frame.clone()) for frame in frames])
                if self._view in ("image", "static"):
                    return self._call(frames[0].clone())
                return self._call((frames.transpose(0, 1) if self._batch_first else frames).clone())
        except Exception as error:  # forward is the user's code
            raise TraceError(
                f"the model itself fails on frames {list(frames.shape)}: {type(error).__name__}: {error}",
                hint="what was read is proven by running the model in evaluation mode, in float32 on the CPU; "
                "load(..., prove=False) in Python leaves the proof out",
            ) from error

    def _call(self, x: Tensor) -> Tensor:
        handed_on = (self._state,) if self._view == "frame" and self._state is not None else ()
        result = self._module(x, *handed_on)
        if isinstance(result, tuple | list) and result:
            if self._takes_state and len(result) == 2:
                self._state = result[1]
            result = result[0]
        result = only_value(result, Tensor)
        if not isinstance(result, Tensor):
            raise TypeError(f"forward returns a {type(result).__name__}")
        return result.detach().to(torch.float32)

    @contextmanager
    def recording(self, record: Callable[[str, Tensor], None]) -> Iterator[None]:
        """Within the block, `record` gets the path and result of each module that runs below the top."""

        def recorder(path: str) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, result: Any) -> None:
                first = result[0] if isinstance(result, tuple) and result else result
                if isinstance(first, Tensor):
                    record(path, first.detach())

            return hook

        hooks = [
            part.register_forward_hook(recorder(path)) for path, part in self._module.named_modules() if path
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def memory(self) -> Memory:
        """The plain attributes of all modules that can hold what a step leaves behind."""
        return {
            path: {k: _frozen(v) for k, v in vars(part).items() if k not in _OF_TORCH}
            for path, part in self._module.named_modules()
        }

    def changed(self, before: Memory) -> dict[str, list[str]]:
        """Names of the plain attributes that changed since, by module path."""
        now = self.memory()
        return {
            path: names
            for path, held in now.items()
            if (names := [k for k, v in held.items() if not _equal(v, before.get(path, {}).get(k))])
        }


def _frozen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_frozen(v) for v in value]
    return value if isinstance(value, int | float | str | type(None)) else None


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)
