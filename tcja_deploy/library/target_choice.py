"""Targets given as text, options included: `lava`, `nir:gate=split`, `lava:gate_bits=7,per_channel=true`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.target import Target, given_options
from tcja_deploy.exporters.targets import TARGETS, find_target

__all__ = ["TargetChoice", "chosen_targets"]


@dataclass(frozen=True)
class TargetChoice:
    """A target with options.

    Attributes:
        label: As the user wrote it.
        target: The target.
        options: Options that were given, by name.
    """

    label: str
    target: Target[Any, Any]
    options: Mapping[str, Any]


def chosen_targets(texts: Sequence[str]) -> list[TargetChoice]:
    """Targets by name, each with options after a colon; all targets if there are no texts.

    Raises:
        UsageError: There is no such target or option, a value makes no sense, or a text is given twice.
    """
    texts = list(texts) or list(TARGETS)
    if len(set(texts)) < len(texts):
        raise UsageError("a target is named twice", hint="give each of them once, or with other options")
    return [_choice(text) for text in texts]


def _choice(text: str) -> TargetChoice:
    name, _, rest = text.partition(":")
    target = find_target(name)
    options: dict[str, Any] = {}
    for entry in filter(None, rest.split(",")):
        key, equals, value = entry.partition("=")
        if not equals or key in options:
            raise UsageError(
                f"{text!r} is not TARGET:OPTION=VALUE,...", hint="write for instance nir:gate=split"
            )
        options[key] = _value(target, key, value)
    given_options(target.options, options, f"target {name}")
    return TargetChoice(text, target, options)


def _value(target: Target[Any, Any], name: str, text: str) -> Any:
    """A value of the option's type; the text itself where that is not `int`, `float` or `bool`.

    Raises:
        UsageError: It is not of that type, or the option takes recordings or a profile.
    """
    known = {f.name: f for f in fields(target.options)}
    field = known.get(name)
    if field is None:
        return text  # `given_options` refuses it and lists the options that there are
    if field.metadata.get("reads"):
        raise UsageError(f"{name} is no number or word", where=target.name, hint="export by itself to use it")
    declared = str(field.type).partition("|")[0].strip()
    try:
        return _READ.get(declared, str)(text)
    except ValueError:
        raise UsageError(f"{name}={text} is not of type {declared}", where=target.name) from None


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


_READ: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": _truth}
