"""State dicts in what a file holds: all are found, one is chosen by its name, and the others are named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from tcja_deploy.errors import FileFormatError, UsageError
from tcja_deploy.torch_file.machine import Foreign, label
from tcja_deploy.torch_file.tensors import StoredTensor

__all__ = ["Chosen", "choose", "find_module", "holds_state_dict", "is_averaged"]

_NAMES = ("net", "state_dict", "model", "model_state_dict", "model_state", "network", "weights", "params")
"""Keys under which training scripts save what they trained, the most usual first."""

_AVERAGED = re.compile(
    r"(?i)(^|[._])(ema|swa|ma|avg|averaged?|moving|shadow|teacher|target|momentum)([._]|$)"
)
"""Names of weights that were averaged over training."""

_DEEPEST = 12
_MOST = 200_000
"""Objects of a file that are looked at."""

_SAVE = "save the checkpoint as torch.save({'net': model.state_dict()}, path)"


@dataclass(frozen=True)
class Chosen:
    """One state dict of a file.

    Attributes:
        path: Keys that lead to it, joined by dots; empty if the file is the state dict.
        entries: What it holds by key; not only tensors.
        others: Paths of the state dicts that are not read.
    """

    path: str
    entries: dict[str, Any]
    others: tuple[str, ...] = ()


def choose(content: Any, key: str | None, *, modules: bool = False) -> Chosen:
    """The state dict that is meant.

    Args:
        content: From `read_weights`.
        key: Its path, the end of its path, or its path with a prefix of its keys; `None` for the usual one: weights before
            averaged weights, usual names before others, the nearest.
        modules: Whether the weights of a pickled module count as a state dict.

    Raises:
        FileFormatError: If there is none, or nothing tells which is meant.
        UsageError: If there is none of this name.
    """
    found = dict(_state_dicts(content, modules))
    with_weights = {p: s for p, s in found.items() if any(re.search(r"(^|[._])weight", k) for k in s)}
    found = with_weights or found
    if not found:
        keys = ""
        if isinstance(content, Mapping) and content:
            keys = " under a key; its keys: " + ", ".join(label(k) for k in list(content)[:8])
        kind = "Tensor" if isinstance(content, StoredTensor) else type(content).__name__
        raise FileFormatError(f"the file holds a {kind} and no state dict{keys}", hint=_SAVE)
    if key is not None:
        return _named(found, key)
    ranks = {path: _rank(path) for path in found}
    best = min(ranks.values())
    first = [path for path, rank in ranks.items() if rank == best]
    if len(first) > 1:
        raise FileFormatError(
            f"the file holds {len(found)} state dicts, and nothing tells which is meant: {_listed(found)}",
            hint=f"choose one, for instance --weights-key {first[0]}",
        )
    return Chosen(first[0], found[first[0]], tuple(p for p in found if p != first[0]))


def holds_state_dict(content: Any) -> bool:
    """Whether there is a state dict anywhere in what a file holds, outside pickled modules."""
    return any(True for _ in _state_dicts(content, modules=False))


def is_averaged(name: str) -> bool:
    """Whether a name says that weights were averaged over training."""
    return bool(_AVERAGED.search(name))


def find_module(content: Any) -> tuple[str, Foreign] | None:
    """A whole module that was saved by itself (then its key is empty) or under one of the usual names."""
    named = {k: content.get(k) for k in _NAMES} if isinstance(content, Mapping) else {"": content}
    return next(((k, m) for k, m in named.items() if _is_module(m)), None)


def _named(found: Mapping[str, dict[str, Any]], key: str) -> Chosen:
    ends = [p for p in found if p == key] or [p for p in found if p.endswith(f".{key}")]
    if len(ends) == 1:
        return Chosen(ends[0], found[ends[0]], tuple(p for p in found if p != ends[0]))
    for path, state in found.items():
        prefix = key.removeprefix(f"{path}.") if path else key
        inner = {k.removeprefix(f"{prefix}."): v for k, v in state.items() if k.startswith(f"{prefix}.")}
        if inner and (not path or key.startswith(f"{path}.")):
            return Chosen(key, inner, tuple(p for p in found if p != path))
    raise UsageError(
        f"there is no state dict {key!r} in the file" if not ends else f"several state dicts end in {key!r}",
        hint=f"--weights-key takes one of: {_listed(found)}",
    )


def _listed(found: Mapping[str, Any]) -> str:
    shown = [p or "(the file itself)" for p in list(found)[:8]]
    return ", ".join(shown) + (", ..." if len(found) > len(shown) else "")


def _rank(path: str) -> tuple[bool, int, int]:
    parts = path.split(".")
    name = _NAMES.index(parts[-1]) if parts[-1] in _NAMES else len(_NAMES)
    return any(map(is_averaged, parts)), name, len(parts)


def _state_dicts(content: Any, modules: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """All state dicts with their paths, the nearest first; the state of optimisers does not count."""
    level: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        below: list[tuple[tuple[str, ...], Any]] = []
        for path, value in level:
            if id(value) in seen or len(seen) > _MOST:
                continue
            seen.add(id(value))
            if _is_module(value):
                if modules:
                    yield ".".join(path), dict(_module_entries(value))
                continue
            inner = _entries(value)
            if isinstance(inner, dict) and _is_state(inner):
                yield ".".join(path), {label(k): v for k, v in inner.items()}
            elif inner and "param_groups" not in inner:
                below += [((*path, label(k)), v) for k, v in inner.items() if isinstance(v, _CONTAINERS)]
        level = below


_CONTAINERS = (dict, list, tuple, Foreign)


def _entries(value: Any) -> dict[Any, Any]:
    """The contents of a container, by key or number."""
    if isinstance(value, Foreign):
        attributes = value.state if isinstance(value.state, dict) else {}
        return {**dict(enumerate(value.elements)), **attributes, **value.items}
    if isinstance(value, list | tuple):
        return dict(enumerate(value[:_MOST]))
    return value if isinstance(value, dict) else {}


def _is_state(entries: Mapping[Any, Any]) -> bool:
    """Whether these are names of tensors, with little else beside them."""
    tensors = [v for k, v in entries.items() if isinstance(v, StoredTensor) and isinstance(k, str)]
    nested = any(isinstance(v, dict) for v in entries.values())
    return not nested and 2 * len(tensors) > len(entries) and any(t.shape or t.obstacle for t in tensors)


def _is_module(value: Any) -> TypeGuard[Foreign]:
    """Whether an object that was not built is a `torch.nn.Module`, by what all of them hold."""
    held = value.state if isinstance(value, Foreign) and isinstance(value.state, dict) else {}
    return {"_parameters", "_buffers", "_modules"} <= set(held)


def _module_entries(module: Foreign) -> Iterator[tuple[str, Any]]:
    """The state dict that a pickled module would give."""
    pending: list[tuple[str, Any, int]] = [("", module, 0)]
    seen = 0
    while pending:
        prefix, value, depth = pending.pop()
        seen += 1
        if depth > 64 or seen > _MOST:
            raise FileFormatError("the pickled module is nested too deeply")
        transient = value.state.get("_non_persistent_buffers_set")
        for part in ("_parameters", "_buffers"):
            entries = value.state[part]
            for name, tensor in entries.items() if isinstance(entries, dict) else ():
                if isinstance(tensor, StoredTensor) and not (
                    isinstance(transient, set) and name in transient
                ):
                    yield prefix + label(name), tensor
        children = value.state["_modules"]
        for name, child in children.items() if isinstance(children, dict) else ():
            if _is_module(child):
                pending.append((f"{prefix}{label(name)}.", child, depth + 1))
