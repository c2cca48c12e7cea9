"""einops on the stand-ins of tracing: it asks each tensor type for a backend."""

from __future__ import annotations

import sys
from typing import Any

import torch

from tcja_deploy.frontend.proxy import Proxy

__all__ = ["register"]

_known: list[type] = []


def register() -> None:
    """Tell einops how to work on proxies, if a model has imported it."""
    backends: Any = sys.modules.get("einops._backends")
    if backends is None or _known:
        return

    class _ProxyBackend(backends.AbstractBackend):  # type: ignore[misc]
        framework_name = "tcja_deploy"

        def is_appropriate_type(self, tensor: Any) -> bool:
            return isinstance(tensor, Proxy)

        def from_numpy(self, x: Any) -> Any:
            return torch.from_numpy(x)

        def to_numpy(self, x: Any) -> Any:
            raise TypeError("a stand-in has no values")

        def shape(self, x: Any) -> tuple[int, ...]:
            return tuple(x.shape)

        def reshape(self, x: Any, shape: Any) -> Any:
            return x.reshape(tuple(shape))

        def transpose(self, x: Any, axes: Any) -> Any:
            return x.permute(tuple(axes))

        def reduce(self, x: Any, operation: str, axes: Any) -> Any:
            for axis in sorted(axes, reverse=True):
                x = x.amax(dim=axis) if operation == "max" else getattr(x, operation)(dim=axis)
            return x

        def stack_on_zeroth_dimension(self, tensors: list[Any]) -> Any:
            return torch.stack(tensors)

        def add_axis(self, x: Any, new_position: int) -> Any:
            return x.unsqueeze(new_position)

        def add_axes(self, x: Any, n_axes: int, pos2len: dict[int, int]) -> Any:
            for position in sorted(pos2len):
                x = x.unsqueeze(position)
            return x.repeat(tuple(pos2len.get(i, 1) for i in range(x.ndim)))

        def tile(self, x: Any, repeats: Any) -> Any:
            return x.repeat(tuple(repeats))

        def concat(self, tensors: list[Any], axis: int) -> Any:
            return torch.cat(tensors, dim=axis)

        def is_float_type(self, x: Any) -> bool:
            return True

    _known.append(_ProxyBackend)
