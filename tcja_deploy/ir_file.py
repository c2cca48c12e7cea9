"""The `.tcja` file: a graph as safetensors, with structure as JSON in the header. Loading it runs no code.

Layout: one float32 tensor for each array among the constants of the ops, called `<node>.<constant>`; in the metadata,
under `tcja_deploy.graph`, a JSON object with `version`, `T`, `output`, `source`, `sha256` and `nodes` (each with
`name`, `op`, `inputs` and `constants`, where `{"tensor": "<node>.<constant>"}` stands for an array). The checksum
covers graph, weights and source, so that no damage goes unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from tcja_deploy.errors import FileFormatError, GraphError
from tcja_deploy.files import atomic_file, path_status
from tcja_deploy.ir import Graph, GraphBuilder, Op
from tcja_deploy.ir.constants import conform, field_types
from tcja_deploy.ir.ops import OPS
from tcja_deploy.reading.beginning import first_bytes
from tcja_deploy.reading.json_text import parse_json
from tcja_deploy.reading.limits import check_bytes
from tcja_deploy.text import with_article
from tcja_deploy.torch_file.safe import read_safetensors
from tcja_deploy.torch_file.tensors import Allowance

__all__ = ["FORMAT_VERSION", "is_tcja_file", "load_graph", "save_graph"]

FORMAT_VERSION = 1
_KEY = "tcja_deploy.graph"
_AGAIN = "export it again from the trained model"

Tensors = dict[str, NDArray[np.float32]]
_Plain = TypeVar("_Plain", int, str, list[Any], dict[str, Any])


def save_graph(graph: Graph, path: Path, *, force: bool = False) -> None:
    """Write a graph.

    Raises:
        ExportError: If the path is taken and `force` is not set, or writing fails.
    """
    tensors: Tensors = {}
    nodes = []
    for node in graph:
        constants: dict[str, Any] = {}
        for name, value in node.op.constants().items():
            if isinstance(value, np.ndarray):
                key = f"{node.name}.{name}"
                tensors[key] = np.ascontiguousarray(value)
                constants[name] = {"tensor": key}
            else:
                constants[name] = value
        op = type(node.op).__name__
        nodes.append({"name": node.name, "op": op, "inputs": node.inputs, "constants": constants})
    structure = {
        "version": FORMAT_VERSION,
        "T": graph.T,
        "output": graph.output,
        "source": graph.source,
        "sha256": _checksum(graph),
        "nodes": nodes,
    }
    content: bytes = save(tensors, metadata={_KEY: json.dumps(structure)})
    with atomic_file(path, force=force) as temporary:
        temporary.write_bytes(content)


def is_tcja_file(path: Path) -> bool:
    """Whether a file looks like one of ours, by its first bytes."""
    head = first_bytes(path, 256)
    return len(head) > 9 and head[8:9] == b"{" and _KEY.encode() in head


def load_graph(path: Path) -> Graph:
    """Read a graph.

    Raises:
        FileFormatError: If the file is missing, truncated, tampered with, of a newer version, or breaks a rule of the IR.
    """
    where = str(path)
    text, tensors = _read(path)
    try:
        structure = _plain(parse_json(text, dict, where=where, hint=_AGAIN), dict)
        version = _plain(structure["version"], int)
        if version > FORMAT_VERSION:
            raise FileFormatError(
                f"the file has format version {version}, this program reads up to {FORMAT_VERSION}",
                where=where,
                hint="upgrade tcja-deploy",
            )
        graph = _graph(structure, tensors)
        checksum = _plain(structure["sha256"], str)
    except GraphError as error:
        raise FileFormatError(f"the graph in the file is not valid: {error}", where=where) from error
    except (KeyError, ValueError, RecursionError) as error:
        reason = f"the structure in the file is not readable ({type(error).__name__}: {error})"
        raise FileFormatError(reason, where=where, hint=_AGAIN) from error
    if checksum != _checksum(graph):
        raise FileFormatError(
            "the content does not match the checksum in the file: it was changed or damaged",
            where=where,
            hint=_AGAIN,
        )
    return graph


def _checksum(graph: Graph) -> str:
    return hashlib.sha256(json.dumps([graph.hash, sorted(graph.source.items())]).encode()).hexdigest()


def _read(path: Path) -> tuple[str, Tensors]:
    """The structure's text and the tensors, none of them larger than the file."""
    where = str(path)
    if path_status(path) != "file":
        raise FileFormatError("there is no such file", where=where)
    size = path.stat().st_size
    check_bytes(size, "the file", where=where)
    try:
        metadata, tensors = read_safetensors(path, Allowance(size))
        strange = [name for name, tensor in tensors.items() if tensor.dtype != "float32"]
        arrays = {} if strange else {name: tensor.array() for name, tensor in tensors.items()}
    except (FileFormatError, OSError) as error:
        reason = error.reason if isinstance(error, FileFormatError) else error.strerror
        raise FileFormatError(
            f"the file is truncated or damaged ({reason})", where=where, hint=_AGAIN
        ) from error
    if _KEY not in metadata or strange:
        reason = f"tensors that are not float32: {', '.join(strange)}" if strange else "no graph"
        raise FileFormatError(
            f"this safetensors file holds {reason}", where=where, hint="a .tcja file is needed"
        )
    return metadata[_KEY], arrays


def _graph(structure: dict[str, Any], tensors: Tensors) -> Graph:
    """The graph of a structure; `KeyError`, `ValueError` or `GraphError` if it is not one."""
    builder = GraphBuilder(_plain(structure["T"], int))
    for entry in _plain(structure["nodes"], list):
        node = _plain(entry, dict)
        name = _plain(node["name"], str)
        op = _op(name, _plain(node["op"], str), _plain(node["constants"], dict), tensors)
        builder.add(name, op, *(_plain(i, str) for i in _plain(node["inputs"], list)))
    if tensors:
        raise ValueError(f"tensors without a place: {', '.join(sorted(tensors))}")
    source = {k: _plain(v, str) for k, v in _plain(structure["source"], dict).items()}
    return builder.finish(_plain(structure["output"], str), source)


def _op(node: str, name: str, constants: dict[str, Any], tensors: Tensors) -> Op:
    """An op of the file; takes its arrays out of `tensors`."""
    if name not in OPS:
        raise ValueError(f"{node}: unknown op {name!r}")
    types = field_types(OPS[name])
    unknown = sorted(set(constants) - set(types))
    if unknown:
        raise ValueError(f"{node}: {name} has no constants {', '.join(unknown)}")
    values = {}
    for key, value in constants.items():
        if isinstance(value, dict):
            if value != {"tensor": f"{node}.{key}"}:
                raise ValueError(f"{node}: {key} refers to {value}")
            value = tensors.pop(f"{node}.{key}")
        values[key] = conform(value, types[key])
    try:
        return OPS[name](**values)
    except TypeError as error:
        raise ValueError(f"{node}: {error}") from error


def _plain(value: object, kind: type[_Plain]) -> _Plain:
    """A value from JSON that has to be of a type."""
    if type(value) is not kind:
        raise ValueError(f"{str(value)[:40]!r} is not {with_article(kind.__name__)}")
    return value
