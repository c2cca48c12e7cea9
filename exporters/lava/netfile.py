"""The .net files (HDF5) that lava-dl's netx reads: written with h5py alone, and read back strictly.

netx skips layers of an unknown type, ignores unknown entries, and fails or computes something else for several encodings
that it accepts. The reader therefore accepts exactly what the writer writes and reports everything else.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.hdf5 import Tree, read_hdf5_files
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.stages import IntArray, Pair
from tcja_deploy.unsupported import bullets

__all__ = ["read_nets", "write_net"]

CONV_KEYS = {"type", "shape", "weight", "bias", "stride", "padding", "dilation", "groups", "neuron"}
DENSE_KEYS = {"type", "shape", "weight", "bias", "neuron"}
NEURON_KEYS = {"type", "iDecay", "vDecay", "vThMant"}


def _text(value: str) -> Any:
    return np.array([value.encode()], "S10")


def net_input_shape(layers: tuple[LayerStage, ...]) -> tuple[int, ...]:
    """Input shape that a segment's file declares: a first layer that is dense takes a flat vector."""
    first = layers[0]
    return (prod(first.in_shape),) if first.kind == "dense" else first.in_shape


def write_net(path: Path, layers: tuple[LayerStage, ...]) -> None:
    """Write the layers of one segment."""
    content = io.BytesIO()  # on a full disk, HDF5 ends the process instead of raising
    with h5py.File(content, "w") as file:
        root = file.create_group("layer")
        entry = root.create_group("0")
        entry["type"] = _text("input")
        shape = net_input_shape(layers)
        entry["shape"] = np.array(shape, np.int64)
        for layer in layers:
            if layer.kind == "dense" and len(shape) == 3:
                entry = root.create_group(str(len(root)))
                entry["type"] = _text("flatten")
                entry["shape"] = np.array([prod(shape)], np.int64)
            entry = root.create_group(str(len(root)))
            entry["type"] = _text("dense" if layer.kind == "dense" else "conv")
            entry["shape"] = np.array(layer.out_shape, np.int64)
            entry.create_dataset("weight", data=layer.weight.astype(np.int32), compression="gzip")
            entry["bias"] = layer.bias.astype(np.int32)
            if layer.kind != "dense":
                for key in ("stride", "padding", "dilation"):
                    entry[key] = np.array(getattr(layer, key), np.int64)
                entry["groups"] = layer.groups
            neuron = entry.create_group("neuron")
            neuron["type"] = _text("LOIHI")
            neuron["iDecay"], neuron["vDecay"] = layer.i_decay, layer.v_decay
            neuron["vThMant"] = layer.threshold.astype(np.int64)
            shape = layer.out_shape
    path.write_bytes(content.getvalue())


class _Entry:
    """One group of the file, with errors that name it."""

    def __init__(self, name: str, group: Tree, problems: list[str]) -> None:
        self.name = name
        self.group = group
        self.problems = problems

    def complain(self, reason: str) -> None:
        self.problems.append(f"{self.name}: {reason}")

    def keys(self, allowed: set[str]) -> bool:
        found = set(self.group)
        for key in sorted(found - allowed):
            self.complain(f"has an entry {key!r} that the format does not know")
        for key in sorted(allowed - found):
            self.complain(f"lacks {key!r}")
        return found == allowed

    def kind(self) -> str:
        value = self.group.get("type")
        if isinstance(value, np.ndarray) and value.shape == (1,) and value.dtype == object:
            return str(value[0])
        self.complain("has no readable type")
        return ""

    def integers(self, key: str, *ranks: int) -> IntArray:
        item = self.group.get(key)
        if not isinstance(item, np.ndarray) or item.dtype.kind != "i" or item.ndim not in ranks:
            self.complain(f"{key} is not an array of integers with {' or '.join(map(str, ranks))} axes")
        else:
            return item.astype(np.int64)
        return np.zeros((0,) * ranks[0], np.int64)

    def pair(self, key: str) -> Pair:
        value = self.integers(key, 1)
        if value.shape != (2,) or value.min() < 0:
            self.complain(f"{key} is not a pair of numbers")
            return (1, 1)
        return int(value[0]), int(value[1])


def read_nets(segments: Sequence[tuple[Path, list[dict[str, Any]]]]) -> list[tuple[LayerStage, ...]]:
    """Read segments back.

    Args:
        segments: The file of each segment, and "name", "kind" and "in_shape" of its layers from the manifest.

    Raises:
        FileFormatError: If a file holds anything that the writer would not have written; lists all problems of that file.
    """
    found = []
    trees = read_hdf5_files([path for path, _ in segments])
    for (path, described), tree in zip(segments, trees, strict=True):
        problems: list[str] = []
        layers = _read(tree, described, problems)
        if problems:
            raise FileFormatError(f"is not a network this program wrote:{bullets(problems)}", where=str(path))
        found.append(layers)
    return found


def _read(file: Tree, described: list[dict[str, Any]], problems: list[str]) -> tuple[LayerStage, ...]:
    root = file.get("layer")
    if set(file) != {"layer"} or not isinstance(root, dict):
        problems.append("/: must hold one plain group named 'layer'")
        return ()
    if (
        not root
        or set(root) != {str(i) for i in range(len(root))}
        or not all(isinstance(g, dict) for g in root.values())
    ):
        problems.append("/layer: entries must be groups numbered from 0; netx counts them")
        return ()
    entries = [_Entry(f"/layer/{i}", root[str(i)], problems) for i in range(len(root))]
    kinds = [entry.kind() for entry in entries]
    expected = ["input"]
    for index, about in enumerate(described):
        if about["kind"] == "dense" and len(about["in_shape"]) == 3 and index:
            expected.append("flatten")
        expected.append("dense" if about["kind"] == "dense" else "conv")
    entries[0].keys({"type", "shape"})
    if kinds != expected:
        problems.append(
            f"/layer: the types are {kinds}, the manifest says {expected}; netx would skip unknown ones"
        )
        return ()
    for entry, kind in zip(entries, kinds, strict=True):
        if kind == "flatten":
            entry.keys({"type", "shape"})
    blocks = [entry for entry, kind in zip(entries, kinds, strict=True) if kind in ("conv", "dense")]
    layers = []
    for entry, about in zip(blocks, described, strict=True):
        layer = _layer(entry, about)
        if layer is not None and entry.integers("shape", 1).tolist() != list(layer.out_shape):
            entry.complain(f"shape is not the size of the result, {layer.out_shape}")
        if layer is not None:
            layers.append(layer)
    if layers and entries[0].integers("shape", 1).tolist() != list(net_input_shape(tuple(layers))):
        entries[0].complain(f"shape is not that of the first layer's input, {net_input_shape(tuple(layers))}")
    return tuple(layers)


def _layer(entry: _Entry, about: dict[str, Any]) -> LayerStage | None:
    kind: Literal["conv", "dense", "pool"] = about["kind"]
    spatial = kind != "dense"
    if not entry.keys(CONV_KEYS if spatial else DENSE_KEYS):
        return None
    if not isinstance(entry.group["neuron"], dict):
        entry.complain("neuron is not a group")
        return None
    neuron = _Entry(f"{entry.name}/neuron", entry.group["neuron"], entry.problems)
    if not neuron.keys(NEURON_KEYS):
        return None
    if neuron.kind() != "LOIHI":
        neuron.complain("only neurons of type LOIHI are known")
    before = len(entry.problems)
    weight = entry.integers("weight", 4 if spatial else 2)
    bias = entry.integers("bias", 1)
    threshold = neuron.integers("vThMant", 0, 1)
    decays = [neuron.integers(key, 0) for key in ("vDecay", "iDecay")]
    geometry: dict[str, Any] = (
        {key: entry.pair(key) for key in ("stride", "padding", "dilation")} if spatial else {}
    )
    groups = int(entry.integers("groups", 0)) if spatial else 1
    if len(entry.problems) > before:
        return None
    v_decay, i_decay = map(int, decays)
    return LayerStage(
        about["name"],
        kind,
        tuple(about["in_shape"]),
        weight,
        bias,
        threshold,
        v_decay,
        i_decay,
        groups=groups,
        **geometry,
    )
