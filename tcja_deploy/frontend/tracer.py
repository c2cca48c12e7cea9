"""Runs a module's `forward` on stand-ins for tensors (torch.fx proxies) and writes down what it does as IR nodes.

How the code sees time is a property of each stand-in (`traced.View`), so one IR value serves multi-step code, folded
containers, single-step code and images that are yet to be repeated.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import torch.fx
from torch import nn

from tcja_deploy.errors import GraphError
from tcja_deploy.frontend.blanks import Blanks, factories
from tcja_deploy.frontend.by_hand import ByHand
from tcja_deploy.frontend.context import Rules
from tcja_deploy.frontend.frames import frame_of, frames_of
from tcja_deploy.frontend.hand_neurons import with_neurons
from tcja_deploy.frontend.loops import TimeLoops
from tcja_deploy.frontend.proxy import Proxy
from tcja_deploy.frontend.traced import (
    STATIC,
    Abort,
    LoopRefusal,
    OtherLength,
    OtherReading,
    TimeReading,
    Traced,
    View,
    tensors_in,
)
from tcja_deploy.frontend.values import (
    autograd_functions,
    frames_parameter,
    is_own,
    only_value,
    readable,
    spikingjelly_loops,
    untangled,
    without_state,
)
from tcja_deploy.ir import GraphBuilder, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext, UnsupportedParts

__all__ = ["ModuleTracer"]

_ENOUGH = 200
"""Reports after which tracing stops: more come from a loop, not from more places."""

_ENOUGH_CALLS = 2000
"""Calls on tensors of uncertain shape after which tracing stops."""


class ModuleTracer(torch.fx.Tracer):
    """Traces one module into a graph builder.

    Args:
        T: Time steps.
        reading: How the module sees its input.
        batch_first: Whether the module takes `[N, T, ...]`.
        input_op: The graph's input.
        rules: What translates calls and modules.
        by_hand: Whether to follow membranes that a loop over time keeps by hand (`by_hand.ByHand`).
    """

    def __init__(
        self,
        T: int,
        reading: TimeReading,
        batch_first: bool,
        input_op: ir.Input,
        rules: Rules,
        by_hand: bool = False,
    ) -> None:
        super().__init__()
        self.T = T
        self.reading = reading
        self.builder = GraphBuilder(T)
        self.emitted = 0
        self.values: dict[torch.fx.Node, Traced] = {}
        self.unsupported = UnsupportedParts()
        self.swaps_first = False
        self.notes: list[str] = []
        self.output: Traced | None = None
        self._misread = False
        self._contextual = 0
        self._uncertain = 0
        self.batch_first = batch_first
        self._input_op = input_op
        self._rules = rules
        self._scopes: list[tuple[str, str]] = [("", "")]
        self._names: dict[str, int] = {}
        self.loops = TimeLoops(self, partial(rules.dispatch, self), rules.remembers)
        self._blanks = Blanks(self, self.loops, rules.name_of)
        self._by_hand = self.loops.by_hand = ByHand(self, self._on_streams) if by_hand else None
        self.loop_refused = self.raised = False
        self._input_name = ""
        self._storages, self._sharing = count(), dict[int, list[torch.fx.Node]]()

    @property
    def problems(self) -> tuple[bool, int, int]:
        """How wrong this reading of the time axis looks, for comparison with another one."""
        return self._misread, self._contextual, len(self.unsupported)

    # -- running ---------------------------------------------------------------------------------------------
    def run(self, module: nn.Module) -> None:
        """Trace; afterwards `output` and `unsupported` tell the result."""
        try:
            with spikingjelly_loops(self._once_a_step), factories(self.blank), autograd_functions():
                graph = self.trace(module)
        except Abort:
            return
        except torch.fx.proxy.TraceError as error:
            self.report(
                Unsupported(f"branches on the values of a tensor ({error})", "take the branch out of forward")
            )
            return
        except Exception as error:  # forward is the user's code: it may raise anything
            self.raised = True
            if not self.unsupported:
                self.report(Unsupported(f"forward raises {type(error).__name__} while it is traced: {error}"))
            return
        with suppress(Abort):
            (result,) = next(n for n in graph.nodes if n.op == "output").args
            self._finish(only_value(without_state(result, torch.fx.Node), torch.fx.Node))

    def _finish(self, result: Any) -> None:
        """Check what `forward` returned. Time that is folded into samples comes out of the graph as an axis of its own."""
        if not isinstance(result, torch.fx.Node) or result not in self.values:
            several = isinstance(result, tuple | list | dict)
            what = "several values" if several else "something that does not depend on the input"
            if isinstance(result, dict) and result:
                what += f" ({', '.join(map(str, result))})"
            self.report(Unsupported(f"forward returns {what}", "return one tensor"))
            return
        try:
            content = self._blanks.read(self.values[result])
            if self._by_hand is not None:
                content = self._by_hand.cut(content)
            if not isinstance(content, Traced):
                raise UnsupportedInContext("forward returns something that does not depend on the input")
            whole = self._rules.dispatch(self, "call_method", "clone", (self.loops.result(content),), {})
            if not isinstance(whole, Traced):
                raise UnsupportedInContext("forward returns several values")
            self.output = whole
            self.builder = self.loops.per_step.applied(self.builder)
            if self._by_hand is not None:
                self.builder, name = with_neurons(self, self._by_hand, self._rules.dispatch, whole.name)
                self.output = replace(whole, name=name)
        except Unsupported as found:
            self.report(found, certain=not self.values[result].tainted and not self.unsupported)
            return
        static = self.values[result].step == STATIC
        if (static or self.output.view in ("image", "lone")) and not self.output.tainted:
            self.report(OtherReading("forward never repeats its image over time"))

    def _once_a_step(self, x: Proxy, modules: Any) -> Any:
        """SpikingJelly's own loop over time runs its modules once, on frames."""
        return self._through([modules] if callable(modules) else modules, "frame", x)

    @contextmanager
    def _scope(self, path: str, code: str) -> Iterator[None]:
        self._scopes.append((path, code))
        try:
            yield
        finally:
            self._scopes.pop()

    # -- torch.fx hooks ----------------------------------------------------------------------------------------
    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """The input is the first parameter of `forward`; all others keep their defaults."""
        name, problem = frames_parameter(self.root.forward)
        if problem is not None:
            self.report(problem)
            raise Abort
        proxy = self.create_proxy("placeholder", name, (), {})
        return self._run_root, [self.root, proxy]

    def _run_root(self, root: Any, x: Proxy) -> Any:
        """The network is called like any module: its hooks run, and it may be a layer or a container."""
        return root(x)

    def proxy(self, node: torch.fx.Node) -> Proxy:
        """Proxies of this tracer know their shape."""
        return Proxy(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Weights stay what they are: they are known before the network runs."""
        return attr_val

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Leaf modules become nodes, containers are walked through, the user's own modules are run."""
        self._rules.consider(m, args, self.T)
        leaf = self._rules.container_view(m) is None and self._rules.is_leaf(m)
        with self._scope(self._path(m), f"{type(m).__name__}.forward" if is_own(m) else self.code):
            inner = self._rules.container_view(m)
            if inner is None and not leaf:
                return forward(*args, **kwargs)
            with self.unsupported.at(self.here):
                self._rules.refresh(m)
            if inner is not None and len(args) == 1 and isinstance(args[0], Proxy):
                result = self._through([*m._modules.values()], inner, args[0])
                return (result, None) if self._rules.hands_on_state(m) else result
            return self.create_proxy("call_module", m, args, kwargs)

    def _path(self, module: nn.Module) -> str:
        """Module path; for a module that is not an attribute of the network, the place where it is called."""
        try:
            return self.path_of_module(module)
        except NameError:
            return f"{self.here}.{type(module).__name__}".lstrip(".")

    def _through(self, children: Iterable[Any], inner: View, x: Proxy) -> Any:
        """Run modules one after the other on another view of time."""
        result: Any = x
        if inner != "window":
            if x.traced.view != "window":
                self.report(Unsupported("needs [T, N, ...]", "put it outside the other container"))
            result = self.wrap(replace(x.traced, view=inner, lead=2), x)
        for child in children:
            result = without_state(child(result), Proxy)
        if not isinstance(result, Proxy):
            self.report(Unsupported("passes on something other than one tensor"))
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
        if target is operator.getitem and (frame := frame_of(self, self.loops, *args)) is not None:
            return frame
        name = self._rules.name_of(kind, target)
        if (
            name == "unbind"
            and (frames := frames_of(self, self.loops, args[0], *args[1:], *kwargs.values())) is not None
        ):
            return frames
        given, named = untangled(args), untangled(kwargs)
        traced = self._translated(name, kind, target, given, named)
        if traced is self._blanks:
            return args[0]
        if not isinstance(traced, Traced | tuple):
            return traced
        if isinstance(traced, tuple):
            return tuple(self.made(replace(t, storage=next(self._storages))) for t in traced)
        first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Proxy)), None)
        if first is not None and self._rules.changes_in_place(kind, target, kwargs):
            return self._overwrite(first, traced)
        if first is None or not self._rules.shares_memory(kind, target, first.traced, traced):
            traced = replace(traced, storage=next(self._storages), stale=False)
        else:
            traced = replace(traced, storage=first.traced.storage)
        return self.made(traced)

    def made(self, value: Any) -> Any:
        """A proxy for a new tensor."""
        if not isinstance(value, Traced):
            return value
        node = self.create_node("call_function", self._rules.dispatch, (), {})
        self.values[node] = value
        self._sharing.setdefault(value.storage, []).append(node)
        return self.proxy(node)

    def _translated(self, name: str, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """The result of a call: tensors, a constant, or `self._blanks` where it wrote into a preallocated tensor."""
        tensors = tensors_in((args, kwargs))
        tainted = any(t.tainted for t in tensors)
        self._uncertain += tainted
        if self._uncertain > _ENOUGH_CALLS:
            raise Abort
        try:
            if self._by_hand is not None and (line := self._by_hand.call(name, args, kwargs)) is not None:
                return line
            if (done := self._blanks.call(name, kind, target, args, kwargs)) is not None:
                return done
            args, kwargs = self._blanks.read(args), self._blanks.read(kwargs)
            if not tensors_in((args, kwargs)):
                return self._blanks.computed(target, kind, args, kwargs)
            return self.loops.call(name, kind, target, args, kwargs)
        except Unsupported as found:
            self.report(found, certain=not tainted)
            return replace(tensors[0], tainted=True, since=None, pair=self._rules.hands_on_state(target))

    def _on_streams(self, name: str, function: Any, args: list[Any]) -> Traced:
        """A call on streams or sums of them."""
        return self.loops.call(name, "call_function", function, tuple(args), {})  # type: ignore[return-value]

    def blank(self, shape: tuple[int, ...], fill: float) -> Proxy:
        """A preallocated tensor."""
        return self.made(self._blanks.new(shape, fill))  # type: ignore[no-any-return]

    def _overwrite(self, target: Proxy, result: Traced) -> Proxy:
        """`target` holds another value from now on; other tensors on the same memory must not be read any more."""
        storage = target.traced.storage
        before = target.traced
        if _identity(result) == _identity(before):
            return target
        for node in self._sharing.get(storage, ()):
            self.values[node] = replace(self.values[node], stale=True)
        self.values[target.node] = replace(result, storage=storage, stale=False)
        return target

    # -- services for the rules --------------------------------------------------------------------------------
    def _input(self, name: str) -> Traced:
        self._input_name = self.unique("input")
        self.builder.add(self._input_name, self._input_op)
        signal = self.builder.signal(self._input_name)
        if self.reading == "static":
            return Traced(self._input_name, signal, "frame", step=STATIC)
        traced = Traced(self._input_name, signal, self.reading)
        if self.batch_first:
            order = (1, 0, *range(2, len(traced.signal.dims)))
            traced = self.emit("input.batch_first", ir.Permute(order), traced)
        return traced

    @property
    def here(self) -> str:
        """Path of the module that is running."""
        return self._scopes[-1][0]

    @property
    def code(self) -> str:
        """Name of the `forward` that is running."""
        return self._scopes[-1][1]

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
            samples_first = any(x.signal.dims[:1] == ("N",) for x in inputs)
            raise (OtherReading if samples_first else UnsupportedInContext)(error.reason) from None
        self.emitted += 1
        first = inputs[0]
        tainted = any(x.tainted for x in inputs)
        return Traced(unique, self.builder.signal(unique), view or first.view, first.lead, tainted)

    def once(self, path: str) -> None:
        """Note that a stateful module ran.

        Raises:
            UnsupportedInContext: If it ran before; a loop over time that cannot be translated has been reported already.
        """
        self.loops.ran(path)

    def report(self, found: Unsupported, certain: bool = True) -> None:
        """Note something untranslatable in the running module; if not `certain`, unless it may follow from an earlier note.

        Raises:
            Abort: If there are so many that only a loop can be the cause, or the window has another length than the code.
        """
        found = type(found)(readable(found.reason), readable(found.hint))
        self.loop_refused |= isinstance(found, LoopRefusal)
        self._misread |= certain and isinstance(found, OtherReading)
        self._contextual += isinstance(found, UnsupportedInContext)
        if certain or not isinstance(found, UnsupportedInContext):
            self.unsupported.add(self.here, found)
        if self.unsupported.additions >= _ENOUGH or isinstance(found, OtherLength):
            raise Abort

    def note_first_op(self, x: Traced, order: tuple[int, ...]) -> None:
        """Remember that the code swaps the first two axes of its input: it takes `[N, T, ...]`."""
        if x.name == self._input_name and order[:2] == (1, 0):
            self.swaps_first = True


def _identity(x: Traced) -> tuple[Any, ...]:
    """What tells two values apart."""
    return x.name, x.step, x.since, x.line
