"""The file that a network came from, with new weights: the same keys in the same places."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import ExportError, UsageError
from tcja_deploy.files import atomic_file
from tcja_deploy.frontend.load import load
from tcja_deploy.frontend.named_code import built, code_name
from tcja_deploy.frontend.state_dicts import choose, find_module
from tcja_deploy.frontend.weights import arrays
from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir_file import is_tcja_file, save_graph
from tcja_deploy.reading.hdf5 import is_hdf5
from tcja_deploy.torch_file.read import read_weights

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_rewritable", "save_like"]

Arrays = dict[str, NDArray[Any]]


def check_rewritable(source: str | Path | nn.Module, graph: Graph, path: Path, **loading: Any) -> None:
    """Make sure, before training, that the weights of a graph can be written in the layout of its source.

    Raises:
        UsageError: The source is of a kind that cannot be rewritten.
        ExportError: The source does not store the weights of some layers as the network computes with them.
    """
    if _is_graph_file(source):
        return
    state, _ = _state(source, loading)
    layers = (n for n in graph if isinstance(n.op, ir.Conv2d | ir.ConvTranspose2d | ir.Linear))
    _check_held({n.name: _weight(n) for n in layers}, {_values(value) for value in state.values()}, path)


def save_like(
    source: str | Path | nn.Module,
    before: Graph,
    after: Graph,
    path: Path,
    *,
    force: bool = False,
    **loading: Any,
) -> None:
    """Write the weights of a graph in the layout of the source that it was read from, and read them back.

    A `.tcja` file becomes one; a file of weights becomes a PyTorch file with the same keys under the same names; a module, or
    code without a file of weights, a state dict. Arrays are found by their values: whatever held a layer's old weights holds
    its new ones.

    Args:
        source: What `load` was given.
        before: What it returned.
        after: The same network with other weights.
        path: What to write.
        force: Replace what is there.
        **loading: Arguments of `load` that were given.

    Raises:
        ExportError: The path is taken or cannot be written, or the source does not hold the weights as they are
            (parametrisations, pruning masks); lists these layers.
        UsageError: The source has no such layout.
    """
    import torch

    if _is_graph_file(source):
        save_graph(after, path, force=force)
        return
    state, keys = _state(source, loading)
    content: dict[str, Any] = {
        k: torch.as_tensor(v) for k, v in _replaced(state, before, after, path).items()
    }
    for key in reversed(keys):
        content = {key: content}
    with atomic_file(path, force=force) as partial:
        torch.save(content, partial)
        _check(source, after, partial, path, ".".join(keys) or None, loading)


def _is_graph_file(source: str | Path | nn.Module) -> bool:
    return isinstance(source, str | Path) and code_name(source) is None and is_tcja_file(Path(source))


def _state(source: str | Path | nn.Module, loading: Mapping[str, Any]) -> tuple[Arrays, list[str]]:
    """The state dict that a network was read from, with the keys that lead to it."""
    if not isinstance(source, str | Path):
        return _of_module(source), []
    weights, code = loading.get("weights"), code_name(source)
    if code is not None and weights is None:
        with built(code, loading.get("settings") or {}) as (network, _):
            return _of_module(network), []
    file = Path(source if code is None else weights or source)
    if is_hdf5(file):
        raise UsageError(
            "a NIR file cannot be rewritten with new weights", where=str(file),
            hint="name the code of the network: models.py:NAME --weights FILE",
        )  # fmt: skip
    content = read_weights(file)
    if code is None and find_module(content) is not None:
        raise UsageError(
            "a pickled module cannot be rewritten with new weights", where=str(file),
            hint="name the code of the network: models.py:NAME --weights FILE",
        )  # fmt: skip
    chosen = choose(content, loading.get("weights_key"), modules=code is not None)
    return arrays(chosen.entries, keep_pruned=True)[0], [k for k in chosen.path.split(".") if k]


def _of_module(module: nn.Module) -> Arrays:
    return {key: value.detach().cpu().numpy() for key, value in module.state_dict().items()}


def _replaced(state: Arrays, before: Graph, after: Graph, path: Path) -> Arrays:
    """The state dict with new arrays in place of the old weights of layers.

    Raises:
        ExportError: No entry holds the weights of a layer.
    """
    changed = {n.name: _weight(n) for n in before if _changed(n, after)}
    new = {_values(old): _weight(after[name]) for name, old in changed.items()}
    found = {
        key: new[_values(value)].reshape(value.shape) if _values(value) in new else value
        for key, value in state.items()
    }
    _check_held(changed, {_values(value) for value in state.values()}, path)
    return found


def _check_held(weights: Arrays, held: set[bytes], path: Path) -> None:
    lost = [name for name, weight in weights.items() if _values(weight) not in held]
    if lost:
        raise ExportError(
            f"the weights of {', '.join(lost[:8])} are not stored as the network computes with them, so there is no place "
            "for new ones",
            where=str(path),
            hint="save the network without parametrisations and pruning masks (torch.nn.utils.parametrize, prune.remove)",
        )


def _weight(node: Node) -> Any:
    """The weight of a node; `None` if it has none."""
    return getattr(node.op, "weight", None)


def _changed(node: Node, after: Graph) -> bool:
    """Whether a node has a weight, and its values differ afterwards."""
    weight = _weight(node)
    return weight is not None and not np.array_equal(weight, _weight(after[node.name]))


def _values(array: NDArray[Any]) -> bytes:
    """A key that arrays of the same numbers share, whatever their shape and precision."""
    return np.ascontiguousarray(array, np.float32).tobytes()


def _check(
    source: str | Path | nn.Module,
    after: Graph,
    partial: Path,
    path: Path,
    key: str | None,
    loading: Mapping[str, Any],
) -> None:
    """Read a file back, and compare every weight.

    Raises:
        ExportError: It reads back as another network.
    """
    import torch

    given = {**loading, "prove": False}
    if not isinstance(source, str | Path):
        other = copy.deepcopy(source)
        written = arrays(choose(read_weights(partial), key, modules=True).entries, keep_pruned=True)[0]
        other.load_state_dict({name: torch.as_tensor(value) for name, value in written.items()})
        again = load(other, **given)
    elif code_name(source) is None:
        again = load(partial, **given)
    else:
        again = load(source, **{**given, "weights": partial, "weights_key": key})
    for node in after:
        if _changed(node, again):
            raise ExportError(
                "what was written gives other weights: they are not stored as the network computes with them",
                where=f"{path}: {node.name}",
                hint="save the network without parametrisations (torch.nn.utils.parametrize.remove_parametrizations)",
            )
