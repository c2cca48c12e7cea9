"""What rules may ask of the tracer, and what the tracer asks of the tables of rules: neither imports the other."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch.fx
from torch import nn

from tcja_deploy.frontend.traced import TimeReading, Traced, View
from tcja_deploy.ir import GraphBuilder, Op
from tcja_deploy.unsupported import Unsupported

__all__ = ["ProxyContext", "RuleContext", "Rules"]


class RuleContext(Protocol):
    """The tracer as rules see it."""

    T: int
    """Time steps."""
    reading: TimeReading
    """How the module sees its input."""
    builder: GraphBuilder
    """The nodes so far."""
    notes: list[str]
    """What is computed in another way than the code has it, in sentences; by rounding alone."""

    @property
    def here(self) -> str:
        """Path of the module that is running."""

    @property
    def code(self) -> str:
        """Name of the running function, such as `Net.forward`."""

    def emit(self, name: str, op: Op, *inputs: Traced, view: View | None = None) -> Traced:
        """Append a node.

        Raises:
            UnsupportedInContext: If the op does not accept its inputs.
        """

    def once(self, path: str) -> None:
        """Note that a stateful module ran.

        Raises:
            UnsupportedInContext: If it ran before on the same frames.
        """

    def report(self, found: Unsupported, certain: bool = True) -> None:
        """Note something untranslatable in the running module; if not `certain`, unless it may follow from an earlier note."""

    def note_first_op(self, x: Traced, order: tuple[int, ...]) -> None:
        """Tell that the code reorders the axes of `x`."""


class ProxyContext(Protocol):
    """The tracer as its proxies see it."""

    T: int
    """Time steps."""
    values: MutableMapping[torch.fx.Node, Traced]
    """What each proxy's node stands for."""

    def wrap(self, traced: Traced, origin: Any) -> Any:
        """A proxy for a value in another view."""

    def report(self, found: Unsupported) -> None:
        """Note something untranslatable in the running module."""

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """Translate one call."""


def _nothing(module: nn.Module, args: tuple[Any, ...], T: int) -> None:
    """What `consider` does where nothing has to be found out about modules."""


@dataclass(frozen=True)
class Rules:
    """The tables, as the tracer uses them.

    Attributes:
        dispatch: Translates one call: `(context, kind, target, args, kwargs)`.
        changes_in_place: Whether a call writes its result over its first tensor.
        shares_memory: Whether a result may lie in the memory of its first tensor.
        container_view: How the children of a container see time; `None` for other modules.
        is_leaf: Whether a module is translated as a whole.
        hands_on_state: Whether a module returns `(result, state)`.
        refresh: Brings derived weights of a module up to date and checks its hooks.
        remembers: Whether a module that is translated as a whole has state.
        name_of: Name of the operation of a call, in the tables' spelling.
        consider: Called with a module, its arguments and T before the module runs: `is_leaf` may depend on it.
    """

    dispatch: Callable[..., Traced | tuple[Traced, ...]]
    changes_in_place: Callable[[str, Any, dict[str, Any]], bool]
    shares_memory: Callable[[str, Any, Traced, Traced], bool]
    container_view: Callable[[nn.Module], View | None]
    is_leaf: Callable[[nn.Module], bool]
    hands_on_state: Callable[[Any], bool]
    refresh: Callable[[nn.Module], None]
    remembers: Callable[[nn.Module], bool]
    name_of: Callable[[str, Any], str]
    consider: Callable[[nn.Module, tuple[Any, ...], int], None] = _nothing
