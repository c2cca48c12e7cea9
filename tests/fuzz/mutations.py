"""Damage that knows the formats: bytes anywhere, or values inside JSON, NumPy, HDF5, safetensors, zip and protobuf."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from random import Random
from typing import Any

import h5py
import numpy as np

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "",
    "x" * 300, "\x1b[2J",     "../../etc/passwd", "\0", "9" * 5000, [], {}, [[]], ["a", 1], {"a": {}},
)  # fmt: skip
SIZES = (0, 1, -1, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)


def odd_array(rng: Random) -> np.ndarray[Any, Any]:
    """An array that no writer would put there."""
    shape = rng.choice([(), (0,), (1,), (2,), (3, 3), (1, 1, 1, 1), (2, 0, 5), (300,)])
    kind = rng.choice(["f4", "f8", "i8", "u1", "?", ">i4", ">f4", "f2", "c8", "U3"])
    array = np.zeros(shape, kind)
    if array.dtype.kind in "iufb" and array.size:
        value = rng.choice([0, 1, -1, 2**7, 2**30, -(2**30), np.nan, np.inf])
        with np.errstate(all="ignore"):
            array[...] = np.asarray(value).astype(array.dtype)
    return array


def flip(data: bytes, rng: Random) -> bytes:
    """Bytes changed, cut, doubled or put in, most often near the begin or the end, where headers are."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if not content:
            break
        at = rng.choice(
            [
                rng.randrange(len(content)),
                rng.randrange(min(200, len(content))),
                len(content) - 1 - rng.randrange(min(200, len(content))),
            ]
        )
        what = rng.randrange(6)
        if what == 0:
            content[at] = rng.randrange(256)
        elif what == 1:
            content[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            del content[at : at + rng.choice([1, 4, 100, len(content)])]
        elif what == 3:
            content[at:at] = content[at : at + rng.choice([1, 8, 64])]
        elif what == 4:
            form, most = rng.choice([("<I", 2**32), ("<Q", 2**64), (">I", 2**32), ("<H", 2**16)])
            number = struct.pack(form, rng.choice(SIZES) % most)
            content[at : at + len(number)] = number
        else:
            content[at:at] = rng.randbytes(rng.choice([1, 3, 30]))
    return bytes(content)


def odd_json(document: Any, rng: Random) -> Any:
    """A document with one value replaced, taken out, or nested."""
    inner: list[Any] = list(document) if isinstance(document, dict) else []
    if isinstance(document, list):
        inner = list(range(len(document)))
    if not inner or rng.random() < 0.15:
        value = rng.choice(ODD)
        return [document] if rng.random() < 0.1 else value
    key = rng.choice(inner)
    changed = document.copy()
    if rng.random() < 0.1:
        del changed[key]
    else:
        changed[key] = odd_json(document[key], rng)
    return changed


def json_text(data: bytes, rng: Random) -> bytes:
    """JSON with one value replaced."""
    return json.dumps(odd_json(json.loads(data), rng)).encode()


def zip_members(data: bytes, rng: Random) -> bytes:
    """An archive with one member changed, its sums right: what is behind the checks of zip is reached."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    name = rng.choice(list(members))
    if rng.random() < 0.1:
        del members[name]
    elif name.endswith(".npy"):
        members[name] = odd_npy(members[name], rng)
    else:
        members[name] = flip(members[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for key, content in members.items():
            archive.writestr(key, content)
    return out.getvalue()


def odd_npy(data: bytes, rng: Random) -> bytes:
    """An array of another type or shape, with damaged bytes, or with JSON inside that was changed."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.kind == "U" and array.shape == () and rng.random() < 0.8:
        array = np.array(json.dumps(odd_json(json.loads(str(array)), rng)))
    elif rng.random() < 0.3:
        return flip(data, rng)
    elif rng.random() < 0.5:
        array = odd_array(rng)
    elif array.size and array.dtype.kind in "iuf":
        array = array.copy()
        with np.errstate(all="ignore"):
            array.flat[rng.randrange(array.size)] = np.asarray(rng.choice([0, 1, -1, 100, 2**30])).astype(
                array.dtype
            )
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def hdf5(data: bytes, rng: Random) -> bytes:
    """An HDF5 file with one entry replaced, removed, linked or resized."""
    out = io.BytesIO(data)
    with h5py.File(out, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        parent, _, key = name.rpartition("/")
        group = file[parent] if parent else file
        old = group[key]
        text = isinstance(old, h5py.Dataset) and old.dtype.kind in "OS"
        del group[key]
        what = rng.randrange(7)
        if what == 0 or (what == 1 and not text):
            array = odd_array(rng)
            group[key] = array.astype("S3") if array.dtype.kind == "U" else array
        elif what == 1:
            group[key] = rng.choice(
                [
                    "Conv2d",
                    "LIF",
                    "NIRGraph",
                    "",
                    "\x1b[2J",
                    "x" * 300,
                    "Linear",
                    "Flatten",
                    "CubaLIF",
                    "Scale",
                ]
            )
        elif what == 2:
            group[key] = h5py.SoftLink("/") if rng.random() < 0.5 else h5py.ExternalLink("/etc/passwd", "/")
        elif what == 3:
            group.create_dataset(
                key, shape=(rng.choice([2**20, 2**33]),), chunks=True, dtype=rng.choice(["i1", "f8", "S6000"])
            )
        elif what == 4:
            group.create_group(key)
        elif what == 5:
            group[key] = group
    return out.getvalue()


def safetensors_header(data: bytes, rng: Random) -> bytes:
    """A safetensors file whose header, or the JSON in its metadata, was changed; sizes are right."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    nested = [k for k, v in metadata.items() if v[:1] in "{["]
    if nested and rng.random() < 0.8:
        key = rng.choice(nested)
        metadata[key] = json.dumps(odd_json(json.loads(metadata[key]), rng))
    else:
        header = odd_json(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def onnx_model(data: bytes, rng: Random) -> bytes:
    """A model with one node, weight, shape or note changed."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    graph, what = model.graph, rng.randrange(8)
    node, weight = rng.choice(graph.node), rng.choice(graph.initializer)
    if what == 0:
        node.op_type = rng.choice(
            ["Loop", "ConstantOfShape", "Not", "Conv", "Expand", "Gather", "Tile", "Concat", "If"]
        )
    elif what == 1 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.ints[:] = [rng.choice(SIZES) for _ in attribute.ints]
        attribute.i = rng.choice(SIZES)
    elif what == 2:
        weight.dims[:] = [rng.choice(SIZES) for _ in range(rng.randrange(5))]
    elif what == 3:
        weight.raw_data = flip(weight.raw_data, rng)
    elif what == 4 and model.metadata_props:
        entry = rng.choice(model.metadata_props)
        try:
            entry.value = json.dumps(odd_json(json.loads(entry.value), rng))
        except ValueError:
            entry.value = str(rng.choice(ODD))[:400].encode("utf-8", "replace").decode()
    elif what == 5:
        value = rng.choice([*graph.input, *graph.output]).type.tensor_type
        value.elem_type = rng.choice([0, 1, 7, 8, 9, 11, 99])
        for axis in value.shape.dim:
            if rng.random() < 0.3:
                axis.dim_value = rng.choice(SIZES)
    elif what == 6:
        node.input[:] = [rng.choice([n for m in graph.node for n in m.output]) for _ in node.input]
    else:
        weight.data_location = 1
        weight.external_data.add(key="location", value=rng.choice(["../x", "/etc/passwd", "", "x", "."]))
    return model.SerializeToString()


def onnx_bomb(data: bytes, rng: Random) -> bytes:
    """A model that asks for far more than it holds: large constants, repetitions, ranges, paddings, loops."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    big = rng.choice([1 << 20, 3 << 28, 1 << 33, 1 << 45, (1 << 63) - 1])

    def constant(name: str, value: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    one = constant("bomb_one", np.ones((1, 1, 1, 1), np.float32))
    size = constant("bomb_size", np.array([1, 1, 1, big], np.int64))
    kind = rng.choice(
        [
            "ConstantOfShape",
            "Expand",
            "Tile",
            "Range",
            "Pad",
            "Resize",
            "GatherND",
            "OneHot",
            "Loop",
            "RandomNormal",
            "EyeLike",
        ]
    )
    if kind == "ConstantOfShape":
        node = helper.make_node(kind, [size], ["bomb"])
    elif kind in ("Expand", "Tile"):
        node = helper.make_node(kind, [one, size], ["bomb"])
    elif kind == "Range":
        limits = [constant(f"bomb_{i}", np.int64(v)) for i, v in enumerate((0, big, 1))]
        node = helper.make_node(kind, limits, ["bomb"])
    elif kind == "Pad":
        node = helper.make_node(
            kind, [one, constant("bomb_pads", np.array([0] * 7 + [big], np.int64))], ["bomb"]
        )
    elif kind == "Resize":
        node = helper.make_node(kind, [one, "", "", size], ["bomb"], mode="nearest")
    elif kind == "GatherND":
        index = constant("bomb_index", np.full((1, 4), rng.choice([0, -1, 5, 1 << 40]), np.int64))
        node = helper.make_node(kind, [one, index], ["bomb"])
    elif kind == "OneHot":
        at = [
            constant("bomb_at", np.array([0], np.int64)),
            constant("bomb_depth", np.int64(big)),
            constant("bomb_values", np.array([0, 1], np.float32)),
        ]
        node = helper.make_node(kind, at, ["bomb"])
    elif kind == "Loop":
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["s"], ["s2"])],
            "body",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("c", TensorProto.BOOL, []),
                helper.make_tensor_value_info("s", TensorProto.FLOAT, []),
            ],
            [
                helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
                helper.make_tensor_value_info("s2", TensorProto.FLOAT, []),
            ],
        )
        given = [
            constant("bomb_rounds", np.int64(big)),
            constant("bomb_go", np.array(True)),
            constant("bomb_start", np.float32(0)),
        ]
        node = helper.make_node(kind, given, ["bomb"], body=body)
    elif kind == "RandomNormal":
        node = helper.make_node(kind, [], ["bomb"], shape=[1, big])
    else:
        node = helper.make_node(kind, [one], ["bomb"])
    graph.node.append(node)
    graph.output.append(helper.make_tensor_value_info("bomb", TensorProto.FLOAT, None))
    return model.SerializeToString()


def torch_content(data: bytes, rng: Random) -> bytes:
    """What torch saved, with one tensor replaced: of another shape, type or layout, or by something else."""
    import torch

    content = torch.load(io.BytesIO(data), weights_only=True)
    place = content
    while isinstance(place, dict) and isinstance(next(iter(place.values())), dict):
        place = next(v for v in place.values() if isinstance(v, dict))
    key = rng.choice(list(place))
    old = place.pop(key)
    name = (
        key
        if rng.random() < 0.8
        else str(rng.choice(["", "x", "conv." + "9" * 5000 + ".weight", "\x1b[2J", "a.b.c", 7]))
    )
    small = isinstance(old, torch.Tensor) and old.numel() < 1 << 20  # an earlier damage may have made it huge
    what = rng.randrange(9)
    shape = rng.choice([(), (0,), (1,), (2, 0, 5), (3, 3), (1, 1, 1, 1), (7,) * 5])
    value: Any = torch.full(shape, rng.choice([0.0, 1.0, -1.0, float("nan"), float("inf"), 1e38]))
    if what == 1:
        value = torch.zeros(1).expand(rng.choice([10**4, 10**9, 5 * 10**9]))
    elif what == 2 and small:
        value = old.to(rng.choice([torch.float64, torch.int64, torch.complex64, torch.bfloat16, torch.bool]))
    elif what == 3 and small and old.ndim:
        value = old.to_sparse()
    elif what == 4:
        value = rng.choice([None, "text", 3, [1, 2], {"a": 1}, torch.float32])
    elif what == 5 and isinstance(old, torch.Tensor):
        value = old.transpose(0, -1) if old.ndim else old
    elif what == 6 and small and old.numel():
        value = old.clone()
        value.view(-1)[rng.randrange(old.numel())] = rng.choice([0.0, 1e38, float("nan")])
    if what != 7:
        place[name] = value
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=rng.random() < 0.8)
    return out.getvalue()


def cells(data: bytes, rng: Random) -> bytes:
    """Text with one cell, or one line, replaced."""
    odd = [
        "",
        "-1",
        "1e400",
        "nan",
        "inf",
        "9" * 5000,
        "0x10",
        "\x1b[2J",
        '"',
        "a",
        str(2**63),
        "-" + str(2**63),
        "true",
        "[" * 300,
        "1_0",
        "\u0663",
    ]
    lines = data.decode("utf-8", "replace").split("\n")
    at = rng.randrange(min(len(lines), rng.choice([3, len(lines)])))
    mark = "=" if "=" in lines[at] else ","
    parts = lines[at].split(mark)
    parts[rng.randrange(len(parts))] = rng.choice(odd)
    lines[at] = rng.choice([mark.join(parts)] * 6 + ["", lines[at] * 2, "," * 1000])
    return "\n".join(lines).encode("utf-8", "replace")


def floats(data: bytes, rng: Random) -> bytes:
    """A safetensors file with other numbers among its weights."""
    start = 8 + struct.unpack("<Q", data[:8])[0]
    content = bytearray(data)
    for _ in range(rng.choice([1, 3, 100])):
        at = start + 4 * rng.randrange((len(data) - start) // 4)
        content[at : at + 4] = struct.pack(
            "<f", rng.choice([0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-45])
        )
    return bytes(content)
