"""What was read of a file (arrays, trees of HDF5, JSON), damaged behind its reader: millions of inputs need no container."""

from __future__ import annotations

import functools
import io
import json
import pickle
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import mutations as m
import numpy as np
from made import SEEDS, content, exports, graph_bundle

from tcja_deploy.errors import FileFormatError


def _trees(files: dict[str, bytes]) -> dict[str, Any]:
    """Content of the files of an export that are read: arrays, trees, JSON."""
    from tcja_deploy.reading.hdf5 import _read

    found: dict[str, Any] = {}
    for name, data in files.items():
        suffix = Path(name).suffix
        if suffix == ".npz":
            with np.load(io.BytesIO(data)) as file:
                found[name] = dict(file)
        elif suffix in (".net", ".nir"):
            with tempfile.NamedTemporaryFile(suffix=suffix) as place:
                place.write(data)
                place.flush()
                found[name] = _read(Path(place.name))
        else:
            found[name] = json.loads(data) if name == "manifest.json" else ""
    return found


@functools.cache
def packed(name: str) -> bytes:
    """What a target of this module reads, undamaged."""
    if name == "bundle.chain":
        return pickle.dumps(_trees(exports()["lava"]))
    if name == "bundle.graph":
        return pickle.dumps(_trees(graph_bundle()))
    if name == "split.parts":
        return pickle.dumps(_trees(exports()["nir"]))
    if name == "nir.tree":
        return pickle.dumps(_trees({"tiny.nir": content("tiny.nir")})["tiny.nir"])
    if name == "step.notes":
        import onnx

        model = onnx.ModelProto.FromString(content("tiny.step.onnx"))
        inputs = {
            i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]
            for i in model.graph.input
        }
        notes = {p.key: p.value for p in model.metadata_props}
        return pickle.dumps(
            {"notes": notes, "inputs": inputs, "outputs": [o.name for o in model.graph.output]}
        )
    raise KeyError(name)


def parts(data: bytes, rng: Random) -> bytes:
    """Something inside damaged: a value of a tree, an array, JSON in a text."""
    value = pickle.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        value = _odd(value, rng)
    return pickle.dumps(value)


def _odd(value: Any, rng: Random) -> Any:
    if isinstance(value, np.ndarray):
        return array_damage(value, rng)
    if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.9:
        return json.dumps(m.odd_json(json.loads(value), rng))
    if isinstance(value, dict | list) and value and rng.random() > 0.06:
        changed = value.copy()
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        what = rng.random()
        if what < 0.06:
            del changed[key]
        elif what < 0.1 and isinstance(value, dict):
            changed[rng.choice(list(value))] = value[key]
        elif what < 0.13 and isinstance(value, list):
            changed.insert(key, value[key])
        else:
            changed[key] = _odd(value[key], rng)
        return changed
    return rng.choice(
        [*m.ODD, *m.SIZES, np.zeros(3), m.odd_array(rng), "Conv2d", "input", "gate", "neuron", "relay"]
    )


def array_damage(value: Any, rng: Random) -> Any:
    what = rng.randrange(7)
    if what == 0:
        return m.odd_array(rng)
    if what == 1 and value.dtype.kind in "iufb" and value.size:
        changed = value.copy()
        number = rng.choice(
            [0, 1, -1, 2, 31, 62, 63, 64, 100, 2**30, 2**40, 2**62, -(2**62), np.nan, np.inf, -np.inf]
        )
        with np.errstate(all="ignore"):
            changed.flat[rng.randrange(value.size)] = np.asarray(number).astype(value.dtype)
        return changed
    if what == 2 and value.dtype.kind in "iuf":
        with np.errstate(all="ignore"):
            return value.astype(
                rng.choice([">i4", ">f4", "f2", "f8", "c8", "i8", "u8", "?", "i1", "S3", "U3"])
            )
    if what == 3:
        return value.reshape(rng.choice([(-1,), (1, *value.shape), value.shape[::-1], (*value.shape, 1)]))
    if what == 4 and value.ndim:
        return value[: rng.randrange(len(value) + 1)]
    if what == 5 and value.ndim:
        return np.concatenate([value, value])
    return rng.choice(
        [str(value)[:50], value.tolist() if value.size < 100 else [], {}, None, m.odd_array(rng)]
    )


def _refused_elsewhere(value: Any) -> bool:
    """Whether the reader of the container would never give this: arrays of numbers and texts it gives, and trees of them."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            pending += one.values()
        elif isinstance(one, np.ndarray):
            if one.dtype.kind not in "biufUO":
                return True
        elif not isinstance(one, str):
            return True
    return False


def arrays_of(files: dict[str, Any], name: str) -> dict[str, Any]:
    arrays = files.get(name)
    if not isinstance(arrays, dict) or not all(
        isinstance(k, str) and isinstance(v, np.ndarray) and v.dtype.kind in "biufU"
        for k, v in arrays.items()
    ):
        raise FileFormatError("holds no arrays")
    return {k: v if v.dtype.isnative else v.astype(v.dtype.newbyteorder("=")) for k, v in arrays.items()}


def tree_of(files: dict[str, Any], name: str) -> dict[str, Any]:
    tree = files.get(name)
    if not isinstance(tree, dict) or _refused_elsewhere(tree):
        raise FileFormatError("holds no tree")
    return tree


def plain(document: Any) -> Any:
    """As JSON would give it back."""
    from tcja_deploy.reading.json_text import parse_json

    try:
        text = json.dumps(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise FileFormatError("is not JSON") from error
    return parse_json(text)


def files_of(path: Path) -> dict[str, Any]:
    files = pickle.loads(path.read_bytes())
    if not isinstance(files, dict):
        raise FileFormatError("no folder")
    return files


def named_arrays(data: bytes, rng: Random) -> bytes:
    """Arrays by name, one of them damaged; JSON inside a text stays JSON."""
    arrays = pickle.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        name = rng.choice(list(arrays))
        value = arrays[name]
        if value.dtype.kind == "U" and value.shape == () and rng.random() < 0.9:
            arrays[name] = np.array(json.dumps(m.odd_json(json.loads(str(value)), rng)))
        elif rng.random() < 0.1:
            arrays[rng.choice(list(arrays))] = arrays.pop(name)
        else:
            changed = array_damage(value, rng)
            arrays[name] = changed if isinstance(changed, np.ndarray) else m.odd_array(rng)
    return pickle.dumps(arrays)


@functools.cache
def _progress() -> bytes:
    with np.load(io.BytesIO(content("progress.npz"))) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["progress"]))
    header["facts"]["tcja-deploy"] = "fuzz"
    arrays["progress"] = np.array(json.dumps(header))
    return pickle.dumps(arrays)


def _npz_of(name: str) -> bytes:
    with np.load(io.BytesIO(content(name))) as file:
        return pickle.dumps(dict(file))


SEEDS.update(
    {
        **{
            name: functools.partial(packed, name)
            for name in ("bundle.chain", "bundle.graph", "split.parts", "nir.tree", "step.notes")
        },
        "counts.arrays": functools.partial(_npz_of, "act.npz"),
        "progress.arrays": _progress,
    }
)
