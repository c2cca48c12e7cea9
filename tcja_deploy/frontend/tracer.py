"""Runs a module's ``forward`` on stand-ins for tensors (torch.fx proxies) and writes down what it does as IR nodes.

The user's code may see the time axis in three ways, and one IR value serves all of them:

* ``window``: ``[T, N, ...]``, multi-step code;
* ``batch``: ``[T N, ...]``, inside ``SeqToANNContainer`` or after ``flatten(0, 1)``;
* ``frame``: ``[N, ...]``, single-step code that is run once a time step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.fx
from torch import nn

from tcja_deploy.errors import GraphError, TraceError
from tcja_deploy.ir import GraphBuilder, Op, Signal
from tcja_deploy.ir import ops as ir

__all__ = ["SAMPLES", "ModuleTracer", "Offence", "ShapeOffence", "Traced", "View"]

View = Literal["window", "batch", "frame"]

SAMPLES = 7919
"""Batch size that traced code sees: a prime, so that an axis of this length cannot be anything but the batch."""


class Offence(Exception):  # noqa: N818
    """Something that cannot be translated; collected, and reported together with all others."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


class ShapeOffence(Offence):
    """An offence that may only follow from an earlier one, because shapes are not certain after that."""


@dataclass(frozen=True)
class Traced:
    """Stand-in for one tensor.

    Attributes:
        name: IR value behind it.
        signal: Signal of that value.
        view: How the code sees its time axis.
        tainted: Whether something untranslatable went into it; its shape may be wrong.
        pair: Whether it stands for ``(values, indices)`` of ``Tensor.max(dim)``.
    """

    name: str
    signal: Signal
    view: View
    tainted: bool = False
    pair: bool = False

    def shape(self, T: int) -> tuple[int, ...]:
        """Shape as the code sees it."""
        full = self.signal.shape(T, SAMPLES)
        if self.view == "window":
            return full
        return (full[0] * full[1], *full[2:]) if self.view == "batch" else full[1:]


class _Proxy(torch.fx.Proxy):
    """A proxy that knows its shape, so that code may ask for it and branch on it."""

    tracer: ModuleTracer

    @property
    def traced(self) -> Traced:
        return self.tracer.values[self.node]

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.traced.shape(self.tracer.T))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def values(self) -> _Proxy:
        return self.tracer.wrap(replace(self.traced, pair=False), self)

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return math.prod(self.shape)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if self.traced.pair:
            return iter((self.values, None))
        self.tracer.offend(
            Offence(
                "iterates over a tensor, probably over time steps",
                "apply the modules to the whole window in step mode 'm', or trace the single-step network itself",
            )
        )
        raise _AbortError


class _AbortError(Exception):
    """Tracing cannot go on."""


class ModuleTracer(torch.fx.Tracer):
    """Traces one module into a graph builder.

    Args:
        T: Time steps.
        view: How the module sees its input.
        batch_first: Whether the module takes ``[N, T, ...]``.
        input_shape: One frame.
        kind: Signal kind of the input.
    """

    def __init__(self, T: int, view: View, batch_first: bool, input_op: ir.Input) -> None:
        super().__init__()
        self.T = T
        self.builder = GraphBuilder(T)
        self.values: dict[torch.fx.Node, Traced] = {}
        self.offences: list[tuple[str, Offence]] = []
        self.swaps_first = False
        self.output: Traced | None = None
        self._view = view
        self._batch_first = batch_first
        self._input_op = input_op
        self._scopes: list[str] = [""]
        self._names: set[str] = set()
        self._stateful: set[str] = set()
        self._input_name = ""

    # -- running ---------------------------------------------------------------------------------------------
    def run(self, module: nn.Module) -> None:
        """Trace; afterwards ``output`` and ``offences`` tell the result."""
        parameters = inspect.signature(type(module).forward).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        try:
            graph = self.trace(module, concrete_args=defaults or None)
        except _AbortError:
            return
        except torch.fx.proxy.TraceError as error:
            self.offend(
                Offence(f"branches on the values of a tensor ({error})", "take the branch out of forward")
            )
            return
        except (
            TypeError,
            AttributeError,
            RuntimeError,
            ValueError,
            IndexError,
            AssertionError,
            NotImplementedError,
        ) as error:
            if not self.offences:
                self.offend(
                    Offence(f"forward fails on an input of this shape: {type(error).__name__}: {error}")
                )
            return
        (result,) = next(n for n in graph.nodes if n.op == "output").args
        if not isinstance(result, torch.fx.Node):
            self.offend(Offence("forward returns several values", "return one tensor"))
        else:
            self.output = self.values[result]

    @contextmanager
    def _scope(self, path: str) -> Iterator[None]:
        self._scopes.append(path)
        try:
            yield
        finally:
            self._scopes.pop()

    # -- torch.fx hooks ----------------------------------------------------------------------------------------
    def proxy(self, node: torch.fx.Node) -> _Proxy:
        """Proxies of this tracer know their shape."""
        return _Proxy(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Weights stay what they are: they are known before the network runs."""
        return attr_val

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Leaf modules become nodes, containers are walked through, the user's own modules are run."""
        from tcja_deploy.frontend.modules import container_view, is_leaf

        path = self.path_of_module(m)
        inner = container_view(m)
        if inner is not None:
            return self._inline(m, inner, path, *args)
        if is_leaf(m):
            with self._scope(path):
                return self.create_proxy("call_module", path, args, kwargs)
        with self._scope(path):
            return forward(*args, **kwargs)

    def _inline(self, container: Any, inner: View, path: str, x: _Proxy) -> Any:
        with self._scope(path):
            if inner != "window":
                if x.traced.view != "window":
                    self.offend(
                        Offence(
                            f"{type(container).__name__} needs [T, N, ...]",
                            "put it outside of the other container",
                        )
                    )
                x = self.wrap(replace(x.traced, view=inner), x)
            for child in container:
                x = child(x)
            return self.wrap(replace(x.traced, view="window"), x) if inner != "window" else x

    def wrap(self, traced: Traced, origin: _Proxy) -> _Proxy:
        """A proxy for a value in another view."""
        proxy = super().create_proxy("call_method", "view_as", (origin,), {})
        self.values[proxy.node] = traced
        return proxy

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        """Every operation passes here: translate it, then let torch.fx go on."""
        if kind == "placeholder":
            proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
            self.values[proxy.node] = self._input(target)
            return proxy
        if kind not in ("call_function", "call_method", "call_module"):
            return super().create_proxy(kind, target, args, kwargs, *rest, **named)
        from tcja_deploy.frontend.dispatch import dispatch

        traced = dispatch(self, kind, target, _untangle(args), _untangle(kwargs))
        node = self.create_node("call_function", dispatch, (), {})
        self.values[node] = traced
        return self.proxy(node)

    # -- services for the rules --------------------------------------------------------------------------------
    def _input(self, name: str) -> Traced:
        if self._input_name:
            self.offend(
                Offence(
                    f"forward takes a second tensor, {name!r}",
                    "wrap the module in one that takes frames alone",
                )
            )
            raise _AbortError
        self._input_name = self.unique("input")
        self.builder.add(self._input_name, self._input_op)
        traced = Traced(self._input_name, self.builder.signal(self._input_name), self._view)
        if self._batch_first:
            order = (1, 0, *range(2, len(traced.signal.dims)))
            traced = self.emit("input.batch_first", ir.Permute(order), traced)
        return traced

    @property
    def here(self) -> str:
        """Path of the module that is running."""
        return self._scopes[-1]

    def unique(self, name: str) -> str:
        """A node name that is not taken."""
        candidate, i = name, 1
        while candidate in self._names:
            i += 1
            candidate = f"{name}_{i}"
        self._names.add(candidate)
        return candidate

    def emit(self, name: str, op: Op, *inputs: Traced, view: View | None = None) -> Traced:
        """Append a node.

        Raises:
            Offence: If the op does not accept its inputs.
        """
        unique = self.unique(name)
        try:
            self.builder.add(unique, op, *(x.name for x in inputs))
        except GraphError as error:
            raise ShapeOffence(error.reason) from None
        return Traced(
            unique, self.builder.signal(unique), view or inputs[0].view, any(x.tainted for x in inputs)
        )

    def once(self, path: str) -> None:
        """Note that a stateful module ran.

        Raises:
            Offence: If it ran before.
        """
        if path in self._stateful:
            raise Offence(
                "has state and is called more than once in one pass",
                "give each place its own neuron; for a loop over time, trace the single-step network itself",
            )
        self._stateful.add(path)

    def offend(self, offence: Offence, path: str | None = None) -> None:
        """Note something untranslatable, at the running module or a given path."""
        self.offences.append((self.here if path is None else path, offence))

    def note_first_op(self, name: str, x: Traced, order: tuple[int, ...]) -> None:
        """Remember that the code swaps the first two axes of its input: it takes ``[N, T, ...]``."""
        if x.name == self._input_name and order[:2] == (1, 0):
            self.swaps_first = True


def _untangle(value: Any) -> Any:
    """Arguments with proxies replaced by what they stand for."""
    if isinstance(value, _Proxy):
        return value.traced
    if isinstance(value, torch.fx.Proxy):
        raise TraceError("an attribute of a tensor that tracing does not know was used", where=str(value))
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, tuple | list):
        return type(value)(_untangle(v) for v in value)
    if isinstance(value, dict):
        return {k: _untangle(v) for k, v in value.items()}
    return value
