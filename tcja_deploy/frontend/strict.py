"""Weights into a live network as `load_state_dict` puts them, strictly, after prefixes of trainers are taken off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tcja_deploy.errors import TraceError
from tcja_deploy.frontend.weights import WRAPPERS, Arrays, below_prefix, one_prefix
from tcja_deploy.unsupported import bullets

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_strictly"]

_SHOWN = 12


def load_strictly(network: nn.Module, state: Arrays) -> dict[str, str]:
    """Give a network its weights.

    Returns:
        Facts for the graph's `source`: which prefix was taken off, which keys lie outside it.

    Raises:
        TraceError: If keys are missing or left over, or shapes or kinds of numbers differ; lists them.
        FileFormatError: If several sets of the weights fit, and nothing tells which is meant.
    """
    import torch

    expected = network.state_dict()
    fitted, facts = _fitted(state, expected)
    problems = _problems(fitted, expected)
    if not problems:
        try:
            with torch.no_grad():
                network.load_state_dict({k: torch.from_numpy(v) for k, v in fitted.items()}, strict=True)
        except (RuntimeError, TypeError, AttributeError) as error:
            problems = [str(error)]
    if problems:
        raise TraceError(
            f"the weights do not fit the network:{bullets(problems, _SHOWN)}",
            hint="build the network with the arguments it was trained with: --set NAME=VALUE; --weights-key chooses among "
            "several state dicts of a file",
        )
    return facts


def _fitted(state: Arrays, expected: Mapping[str, Any]) -> tuple[Arrays, dict[str, str]]:
    """The weights with the keys of the network, as far as taking off a prefix gives them these."""
    fits: Counter[str] = Counter()
    plain = {_unwrapped(key, expected): value for key, value in state.items()}
    for key in plain:
        parts = key.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in expected:
                fits["".join(f"{p}." for p in parts[:cut])] += 1
    if not fits:
        return state, {}
    most = max(fits.values())
    best = [p for p, n in fits.items() if n == most]
    prefix = "" if "" in best else one_prefix(best, "several sets of weights fit the network")
    return below_prefix(plain, prefix)


def _unwrapped(key: str, expected: Mapping[str, Any]) -> str:
    """The key without wrappers between its parts, where the network has none."""
    if key in expected:
        return key
    for wrappers in (WRAPPERS[:1], WRAPPERS):
        short = ".".join(p for p in key.split(".") if p not in wrappers)
        if short in expected:
            return short
    return ".".join(p for p in key.split(".") if p != "_orig_mod")


def _problems(state: Arrays, expected: Mapping[str, Any]) -> list[str]:
    """What `load_state_dict` would refuse, and what it would silently convert."""
    from torch import Tensor
    from torch.nn.parameter import is_lazy

    missing = [f"{key}: missing in the file" for key in expected if key not in state]
    found = []
    for key, value in state.items():
        if key not in expected:
            found.append(f"{key}: the network has no such weight")
            continue
        place = expected[key]
        if not isinstance(place, Tensor) or is_lazy(place):
            continue
        if tuple(place.shape) != value.shape and not (place.shape == () and value.shape == (1,)):
            found.append(f"{key}: has shape {value.shape}, the network's has {tuple(place.shape)}")
        elif place.is_floating_point() != (value.dtype.kind == "f"):
            found.append(
                f"{key}: holds {value.dtype}, the network's is {str(place.dtype).removeprefix('torch.')}"
            )
    some = max(_SHOWN // 2, _SHOWN - len(found))  # so that what is there instead is seen too
    return [*missing[:some], *found, *missing[some:]]
