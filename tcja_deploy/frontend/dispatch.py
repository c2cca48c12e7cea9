"""From a call that a traced module makes to the rule that translates it."""

from __future__ import annotations

from typing import Any

from tcja_deploy.frontend.tracer import ModuleTracer, Offence, ShapeOffence, Traced

__all__ = ["dispatch"]


def dispatch(
    tracer: ModuleTracer, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Traced:
    """Translate one call. What has no rule is noted as an offence and passes its first tensor on, so that tracing finds more."""
    from tcja_deploy.frontend.functions import FUNCTIONS
    from tcja_deploy.frontend.modules import translate

    tensors = [a for a in _flat(args) + _flat(kwargs) if isinstance(a, Traced)]
    if not tensors:
        raise TypeError(f"{target} without a tensor")
    try:
        if kind == "call_module":
            module = tracer.root.get_submodule(target)
            return translate(tracer, module, target, *args, **kwargs)
        name = target if kind == "call_method" else getattr(target, "__name__", str(target))
        rule = FUNCTIONS.get(name.removeprefix("_").removesuffix("_"))
        if rule is None:
            what = "Tensor method" if kind == "call_method" else "function"
            raise Offence(
                f"the {what} {name!r} has no translation", "express it with supported ops, or open an issue"
            )
        label = f"{tracer.here}.{name.strip('_')}" if tracer.here else name.strip("_")
        return rule(tracer, label, *args, **kwargs)
    except Offence as offence:
        if not (isinstance(offence, ShapeOffence) and any(t.tainted for t in tensors)):
            tracer.offend(offence)
        x = tensors[0]
        return Traced(x.name, x.signal, x.view, tainted=True)
    except TypeError as error:
        tracer.offend(Offence(f"{target} is called in a way that has no translation ({error})"))
        x = tensors[0]
        return Traced(x.name, x.signal, x.view, tainted=True)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [x for v in value.values() for x in _flat(v)]
    if isinstance(value, tuple | list):
        return [x for v in value for x in _flat(v)]
    return [value]
