"""From a call that a traced module makes to the rule that translates it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tcja_deploy.frontend.context import RuleContext, Rules
from tcja_deploy.frontend.copies import COPIES
from tcja_deploy.frontend.functions import COMPARISONS, FUNCTIONS, HINTS
from tcja_deploy.frontend.modules import container_view, is_leaf, refresh, remembers, translate
from tcja_deploy.frontend.norse import hands_on_state
from tcja_deploy.frontend.traced import LoopRefusal, Traced, tensors_in
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["RULES"]

_OPERATORS_IN_PLACE = {"iadd", "imul", "isub", "itruediv", "setitem"}
_VIEWS = {
    "contiguous", "detach", "expand", "expand_as", "flatten", "float", "getitem", "movedim", "permute", "requires_grad",
    "reshape", "squeeze", "swapaxes", "to", "transpose", "type", "unflatten", "unsqueeze", "view",
}  # fmt: skip
_BROADCAST = {"add", "iadd", "imul", "isub", "mul", "multiply", "sub", "truediv", "div", "itruediv"}


def _name(kind: str, target: Any) -> str:
    if kind == "call_module":
        return type(target).__name__.lower()
    return str(target if kind == "call_method" else getattr(target, "__name__", target))


def _plain(name: str) -> str:
    """Name of the operation: no underscores around it, which mark operators and in-place forms."""
    return name.strip("_")


def changes_in_place(kind: str, target: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call writes its result over its first tensor."""
    if kind == "call_module":
        return bool(getattr(target, "inplace", False))
    name = _name(kind, target)
    method = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
    return method or _plain(name) in _OPERATORS_IN_PLACE or bool(kwargs.get("inplace", False))


def shares_memory(kind: str, target: Any, x: Traced, result: Traced) -> bool:
    """Whether a result may lie in the memory of its first tensor: it is the same value, or a view of it."""
    same = (result.name, result.line, result.blank) == (x.name, x.line, x.blank) and _plain(
        _name(kind, target)
    ) != "clone"
    return same or _plain(_name(kind, target)) in _VIEWS


def dispatch(
    tracer: RuleContext, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Traced | tuple[Traced, ...]:
    """Translate one call.

    What has no rule is reported and passes its first tensor on, so that tracing finds more.
    """
    tensors = tensors_in((args, kwargs))
    if not tensors:
        raise TypeError(f"{target} without a tensor")
    try:
        _check_readable(tensors)
        if any(t.expanded for t in tensors) and not _broadcasts(kind, target, tensors, tracer.T):
            args, kwargs = (_written_out(tracer, v) for v in (args, kwargs))
        return _translate(tracer, kind, target, args, kwargs)
    except Unsupported as found:
        tracer.report(found, certain=not any(t.tainted for t in tensors))
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
        if not any(t.tainted for t in tensors):
            called = _plain(_name(kind, target))
            tracer.report(Unsupported(f"{called} is called in a way that has no translation ({error})"))
    x = tensors[0]
    return Traced(x.name, x.signal, x.view, x.lead, tainted=True, pair=hands_on_state(target))


def _broadcasts(kind: str, target: Any, tensors: list[Traced], T: int) -> bool:
    """Whether a call repeats an expanded tensor by itself: it combines it with one of the whole shape."""
    whole = {t.shape(T) for t in tensors if t.expanded is None}
    combines = kind != "call_module" and _plain(_name(kind, target)) in _BROADCAST
    return combines and {t.expanded for t in tensors if t.expanded is not None} <= whole


def _written_out(tracer: RuleContext, value: Any) -> Any:
    """Arguments in which expanded tensors are repeated."""
    if isinstance(value, dict):
        return {k: _written_out(tracer, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_written_out(tracer, v) for v in value)
    if not isinstance(value, Traced) or value.expanded is None:
        return value
    plain = replace(value, expanded=None)
    shape, wanted = plain.shape(tracer.T), value.expanded
    new = len(wanted) - len(shape)
    times = (*wanted[:new], *(a // n for a, n in zip(wanted[new:], shape, strict=True)))
    return COPIES["repeat"](tracer, f"{tracer.here}.expand".lstrip("."), plain, *times)


def _check_readable(tensors: list[Traced]) -> None:
    if any(t.stale for t in tensors):
        raise Unsupported(
            "reads a tensor whose memory was changed in place through another one",
            "write 'x = x + y' instead of 'x += y', or inplace=False",
        )


def _translate(
    tracer: RuleContext, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Traced | tuple[Traced, ...]:
    if kind == "call_module":
        return translate(tracer, target, tracer.here, *args, **kwargs)
    if target is getattr:
        raise Unsupported(
            f"uses {args[1]!r} of a tensor", "tracing knows shape, ndim, dtype, device and data"
        )
    name = _plain(_name(kind, target))
    rule: Callable[..., Traced | tuple[Traced, ...]] | None = FUNCTIONS.get(name)
    if rule is None and name in COMPARISONS:
        by_hand = any(t.step is not None for t in tensors_in((args, kwargs)))
        raise (LoopRefusal if by_hand else UnsupportedInContext)(
            f"loop over time in {tracer.code}: keeps a membrane by hand and compares it ({name!r})"
            if by_hand
            else f"compares numbers ({name!r}) outside a module that is a neuron",
            "put the neuron into a separate module: it is then identified by running it (docs/neurons.md)",
        )
    if rule is None:
        what = "Tensor method" if kind == "call_method" else "function"
        raise Unsupported(
            f"the {what} {name!r} has no translation",
            HINTS.get(name, "express it with supported ops, or open an issue"),
        )
    if "input" in kwargs:
        args, kwargs = (kwargs["input"], *args), {k: v for k, v in kwargs.items() if k != "input"}
    renamed = {_NUMPY_NAMES.get(k, k): v for k, v in kwargs.items() if k != "inplace"}
    return rule(tracer, f"{tracer.here}.{name}".lstrip("."), *args, **renamed)


_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}
"""Spellings that PyTorch accepts as well."""


RULES = Rules(
    dispatch=dispatch,
    changes_in_place=changes_in_place,
    shares_memory=shares_memory,
    container_view=container_view,
    is_leaf=is_leaf,
    hands_on_state=hands_on_state,
    refresh=refresh,
    remembers=remembers,
    name_of=lambda kind, target: _plain(_name(kind, target)),
)
"""Every table, for the tracer."""
