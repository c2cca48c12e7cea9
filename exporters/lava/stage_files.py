"""The files of single stages in a bundle: gates, synapses, neurons, relays and programs, as arrays of integers.

A file is written from a stage and read back strictly, together with the manifest's entry on its shapes and units.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.arrays import read_npz
from tcja_deploy.runtime.integers.edges import AnyStage
from tcja_deploy.runtime.integers.layers import GateStage, SpatialPool
from tcja_deploy.runtime.integers.stages import (
    NeuronStage,
    Pair,
    ProgramStage,
    RelayStage,
    SynapseStage,
)
from tcja_deploy.runtime.integers.window.program import Program

__all__ = ["array", "kind_of", "read_stage", "stage_arrays"]

LARGEST, BITS = 1 << 40, 62
"""Largest integer and largest number of fraction bits in a file; larger ones do not fit 64-bit sums."""
NO_DECAY = -1
_PAIRS = ("stride", "padding", "dilation", "output_padding")


def kind_of(stage: AnyStage) -> str:
    """The manifest's name for the kind of a stage that has its own file."""
    names = {
        GateStage: "gate",
        SynapseStage: "synapse",
        NeuronStage: "neuron",
        RelayStage: "relay",
        ProgramStage: "program",
    }
    return names[type(stage)]


def stage_arrays(stage: AnyStage) -> dict[str, Any]:
    """The arrays that the file of a stage holds."""
    if isinstance(stage, GateStage):
        return _gate_arrays(stage)
    if isinstance(stage, SynapseStage):
        pairs = {key: np.array(getattr(stage, key)) for key in _PAIRS}
        return {"weight": stage.weight.astype(np.int32), "groups": np.array(stage.groups), **pairs}
    if isinstance(stage, NeuronStage):
        whole = {key: np.array(getattr(stage, key)) for key in ("v_decay", "i_decay", "reset_value", "drop")}
        return {"bias": stage.bias, "threshold": stage.threshold, **whole}
    if isinstance(stage, RelayStage):
        decay = NO_DECAY if stage.decay is None else stage.decay
        whole = {key: np.array(getattr(stage, key)) for key in ("bits", "multiplier", "shift")}
        return {"bias": stage.bias, "decay": np.array(decay), **whole}
    if isinstance(stage, ProgramStage):
        return dict(stage.program.arrays)
    raise TypeError(f"{type(stage).__name__} has no file of its own")


def read_stage(file: Path, entry: Mapping[str, Any], frames: int, inputs: tuple[str, ...]) -> AnyStage:
    """Read a stage from its file.

    Args:
        file: Path of the file.
        entry: Its entry in the manifest.
        frames: Number of frames in a window, T.
        inputs: Names of the stages that it reads; empty in a chain.

    Raises:
        FileFormatError: If arrays are missing, unknown or out of bounds.
        GraphError: If arrays do not fit together.
    """
    arrays, name, kind = _Arrays(file), str(entry["name"]), entry["kind"]
    if kind == "gate":
        return _gate(arrays, entry, frames, inputs)
    if kind == "program":
        whole = {key: arrays.whole(key, -LARGEST, LARGEST, None) for key in arrays.values}
        return ProgramStage(name, inputs, Program(entry["program"], whole), float(entry["unit"]))
    if kind == "synapse":
        pairs = {key: arrays.pair(key) for key in _PAIRS}
        weight = arrays.whole("weight", -LARGEST, LARGEST, None)
        groups, unit = arrays.number("groups", 1, LARGEST), float(entry["unit"])
        stage: AnyStage = SynapseStage(
            name, inputs, entry["type"], tuple(entry["in_shape"]), weight, unit, groups=groups, **pairs
        )
    elif kind == "neuron":
        threshold = arrays.whole("threshold", -LARGEST, LARGEST, None)
        numbers = {
            key: arrays.number(key, -LARGEST, LARGEST) for key in ("v_decay", "i_decay", "reset_value")
        }
        drop = arrays.number("drop", 0, LARGEST)
        stage = NeuronStage(
            name, inputs, tuple(entry["out_shape"]), arrays.whole("bias", -LARGEST, LARGEST, 1), threshold,
            reset="subtract" if drop else "zero", drop=drop, **numbers,
        )  # fmt: skip
    elif kind == "relay":
        decay = arrays.number("decay", NO_DECAY, LARGEST)
        numbers = {key: arrays.number(key, -LARGEST, LARGEST) for key in ("bits", "multiplier", "shift")}
        bias = arrays.whole("bias", -LARGEST, LARGEST, 1)
        decay_or_none = None if decay == NO_DECAY else decay
        stage = RelayStage(
            name,
            inputs,
            tuple(entry["out_shape"]),
            bias,
            float(entry["unit"]),
            decay=decay_or_none,
            **numbers,
        )
    else:
        raise FileFormatError(
            f"the manifest holds a part {str(kind)[:40]!r} that is not known", where=str(file)
        )
    unknown = sorted(set(arrays.values) - set(stage_arrays(stage)))
    if unknown:
        raise FileFormatError(f"holds {unknown[0]!r}, which no {kind} has", where=str(file))
    return stage


def array(arrays: Mapping[str, NDArray[Any]], key: str, file: Path) -> NDArray[Any]:
    """One of a file's arrays.

    Raises:
        FileFormatError: If it is missing.
    """
    if key not in arrays:
        raise FileFormatError(f"lacks {key!r}", where=str(file))
    return arrays[key]


class _Arrays:
    """The arrays of one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.values = read_npz(file)

    def whole(self, key: str, least: int, most: int, rank: int | None = 0) -> NDArray[np.int64]:
        """An array of integers within bounds, with `rank` axes (None: any number).

        Raises:
            FileFormatError: If the array is missing, has another type or number of axes, or is out of bounds.
        """
        value = array(self.values, key, self.file)
        fits = value.dtype.kind in "iu" and rank in (None, value.ndim) and value.size > 0
        if not fits or int(value.min()) < least or int(value.max()) > most:
            raise FileFormatError(
                f"{key} is not made of whole numbers from {least} to {most}"
                + ("" if rank is None else f" on {rank} axes"),
                where=str(self.file),
            )
        return value.astype(np.int64)

    def number(self, key: str, least: int, most: int) -> int:
        """One integer within bounds."""
        return int(self.whole(key, least, most))

    def pair(self, key: str, least: int = 0) -> Pair:
        """A pair of integers of at least `least`.

        Raises:
            FileFormatError: If it is missing, not a pair, or out of bounds.
        """
        value = self.whole(key, least, LARGEST, 1).tolist()
        if len(value) != 2:
            raise FileFormatError(f"{key} is not a pair of numbers", where=str(self.file))
        return value[0], value[1]


def _gate_arrays(gate: GateStage) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "fusion": np.array(gate.fusion),
        "fraction": np.array(gate.fraction),
        "index_bits": np.array(gate.index_bits),
        "table": gate.table,
        "one": np.array(gate.one),
    }
    for key in ("tla", "cla"):
        if getattr(gate, key) is not None:
            arrays[key] = getattr(gate, key)
    if gate.pool:
        arrays["pool"] = np.array(gate.pool.kind)
        arrays["pool_kernel"], arrays["pool_stride"] = np.array(gate.pool.kernel), np.array(gate.pool.stride)
    return arrays


def _gate(arrays: _Arrays, entry: Mapping[str, Any], frames: int, inputs: tuple[str, ...]) -> GateStage:
    def weights(key: str) -> NDArray[np.int64] | None:
        return arrays.whole(key, -LARGEST, LARGEST, 3) if key in arrays.values else None

    pool = None
    if "pool" in arrays.values:
        kind = str(arrays.values["pool"])
        if kind not in ("max", "sum"):
            raise FileFormatError("holds a pool that is not known", where=str(arrays.file))
        pool = SpatialPool(
            "max" if kind == "max" else "sum", arrays.pair("pool_kernel", 1), arrays.pair("pool_stride", 1)
        )
    fusion = str(array(arrays.values, "fusion", arrays.file))
    if fusion not in ("multiply", "add"):
        raise FileFormatError(f"holds a fusion {fusion[:40]!r} that is not known", where=str(arrays.file))
    channels, height, width = entry["in_shape"]
    return GateStage(
        str(entry["name"]),
        (channels, height, width),
        frames,
        weights("tla"),
        weights("cla"),
        "multiply" if fusion == "multiply" else "add",
        arrays.number("fraction", 0, BITS),
        arrays.number("index_bits", 0, BITS),
        arrays.whole("table", 0, LARGEST, 1),
        arrays.number("one", 1, LARGEST),
        pool,
        inputs,
    )
