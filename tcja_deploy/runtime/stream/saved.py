"""States and profiles as safetensors: reading them runs no code, and any process can go on with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from tcja_deploy.errors import FileFormatError
from tcja_deploy.files import atomic_file, path_status
from tcja_deploy.ir import Graph
from tcja_deploy.reading.json_text import parse_json
from tcja_deploy.reading.limits import check_bytes
from tcja_deploy.runtime.stream.cells import STEPS_SEEN
from tcja_deploy.runtime.stream.engine import StreamState, initial
from tcja_deploy.runtime.stream.estimate import FrameProfile
from tcja_deploy.runtime.stream.packing import FrameBundle, Packed
from tcja_deploy.runtime.stream.plan import StreamPlan, Takes
from tcja_deploy.torch_file.safe import read_safetensors
from tcja_deploy.torch_file.tensors import Allowance

__all__ = ["load_profile", "save_profile", "state_from_bytes", "state_to_bytes"]

_VERSION = 1


def state_to_bytes(state: StreamState) -> bytes:
    """A state as safetensors: cell states and waiting frames as tensors, the rest as JSON in `about`."""
    tensors: dict[str, Any] = {
        f"cell/{name}/{part}": t.numpy() for name, cell in state.cells.items() for part, t in cell.items()
    }
    queues = []
    for i, ((reader, position), waiting) in enumerate(state.queues.items()):
        items = [item.packed() if isinstance(item, FrameBundle) else item for item in waiting]
        frames = [{"shape": p.shape, "dtype": p.dtype, "bits": p.bits} for p in items]
        queues.append({"reader": reader, "input": position, "items": frames})
        tensors.update({f"queue/{i}/{j}": p.data for j, p in enumerate(items)})
    about = {
        "version": _VERSION, "identity": state.identity, "samples": state.samples, "pushed": state.pushed,
        "given": dict(state.given), "clocks": dict(state.clocks), "queues": queues,
    }  # fmt: skip
    tensors["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    blob: bytes = save({name: np.ascontiguousarray(a) for name, a in tensors.items()})
    return blob


def state_from_bytes(plan: StreamPlan, data: bytes) -> StreamState:
    """The state that `state_to_bytes` wrote.

    Raises:
        FileFormatError: If the bytes are not a saved state, or one of another network or with other options.
    """
    try:
        tensors = _arrays(data)
        about = parse_json(tensors.pop("about").tobytes(), _STRUCTURE)
        if about["version"] != _VERSION:
            raise FileFormatError(f"the state has version {about['version']}, this program reads {_VERSION}")
        if about["identity"] != plan.identity:
            raise FileFormatError(
                "the state belongs to another network, or to a stream with other options",
                hint="use the same model, look-ahead, schedule and profile as when it was saved",
            )
        return _state(plan, about, tensors)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise FileFormatError(f"this is not a saved state of a stream ({error})") from error


def _arrays(source: Path | bytes) -> dict[str, Any]:
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    return {name: tensor.array() for name, tensor in read_safetensors(source, Allowance(size))[1].items()}


_STRUCTURE = {
    "version": int,
    "identity": str,
    "samples": int,
    "pushed": int,
    "given": {str: int},
    "clocks": {str: int},
    "queues": [{"reader": str, "input": int, "items": [{"shape": [int], "dtype": str, "bits": bool}]}],
}


def _state(plan: StreamPlan, about: dict[str, Any], tensors: dict[str, Any]) -> StreamState:
    if int(about["samples"]) < 1:
        raise ValueError(f"{about['samples']} samples")
    with torch.device("meta"):  # shapes that take no memory, since the number of samples is not trusted yet
        start = initial(plan, int(about["samples"]))
    cells = {}
    for name, cell in start.cells.items():
        found = {part: torch.from_numpy(tensors[f"cell/{name}/{part}"].copy()) for part in cell}
        if any(found[part].shape != t.shape or found[part].dtype != t.dtype for part, t in cell.items()):
            raise ValueError(f"{name} has a state of another shape")
        seen = found.get(STEPS_SEEN)
        if seen is not None and seen.numel() and (int(seen.min()) < 0 or int(seen.max()) > plan.T):
            raise ValueError(f"{name} has counted steps outside the window")
        cells[name] = found
    sources = {(link.name, i): name for link in plan.links for i, name in enumerate(link.inputs)}
    queues: dict[tuple[str, int], tuple[Packed | FrameBundle, ...]] = {}
    for i, queue in enumerate(about["queues"]):
        key, items = (str(queue["reader"]), int(queue["input"])), list[Packed | FrameBundle]()
        signal = plan.signals[sources[key]]
        shape = signal.shape(plan.T, start.samples)[1 if signal.streams else 0 :]
        for j, item in enumerate(queue["items"]):
            packed = Packed(
                tensors[f"queue/{i}/{j}"], tuple(item["shape"]), str(item["dtype"]), bool(item["bits"])
            )
            room = (
                packed.data.size * 8 - math.prod(shape)
                if packed.bits
                else packed.data.size - math.prod(shape)
            )
            if packed.dtype not in ("float32", "float64") or packed.data.dtype.kind not in "uf":
                raise ValueError(f"a frame that waits for {key[0]} has another type")
            if packed.shape != shape or not 0 <= room < (8 if packed.bits else 1):
                raise ValueError(f"a frame that waits for {key[0]} has another size")
            items.append(packed)
        queues[key] = tuple(items)
    if queues.keys() != start.queues.keys() or len(about["queues"]) != len(queues):
        raise ValueError("other queues")
    given, clocks = ({name: int(about[kind][name]) for name in start.clocks} for kind in ("given", "clocks"))
    state = StreamState(plan.identity, start.samples, int(about["pushed"]), given, clocks, cells, queues)
    _check_counts(plan, state)
    return state


def _check_counts(plan: StreamPlan, state: StreamState) -> None:
    """Check that the frames that a cell was given and that do not wait were taken: whole windows, and `clock` more.

    Raises:
        ValueError: If the counts contradict each other.
    """
    made = {plan.input: state.pushed, **state.given}
    if min(made.values()) < 0 or any(not 0 <= clock < plan.T for clock in state.clocks.values()):
        raise ValueError("a count is negative, or a clock stands outside the window")
    for link in plan.links:
        for i, (name, takes) in enumerate(zip(link.inputs, link.takes, strict=True)):
            taken = made[name] - len(state.queues[link.name, i])
            if taken < 0 or (takes is not Takes.VALUE and (taken - state.clocks[link.name]) % plan.T):
                raise ValueError(
                    f"the frames of {name} that were taken and that wait are not those that were given"
                )


def save_profile(profile: FrameProfile, path: Path, *, force: bool = False) -> None:
    """Write a profile to a `.safetensors` file: `<name>/mean`, `<name>/past` and, with slopes, `<name>/slope` of each block.

    Raises:
        ExportError: If the file exists and `force` is not set, or cannot be written.
    """
    with atomic_file(path, force=force) as temporary:
        temporary.write_bytes(save({name: np.ascontiguousarray(a) for name, a in profile.arrays().items()}))


def load_profile(graph: Graph, path: Path) -> FrameProfile:
    """A profile that `save_profile` wrote.

    Raises:
        FileFormatError: If the file cannot be read, is not a profile, or is not one of this graph.
    """
    if path_status(path) != "file":
        raise FileFormatError("there is no such profile", where=str(path), hint="'stream --fit' makes one")
    check_bytes(path.stat().st_size, "the file", where=str(path))
    try:
        arrays = _arrays(path)
    except (OSError, FileFormatError) as error:
        reason = error.reason if isinstance(error, FileFormatError) else error.strerror
        raise FileFormatError(f"this is not a readable profile ({reason})", where=str(path)) from error
    try:
        return FrameProfile.from_arrays(graph, arrays)
    except FileFormatError as error:
        where = f"{path}: {error.where}" if error.where else str(path)
        raise FileFormatError(error.reason, where=where, hint="fit it anew with 'stream --fit'") from None
