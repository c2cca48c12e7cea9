"""The stand-in that the user's code holds instead of a tensor."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
import torch.fx

from tcja_deploy.frontend.context import ProxyContext
from tcja_deploy.frontend.traced import Abort, OtherReading, Traced

__all__ = ["Proxy"]


class Proxy(torch.fx.Proxy):
    """A proxy that knows its shape, so that code may ask for it and branch on it."""

    @property
    def context(self) -> ProxyContext:
        """The tracer."""
        return cast(ProxyContext, self.tracer)

    @property
    def traced(self) -> Traced:
        """What tracing knows of it now."""
        return self.context.values[self.node]

    # -- what code asks of a tensor -----------------------------------------------------------------------------
    @property
    def shape(self) -> torch.Size:
        """Shape as the code sees it."""
        return torch.Size(self.traced.shape(self.context.T))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """All signals are float32."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        """Always the CPU: tracing runs on no device."""
        return torch.device("cpu")

    @property
    def is_cuda(self) -> bool:
        """No."""
        return False

    @property
    def requires_grad(self) -> bool:
        """No."""
        return False

    @property
    def data(self) -> Proxy:
        """The same tensor: there are no gradients."""
        return self

    @property
    def values(self) -> Proxy:
        """First part of the result of `max(dim)`."""
        first: Proxy = self.context.wrap(replace(self.traced, pair=False), self)
        return first

    def dim(self) -> int:
        """Number of axes."""
        return self.ndim

    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def is_floating_point(self) -> bool:
        """True: all signals are float32."""
        return True

    def size(self, dim: int | None = None) -> Any:
        """Shape, or the length of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if self.traced.pair:
            return iter((self.values, None))
        if self.traced.view == "window" and self.traced.signal.dims[:1] != ("N",):
            return iter([self.__getitem__(i) for i in range(len(self))])
        self.context.report(
            OtherReading("iterates over the samples of a batch", "let forward treat all samples alike")
        )
        raise Abort

    # -- assignments that torch.fx would turn into new tensors ------------------------------------------------------
    def __iadd__(self, other: Any) -> Any:
        return self.context.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.context.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.context.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.context.create_proxy("call_function", operator.itruediv, (self, other), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.context.create_proxy("call_function", operator.setitem, (self, index, value), {})
