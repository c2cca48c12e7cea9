"""Runs a module's ``forward`` on stand-ins for tensors (torch.fx proxies) and writes down what it does as IR nodes.

How the code sees time is a property of each stand-in (``traced.View``), so one IR value serves multi-step code, folded
containers, single-step code and images that are yet to be repeated.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import torch.fx
from torch import nn

from tcja_deploy.errors import GraphError
from tcja_deploy.frontend.context import Rules
from tcja_deploy.frontend.proxy import Proxy
from tcja_deploy.frontend.traced import Abort, Traced, View
from tcja_deploy.ir import GraphBuilder, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext, UnsupportedParts

__all__ = ["ModuleTracer"]

_ENOUGH = 200
"""Reports after which tracing stops: more come from a loop over time, not from more places."""


class ModuleTracer(torch.fx.Tracer):
    """Traces one module into a graph builder.

    Args:
        T: Time steps.
        view: How the module sees its input.
        batch_first: Whether the module takes ``[N, T, ...]``.
        input_op: The graph's input.
        rules: What translates calls and modules.
    """

    def __init__(self, T: int, view: View, batch_first: bool, input_op: ir.Input, rules: Rules) -> None:
        super().__init__()
        self.T = T
        self.view = view
        self.builder = GraphBuilder(T)
        self.emitted = 0
        self.values: dict[torch.fx.Node, Traced] = {}
        self.unsupported = UnsupportedParts()
        self.swaps_first = False
        self.output: Traced | None = None
        self._batch_first = batch_first
        self._input_op = input_op
        self._rules = rules
        self._scopes: list[str] = [""]
        self._names: dict[str, int] = {}
        self._stateful: set[str] = set()
        self._input_name = ""
        self._storages = count()

    # -- running ---------------------------------------------------------------------------------------------
    def run(self, module: nn.Module) -> None:
        """Trace; afterwards ``output`` and ``unsupported`` tell the result."""
        try:
            with self._time_loops_once():
                graph = self.trace(module)
        except Abort:
            return
        except torch.fx.proxy.TraceError as error:
            self.report(
                Unsupported(f"branches on the values of a tensor ({error})", "take the branch out of forward")
            )
            return
        except Exception as error:  # forward is the user's code: it may raise anything
            if not self.unsupported:
                self.report(
                    Unsupported(f"forward fails on an input of this shape: {type(error).__name__}: {error}")
                )
            return
        (result,) = next(n for n in graph.nodes if n.op == "output").args
        self._finish(_without_state(result, torch.fx.Node))

    def _finish(self, result: Any) -> None:
        """Check what ``forward`` returned. Time that is folded into samples comes out of the graph as an axis of its own."""
        if not isinstance(result, torch.fx.Node):
            several = isinstance(result, tuple | list | dict)
            what = "several values" if several else "something that does not depend on the input"
            self.report(Unsupported(f"forward returns {what}", "return one tensor"))
            return
        self.output = self.values[result]
        if self.output.stale or self.output.expanded:
            self.report(
                Unsupported("forward returns a tensor that was expanded or changed through another one")
            )
        if self.output.view in ("image", "lone") and not self.output.tainted:
            self.report(Unsupported("forward never repeats its image over time"))

    @contextmanager
    def _time_loops_once(self) -> Iterator[None]:
        """While tracing, SpikingJelly's loop over time runs its modules once, on frames."""
        forward = sys.modules.get("spikingjelly.activation_based.functional.forward")
        original: Callable[..., Any] | None = getattr(forward, "_multi_step_forward", None)
        if forward is None or original is None:
            yield
            return

        def once(x_seq: Any, modules: Any, time_dim: int) -> Any:
            if not isinstance(x_seq, Proxy) or time_dim != 0:
                return original(x_seq, modules, time_dim)
            return self._through([modules] if callable(modules) else modules, "frame", x_seq)

        setattr(forward, original.__name__, once)
        try:
            yield
        finally:
            setattr(forward, original.__name__, original)

    @contextmanager
    def _scope(self, path: str) -> Iterator[None]:
        self._scopes.append(path)
        try:
            yield
        finally:
            self._scopes.pop()

    # -- torch.fx hooks ----------------------------------------------------------------------------------------
    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """The input is the first parameter of ``forward``; all others keep their defaults."""
        forward: Any = self.root.forward
        parameters = [*inspect.signature(forward).parameters.values()]
        named_only = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        if not parameters or parameters[0].kind in named_only:
            self.report(Unsupported("forward takes no frames"))
            raise Abort
        first, *others = parameters
        variadic = (first.VAR_POSITIONAL, first.VAR_KEYWORD)
        needed = [p.name for p in others if p.default is p.empty and p.kind not in variadic]
        if needed:
            self.report(
                Unsupported(
                    f"forward takes more than frames: {', '.join(needed)}",
                    "wrap the module in one that takes frames alone",
                )
            )
            raise Abort
        proxy = self.create_proxy("placeholder", first.name, (), {})
        return self._run_root, [self.root, proxy]

    def _run_root(self, root: Any, x: Proxy) -> Any:
        """Norse's modules are translated at the top too, all others are run."""
        whole = self._rules.is_whole(root)
        return self.call_module(root, root.forward, (x,), {}) if whole else root.forward(x)

    def proxy(self, node: torch.fx.Node) -> Proxy:
        """Proxies of this tracer know their shape."""
        return Proxy(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Weights stay what they are: they are known before the network runs."""
        return attr_val

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Leaf modules become nodes, containers are walked through, the user's own modules are run."""
        with self._scope(self._path(m)):
            inner = self._rules.container_view(m)
            if inner is None and not self._rules.is_leaf(m):
                return forward(*args, **kwargs)
            with self.unsupported.at(self.here):
                self._rules.refresh(m)
            if inner is not None and len(args) == 1 and isinstance(args[0], Proxy):
                result = self._through([*m._modules.values()], inner, args[0])
                return (result, None) if self._rules.hands_on_state(m) else result
            return self.create_proxy("call_module", m, args, kwargs)

    def _path(self, module: nn.Module) -> str:
        """Module path; for a module that is no attribute of the network, the place where it is called."""
        try:
            return self.path_of_module(module)
        except NameError:
            return f"{self.here}.{type(module).__name__}".lstrip(".")

    def _through(self, children: Iterable[Any], inner: View, x: Proxy) -> Any:
        """Run modules one after the other on another view of time."""
        result: Any = x
        if inner != "window":
            if x.traced.view != "window":
                self.report(Unsupported("needs [T, N, ...]", "put it outside of the other container"))
            result = self.wrap(replace(x.traced, view=inner, lead=2), x)
        for child in children:
            result = _without_state(child(result), Proxy)
        if not isinstance(result, Proxy):
            self.report(Unsupported("hands on something else than one tensor"))
            raise Abort
        return result if inner == "window" else self.wrap(replace(result.traced, view="window"), result)

    def wrap(self, traced: Traced, origin: Proxy) -> Proxy:
        """A proxy for a value in another view."""
        node = self.create_node("call_method", "view_as", (origin.node,), {})
        self.values[node] = traced
        return self.proxy(node)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        """Every operation passes here: translate it, then let torch.fx go on."""
        if kind == "placeholder":
            proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
            self.values[proxy.node] = replace(self._input(target), storage=next(self._storages))
            return proxy
        if kind not in ("call_function", "call_method", "call_module"):
            return super().create_proxy(kind, target, args, kwargs, *rest, **named)
        traced = self._rules.dispatch(self, kind, target, _untangle(args), _untangle(kwargs))
        first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Proxy)), None)
        if first is not None and self._rules.changes_in_place(kind, target, kwargs):
            return self._overwrite(first, traced)
        if first is None or not self._rules.shares_memory(kind, target, first.traced, traced):
            traced = replace(traced, storage=next(self._storages), stale=False)
        else:
            traced = replace(traced, storage=first.traced.storage)
        node = self.create_node("call_function", self._rules.dispatch, (), {})
        self.values[node] = traced
        return self.proxy(node)

    def _overwrite(self, target: Proxy, result: Traced) -> Proxy:
        """``target`` holds another value from now on; other tensors on the same memory must not be read any more."""
        storage = target.traced.storage
        if result.name == target.traced.name:
            return target
        for node, traced in self.values.items():
            if traced.storage == storage:
                self.values[node] = replace(traced, stale=True)
        self.values[target.node] = replace(result, storage=storage, stale=False)
        return target

    # -- services for the rules --------------------------------------------------------------------------------
    def _input(self, name: str) -> Traced:
        self._input_name = self.unique("input")
        self.builder.add(self._input_name, self._input_op)
        traced = Traced(self._input_name, self.builder.signal(self._input_name), self.view)
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
        used = self._names.get(name, 0)
        self._names[name] = used + 1
        return self.unique(f"{name}_{used + 1}") if used else name

    def emit(self, name: str, op: Op, *inputs: Traced, view: View | None = None) -> Traced:
        """Append a node.

        Raises:
            UnsupportedInContext: If the op does not accept its inputs.
        """
        unique = self.unique(name)
        try:
            self.builder.add(unique, op, *(x.name for x in inputs))
        except GraphError as error:
            raise UnsupportedInContext(error.reason) from None
        self.emitted += 1
        first = inputs[0]
        tainted = any(x.tainted for x in inputs)
        return Traced(unique, self.builder.signal(unique), view or first.view, first.lead, tainted)

    def once(self, path: str) -> None:
        """Note that a stateful module ran.

        Raises:
            UnsupportedInContext: If it ran before; a loop over time that cannot be translated has been reported already.
        """
        if path in self._stateful:
            raise UnsupportedInContext(
                "has state and is called more than once in one pass",
                "give each place its own neuron; for a loop over time, trace the single-step network itself",
            )
        self._stateful.add(path)

    def report(self, found: Unsupported) -> None:
        """Note something untranslatable at the running module.

        Raises:
            Abort: If there are so many that only a loop can be the cause.
        """
        self.unsupported.add(self.here, found)
        if self.unsupported.additions >= _ENOUGH:
            raise Abort

    def note_first_op(self, x: Traced, order: tuple[int, ...]) -> None:
        """Remember that the code swaps the first two axes of its input: it takes ``[N, T, ...]``."""
        if x.name == self._input_name and order[:2] == (1, 0):
            self.swaps_first = True


def _without_state(result: Any, kind: type) -> Any:
    """The tensor alone, where Norse's code hands on ``(tensor, state)`` with states that hold nothing traced."""
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


def _untangle(value: Any) -> Any:
    """Arguments with proxies replaced by what they stand for."""
    if isinstance(value, torch.fx.Proxy) and isinstance(value.tracer, ModuleTracer):
        return value.tracer.values[value.node]  # for an attribute of a tensor, this is where it is called
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, tuple | list):
        return type(value)(_untangle(v) for v in value)
    if isinstance(value, dict):
        return {k: _untangle(v) for k, v in value.items()}
    return value
