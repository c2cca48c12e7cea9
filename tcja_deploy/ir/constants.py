"""What an op's constants may be, read off the type hints of its fields: so that equal ops have equal hashes and files."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

import numpy as np

from tcja_deploy.ir.signal import Kind
from tcja_deploy.text import with_article

__all__ = ["conform", "field_types"]


def field_types(op: type[Any]) -> dict[str, Any]:
    """The type hint of each of an op's constants, aliases resolved (`NDArray[...]` is one since NumPy 2.5 on Python 3.12)."""
    if op not in _known:
        hints = typing.get_type_hints(op)
        _known[op] = {field.name: _resolved(hints[field.name]) for field in dataclasses.fields(op)}
    return _known[op]


def _resolved(hint: Any) -> Any:
    """A type hint without the aliases in it: `type X = ...` statements keep their target to themselves."""
    alias, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hasattr(alias, "__value__"):
        target = alias.__value__
        return _resolved(target[args] if args else target)
    if isinstance(hint, types.UnionType) or alias is typing.Union:
        return typing.Union[tuple(map(_resolved, args))]  # noqa: UP007 -- built at run time
    return hint


_LARGEST = (1 << 31) - 1
"""Largest size, stride, padding or count: backends keep these in 32 bits."""

_known: dict[type[Any], dict[str, Any]] = {}


def conform(value: object, hint: Any) -> Any:
    """A constant in the one form of its type: NumPy scalars become Python's, lists tuples, and integers floats where due.

    Raises:
        ValueError: If the value is of another type.
    """
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    for option in typing.get_args(hint) if union else (hint,):
        try:
            return _conform(value, option)
        except ValueError:
            continue
    described = f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
    raise ValueError(f"{described} is not {with_article(_spelled(hint))}")


def _conform(value: object, option: Any) -> Any:
    origin, args = typing.get_origin(option), typing.get_args(option)
    if option is type(None) and value is None:
        return None
    if origin is np.ndarray and isinstance(value, np.ndarray):
        return value
    if origin is tuple and isinstance(value, tuple | list):
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(conform(v, k) for v, k in zip(value, kinds, strict=True))
    if origin is typing.Literal and isinstance(value, str) and value in args:
        return str(value)
    if option is str and isinstance(value, str):
        return str(value)
    if option is Kind and isinstance(value, str):
        return Kind(value)
    if option is bool and isinstance(value, bool | np.bool_):
        return bool(value)
    if option is int and isinstance(value, int | np.integer) and not isinstance(value, bool):
        if abs(int(value)) > _LARGEST:
            raise ValueError(value)
        return int(value)
    if (
        option is float
        and isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
    ):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(str(error)) from error
    raise ValueError(value)


def _spelled(hint: Any) -> str:
    if typing.get_origin(hint) is np.ndarray:
        return "array"
    if isinstance(hint, type) and not typing.get_args(hint):
        return "number" if hint is float else hint.__name__
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    if union:
        return " or ".join("None" if o is type(None) else _spelled(o) for o in typing.get_args(hint))
    return str(hint).replace("typing.", "")
