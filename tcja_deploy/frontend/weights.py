"""From the entries of a state dict to arrays: what cannot be a weight is refused by key, and conversions are recorded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError
from tcja_deploy.frontend.state_dicts import is_averaged
from tcja_deploy.torch_file.machine import label
from tcja_deploy.torch_file.tensors import StoredTensor
from tcja_deploy.unsupported import bullets

__all__ = ["WRAPPERS", "Arrays", "arrays", "authors_keys", "below_prefix", "one_prefix"]

Arrays = dict[str, NDArray[Any]]

_ROUNDED = ("float64",)
_WIDENED = ("float16", "bfloat16")
_COUNTERS = ("num_batches_tracked", "n_averaged")
_SHOWN = 8
_ORIGINAL, _MASK = "_orig", "_mask"


def arrays(entries: Mapping[str, Any], *, keep_pruned: bool = False) -> tuple[Arrays, dict[str, str]]:
    """The numbers of a state dict, and what was done to get them.

    Args:
        entries: Tensors and other values by key.
        keep_pruned: Leave `weight_orig` and `weight_mask` apart, for modules that still compute their product.

    Returns:
        Arrays by key, and facts for the graph's `source`.

    Raises:
        FileFormatError: If a value is not a weight of real numbers (quantised, float8, complex, without content, not a tensor);
            lists all by key.
    """
    tensors = {k: v for k, v in entries.items() if not _says_nothing(k, v)}
    refused = [f"{k}: {why}" for k, v in tensors.items() if (why := _obstacle(k, v))]
    if refused:
        raise FileFormatError(
            f"the state dict holds what is not a weight of real numbers:{bullets(refused, 20)}",
            hint="save the weights of the network as it computes in float32, before it was quantised or taken apart",
        )  # fmt: skip
    found: Arrays = {}
    for key, tensor in tensors.items():
        try:
            found[key] = tensor.array() if isinstance(tensor, StoredTensor) else np.asarray(tensor)
        except FileFormatError as error:
            error.where = error.where or key
            raise
    facts = _precision(tensors)
    return (found, facts) if keep_pruned else _merge_pruned(found, facts)


def _says_nothing(key: str, value: Any) -> bool:
    """Entries beside the weights: extra state of modules, parameters that are not there."""
    return value is None or key.rpartition(".")[2] == "_extra_state" or key == "_metadata"


def _obstacle(key: str, value: Any) -> str:
    """Why a value is not a weight of real numbers; empty if it is one."""
    if isinstance(value, bool | int | float):
        return ""
    if not isinstance(value, StoredTensor):
        return (
            "packed weights of a quantised layer"
            if "_packed_params" in key
            else f"{_kind(value)}, not a tensor"
        )
    if value.obstacle:
        return value.obstacle if value.dtype in value.obstacle else f"{value.obstacle} ({value.dtype})"
    if value.dtype.startswith("complex"):
        return f"its elements are complex numbers ({value.dtype})"
    return ""


def _kind(value: Any) -> str:
    return label(value) if not isinstance(value, dict | list | tuple | str) else f"a {type(value).__name__}"


def _precision(tensors: Mapping[str, Any]) -> dict[str, str]:
    """What becomes of weights that are not stored as dense float32."""
    stored = [v for v in tensors.values() if isinstance(v, StoredTensor)]
    count = Counter(v.dtype for v in stored)
    done = [
        *(f"{count[d]} stored as {d}, computed in float32" for d in _WIDENED if count[d]),
        *(f"{count[d]} stored as {d}, rounded to float32" for d in _ROUNDED if count[d]),
    ]
    sparse = sum(v.sparse for v in stored)
    if sparse:
        done.append(f"{sparse} stored sparse, written out with their zeros")
    return {"weights_stored": "; ".join(done)} if done else {}


def _merge_pruned(found: Arrays, facts: dict[str, str]) -> tuple[Arrays, dict[str, str]]:
    """What `torch.nn.utils.prune` keeps apart becomes the weight that it computes with.

    Raises:
        FileFormatError: If a mask does not fit its weight.
    """
    pruned = [
        k.removesuffix(_ORIGINAL)
        for k in found
        if k.endswith(_ORIGINAL) and k.removesuffix(_ORIGINAL) + _MASK in found
    ]
    for key in pruned:
        weight, mask = found.pop(key + _ORIGINAL), found.pop(key + _MASK)
        if weight.shape != mask.shape:
            raise FileFormatError(
                f"the mask has shape {mask.shape}, the weight {weight.shape}", where=key + _MASK
            )
        found[key] = weight * mask.astype(weight.dtype)
    return found, {
        **facts,
        **({"pruned": f"{len(pruned)} weights, merged with their masks"} if pruned else {}),
    }


# -- prefixes of the authors' keys ------------------------------------------------------------------------------------
WRAPPERS = ("_orig_mod", "module")
"""What `torch.compile` and `DataParallel` put into keys, around a network or a part of it."""

_LAYOUT = re.compile(
    r"(?P<prefix>(?:.*?\.)??)(?:conv\.\d+\.(?:\d+\.|conv\.|conv_c\.)|fc\.\d+\.\d+\."
    r"|features\.\d+\.(?:fwd\.module|conv|conv_c)\.|classifier(?:_\d)?\.)"
)
_WRAPPED = re.compile(r"(?<![^.])_orig_mod\.|(?<=(?<![^.])conv\.)module\.|(?<=(?<![^.])fc\.)module\.")
"""What `torch.compile` puts anywhere and `DataParallel` around the parts of a network."""


def authors_keys(state: Arrays) -> tuple[Arrays, dict[str, str]]:
    """The state dict with the keys that the authors' scripts give, without what trainers and wrappers add in front.

    Returns:
        Weights by key, and facts for the graph's `source`: which prefix was taken off, which keys lie outside it.

    Raises:
        FileFormatError: If there are several networks side by side, and nothing tells which is meant; if weights are whole
            numbers, whose scale the file does not tell.
    """
    state = {_WRAPPED.sub("", k): v for k, v in state.items()}
    prefixes = {m["prefix"]: None for m in map(_LAYOUT.match, state) if m}
    if not prefixes or "" in prefixes:
        return _real(state), {}
    prefix = one_prefix(prefixes, "the state dict holds several networks side by side")
    state, facts = below_prefix(state, prefix)
    return _real(state), facts


def one_prefix(prefixes: Collection[str], several: str) -> str:
    """The prefix of the weights to read: trained weights come before averaged ones.

    Args:
        prefixes: Those that fit, at least one.
        several: What is wrong if several are left.

    Raises:
        FileFormatError: If nothing tells which is meant.
    """
    plain = [p for p in prefixes if not is_averaged(p.rstrip("."))] or list(prefixes)
    if len(plain) > 1:
        names = [p.rstrip(".") for p in plain]
        raise FileFormatError(
            f"{several}: {', '.join(names)}", hint=f"choose one, for instance --weights-key {names[0]}"
        )
    return plain[0]


def below_prefix(state: Arrays, prefix: str) -> tuple[Arrays, dict[str, str]]:
    """The weights below a prefix, and facts for the graph's `source`: the prefix, and which keys lie outside it."""
    facts = {"key_prefix": prefix} if set(prefix.split(".")) - {*WRAPPERS, ""} else {}
    outside = [k for k in state if not k.startswith(prefix) and k != "n_averaged"]
    if outside:
        facts["keys_not_read"] = ", ".join(outside[:8]) + (", ..." if len(outside) > 8 else "")
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, facts


def _real(state: Arrays) -> Arrays:
    """The state dict, if none of its weights are whole numbers, whose scale a file does not tell."""
    whole = [
        f"{k} ({v.dtype})" for k, v in state.items() if v.dtype.kind in "biu" and not k.endswith(_COUNTERS)
    ]
    if whole:
        raise FileFormatError(
            f"weights are stored as whole numbers, as in a quantised network: {', '.join(whole[:_SHOWN])}",
            hint="save the weights of the network as it computes in float32, before it was quantised",
        )
    return state
