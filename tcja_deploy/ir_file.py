"""The ``.tcja`` file: a graph as safetensors, with structure as JSON in the header. Loading it runs no code."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tcja_deploy.errors import FileFormatError, GraphError
from tcja_deploy.files import atomic_file
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Op
from tcja_deploy.ir.ops import OPS

__all__ = ["FORMAT_VERSION", "is_tcja_file", "load_graph", "save_graph"]

FORMAT_VERSION = 1
_KEY = "tcja_deploy.graph"


def save_graph(graph: Graph, path: Path, *, force: bool = False) -> None:
    """Write a graph.

    Raises:
        ExportError: If the path is taken and ``force`` is not set, or writing fails.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    nodes = []
    for node in graph:
        constants: dict[str, Any] = {}
        for name, value in node.op.constants().items():
            if isinstance(value, np.ndarray):
                key = f"{node.name}.{name}"
                tensors[key] = np.ascontiguousarray(value)
                constants[name] = {"tensor": key}
            else:
                constants[name] = list(value) if isinstance(value, tuple) else value
        nodes.append(
            {
                "name": node.name,
                "op": type(node.op).__name__,
                "inputs": list(node.inputs),
                "constants": constants,
            }
        )
    structure = {
        "version": FORMAT_VERSION,
        "T": graph.T,
        "output": graph.output,
        "source": graph.source,
        "sha256": graph.hash,
        "nodes": nodes,
    }
    with atomic_file(path, force=force) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(structure)})


def is_tcja_file(path: Path) -> bool:
    """Whether a file looks like one of ours, by its first bytes."""
    with path.open("rb") as stream:
        head = stream.read(256)
    return len(head) > 9 and head[8:9] == b"{" and _KEY.encode() in head


def load_graph(path: Path) -> Graph:
    """Read a graph.

    Raises:
        FileFormatError: If the file is truncated, tampered with, of a newer version, or breaks a rule of the IR.
    """
    where = str(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(
            f"the file is truncated or damaged ({error})", where=where, hint="export it again"
        ) from error
    if _KEY not in metadata:
        raise FileFormatError(
            "this safetensors file holds no graph", where=where, hint="a .tcja file is needed"
        )
    try:
        structure = json.loads(metadata[_KEY])
        version = structure["version"]
        if not isinstance(version, int) or version < 1:
            raise ValueError(f"version {version!r}")
        if version > FORMAT_VERSION:
            raise FileFormatError(
                f"the file has format version {version}, this program reads up to {FORMAT_VERSION}",
                where=where,
                hint="upgrade tcja-deploy",
            )
        builder = GraphBuilder(int(structure["T"]))
        for entry in structure["nodes"]:
            op = _op(entry["op"], entry["constants"], tensors)
            builder.add(str(entry["name"]), op, *map(str, entry["inputs"]))
        source = {str(k): str(v) for k, v in structure["source"].items()}
        graph = builder.finish(str(structure["output"]), source)
    except GraphError as error:
        raise FileFormatError(f"the graph in the file is not valid: {error}", where=where) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileFormatError(
            f"the structure in the file is not readable ({error!r})", where=where
        ) from error
    if graph.hash != structure.get("sha256"):
        raise FileFormatError(
            "the content does not match the checksum in the file: it was changed or damaged",
            where=where,
            hint="export it again from the trained model",
        )
    return graph


def _op(name: str, constants: dict[str, Any], tensors: dict[str, NDArray[np.float32]]) -> Op:
    cls = OPS.get(name)
    if cls is None:
        raise ValueError(f"unknown op {name!r}")
    fields = {f.name for f in dataclasses.fields(cls)}
    unknown = set(constants) - fields
    if unknown:
        raise ValueError(f"{name} has no constants {sorted(unknown)}")
    hints = typing.get_type_hints(cls)
    return cls(**{k: _constant(v, hints[k], tensors) for k, v in constants.items()})


def _constant(value: Any, hint: Any, tensors: dict[str, NDArray[np.float32]]) -> Any:
    """A constant from JSON, checked against the type of its field."""
    options = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    for option in options:
        origin, args = typing.get_origin(option), typing.get_args(option)
        if option is type(None) and value is None:
            return None
        if origin is np.ndarray and isinstance(value, dict) and set(value) == {"tensor"}:
            return tensors[value["tensor"]]
        if origin is tuple and isinstance(value, list):
            kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
            if len(kinds) == len(value):
                return tuple(_constant(v, k, tensors) for v, k in zip(value, kinds, strict=True))
        if origin is typing.Literal and value in args:
            return value
        if option is Kind and isinstance(value, str):
            return Kind(value)
        if option is bool and isinstance(value, bool):
            return value
        if option is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    raise ValueError(f"{value!r} is no {hint}")
