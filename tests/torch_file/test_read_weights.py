"""Files of weights: read as `torch.load` reads them, without running anything, within what the file holds."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file
from torch import nn

from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.torch_file.machine import Foreign
from tcja_deploy.torch_file.read import read_weights
from tcja_deploy.torch_file.tensors import StoredTensor

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

TENSORS: dict[str, torch.Tensor] = {
    "float32": X,
    "float64": X.double(),
    "float16": X.half(),
    "bfloat16": X.bfloat16(),
    "int64": torch.arange(5),
    "uint8": torch.arange(5, dtype=torch.uint8),
    "uint16": torch.arange(5).to(torch.uint16),
    "bool": X > 0,
    "complex": X.to(torch.complex64),
    "transposed": X.T,
    "part of a storage": X[1:, 1:],
    "every second": X[:, ::2],
    "repeated": X[:1].expand(5, 4),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(3.0),
    "parameter": nn.Parameter(X),
    "negated view": torch._neg_view(X),
    "sparse": X.relu().to_sparse(),
    "sparse with repeated places": torch.sparse_coo_tensor([[0, 0, 2], [1, 1, 3]], [1.0, 2.0, 4.0], (3, 4)),
    "sparse in part": X.relu().to_sparse(1),
    "csr": X.relu().to_sparse_csr(),
    "csc": X.relu().to_sparse_csc(),
}


def numbers(tensor: torch.Tensor) -> np.ndarray:
    dense = tensor.to_dense() if tensor.layout != torch.strided else tensor
    wide = dense.float() if dense.dtype == torch.bfloat16 else dense
    return wide.detach().resolve_neg().numpy()


class Marker:
    """Unpickling it creates a folder: proof that code ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class Local:
    """An object of a class that a reader without code cannot know."""

    def __init__(self) -> None:
        self.weight = X


# -- the same as torch.load ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.filterwarnings("ignore")
def test_every_tensor_is_read_as_it_was(protocol: int, new: bool, tmp_path: Path) -> None:
    content = {"net": collections.OrderedDict(TENSORS), "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "c", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    read = read_weights(tmp_path / "c")
    assert read["epoch"] == 3
    for name, tensor in TENSORS.items():
        got, want = read["net"][name].array(), numbers(tensor)
        assert got.dtype == want.dtype, name
        assert np.array_equal(got, want), name
        assert got.flags.writeable, name


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles(protocol: int, tmp_path: Path) -> None:
    """What `pickle.dump(model.state_dict(), file)` writes: files of PyTorch inside a pickle."""
    (tmp_path / "c").write_bytes(
        pickle.dumps({"w": X, "b": b"\xff\x00", "n": np.arange(3.0)}, protocol=protocol)
    )
    read = read_weights(tmp_path / "c")
    assert np.array_equal(read["w"].array(), X.numpy())
    assert read["b"] == b"\xff\x00"
    assert np.array_equal(read["n"].array(), np.arange(3.0))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.dtype(c) for c in ("f4", "f8", ">f4", "i8", ">i2", "u1", "?")]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    st.booleans(),
    st.sampled_from([2, 4, 5]),
)
def test_numpy_arrays(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, column_major: bool, protocol: int
) -> None:
    array = np.asfortranarray(array) if column_major else array
    path = tmp_path_factory.getbasetemp() / "array.pkl"
    path.write_bytes(pickle.dumps(array, protocol=protocol))
    got = read_weights(path)
    assert isinstance(got, StoredTensor)
    assert got.array().dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(got.array(), array, equal_nan=array.dtype.kind == "f")


def test_safetensors(tmp_path: Path) -> None:
    tensors = {
        k: v.contiguous().clone() for k, v in TENSORS.items() if v.layout == torch.strided and k != "complex"
    }
    save_file({k: v.detach() for k, v in tensors.items()}, tmp_path / "c", metadata={"format": "pt"})
    read = read_weights(tmp_path / "c")
    assert sorted(read) == sorted(tensors)
    for name, tensor in tensors.items():
        assert np.array_equal(read[name].array(), numbers(tensor)), name


def test_numbers_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    torch.save({"a": X, "b": X + 1}, tmp_path / "c")
    read = read_weights(tmp_path / "c")
    (tmp_path / "c").write_bytes(b"")
    assert read["a"].shape == (3, 4)
    with pytest.raises(FileFormatError):
        read["b"].array()


def write_tar(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A file as PyTorch wrote it in 2016: members `storages`, `tensors` and `pickle`."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return next((str(i) for i, t in enumerate(tensors.values()) if t is value), None)

    parts = {name: io.BytesIO() for name in ("storages", "tensors", "pickle", "sys_info")}
    for name in ("storages", "tensors"):
        pickle.dump(len(tensors), parts[name], protocol=2)
    for i, tensor in enumerate(tensors.values()):
        data = tensor.untyped_storage()
        pickle.dump((i, "cpu", torch.FloatStorage), parts["storages"], protocol=2)
        parts["storages"].write(struct.pack("<q", len(data) // 4) + bytes(data.tolist()))
        pickle.dump((i, i, torch.FloatTensor), parts["tensors"], protocol=2)
        layout = (*tensor.shape, *tensor.stride(), tensor.storage_offset())
        parts["tensors"].write(struct.pack("<i4x", tensor.ndim) + struct.pack(f"<{len(layout)}q", *layout))
    pickle.dump([], parts["storages"], protocol=2)
    Pickler(parts["pickle"], protocol=2).dump(dict(tensors))
    pickle.dump({"protocol_version": 1000, "little_endian": True}, parts["sys_info"], protocol=2)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, stream in parts.items():
            member = tarfile.TarInfo(name)
            member.size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)


@pytest.mark.filterwarnings("ignore")
def test_tar_files_of_2016(tmp_path: Path) -> None:
    tensors = {"w": X, "t": X.clone().T, "part": X.clone()[1:, 1:], "b": torch.arange(3.0)}
    write_tar(tmp_path / "c", tensors)
    with tarfile.open(tmp_path / "c"):
        pass
    theirs = torch.load(tmp_path / "c", weights_only=False)  # that the file is one of that format
    read = read_weights(tmp_path / "c")
    for name, tensor in tensors.items():
        assert torch.equal(theirs[name], tensor)
        assert np.array_equal(read[name].array(), tensor.numpy()), name


# -- what is not an array of real numbers ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: X.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8), r"quantised \(qint8\)"),
        (lambda: torch.quantize_per_channel(X, torch.ones(3), torch.zeros(3), 0, torch.quint8), "quint8"),
        (lambda: X.to("meta"), "device 'meta'"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested tensor"),
        (lambda: torch.complex(X, X).conj(), "conjugated"),
        (lambda: torch.ones(4, 4).to_sparse_bsr((2, 2)), "sparse in blocks"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_obstacles_are_told(make: Callable[[], torch.Tensor], reason: str, tmp_path: Path) -> None:
    torch.save({"w": make(), "fine": X}, tmp_path / "c")
    read = read_weights(tmp_path / "c")
    with pytest.raises(FileFormatError, match=reason):
        read["w"].array()
    assert np.array_equal(read["fine"].array(), X.numpy())


# -- nothing runs ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_objects_stay_inert(protocol: int, tmp_path: Path) -> None:
    content = {
        "net": {"w": X},
        "evil": Marker(tmp_path / "ran"),
        "local": Local(),
        "kind": nn.ReLU,
        "set": {1, 2},
    }
    torch.save(content, tmp_path / "c", pickle_protocol=protocol)
    read = read_weights(tmp_path / "c")
    assert not (tmp_path / "ran").exists()
    assert isinstance(read["evil"], Foreign)
    assert read["evil"].name == f"{os.mkdir.__module__}.mkdir"
    assert np.array_equal(read["local"].state["weight"].array(), X.numpy())
    assert repr(read["kind"]) == "torch.nn.modules.activation.ReLU"
    torch.load(tmp_path / "c", weights_only=False)
    assert (tmp_path / "ran").exists()  # the same file runs code in a reader that lets it


HOSTILE = {
    "imports nothing": b"\x80\x02cno_such_module\nthing\n.",
    "memo of four thousand million": b"\x80\x02]r\xff\xff\xff\xff.",
    "key that hashes for ever": b"\x80\x02}"
    + b"(I1\n"
    + b"".join(b"q\x01(" + b"h\x01" * 9 + b"t" for _ in range(40))
    + b"I2\nu.",
    "bytes beyond the file": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"ab.",
    "extension registry": b"\x80\x02\x82\x01.",
    "pops what is not there": b"\x80\x020000.",
    "no end": b"\x80\x02]]]",
    "deep": b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "reduce of a list": b"\x80\x02]]R.",
    "shape of a million axes": b"\x80\x02ctorch\nSize\n(" + b"K\x01" * 100_000 + b"t\x85R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_end_quickly(name: str, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(HOSTILE[name])
    message = ""
    try:
        read_weights(tmp_path / "c")
    except DeployError as error:
        message = str(error)
    assert len(message) < 300


def changed(path: Path, old: bytes, new: bytes) -> None:
    """The archive with a part of its pickle replaced."""
    with zipfile.ZipFile(path) as archive:
        records = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            if name.endswith("data.pkl"):
                assert old in data
                data = data.replace(old, new)
            archive.writestr(name, data)


def test_tensor_beyond_its_storage(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(12.0).reshape(3, 4)}, tmp_path / "c")
    changed(tmp_path / "c", b"K\x03K\x04\x86", b"K\x03K\x05\x86")
    with pytest.raises(FileFormatError, match=r"shape \(3, 5\) reaches beyond its storage"):
        read_weights(tmp_path / "c")


def test_large_tensor_of_a_small_file(tmp_path: Path) -> None:
    one = torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (10**6, 10**6))
    torch.save({"w": torch.zeros(1).expand(5 * 10**9), "s": one}, tmp_path / "c")
    read = read_weights(tmp_path / "c")
    for key in ("w", "s"):
        with pytest.raises(FileFormatError, match="far more than the file holds"):
            read[key].array()


def test_indices_outside_a_sparse_tensor(tmp_path: Path) -> None:
    torch.save({"w": torch.sparse_coo_tensor([[7], [1]], [1.0], (8, 4))}, tmp_path / "c")
    changed(tmp_path / "c", b"K\x08K\x04\x86", b"K\x03K\x04\x86")
    with pytest.raises(FileFormatError, match="index of a sparse tensor lies outside"):
        read_weights(tmp_path / "c")["w"].array()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_cut_and_flipped_files(new: bool, tmp_path: Path) -> None:
    torch.save({"net": {"w": X, "b": X[0].half()}}, tmp_path / "c", _use_new_zipfile_serialization=new)
    data = (tmp_path / "c").read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(150):
        damaged = bytearray(data[: int(rng.integers(len(data)))] if trial % 3 == 0 else data)
        for place in rng.integers(max(1, len(damaged)), size=3):
            if len(damaged):
                damaged[place] = int(rng.integers(256))
        (tmp_path / "d").write_bytes(damaged)
        try:
            read = read_weights(tmp_path / "d")
            for value in read.get("net", {}).values() if isinstance(read, dict) else ():
                if isinstance(value, StoredTensor):
                    value.array()
        except DeployError:
            pass


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ((b"K\x03K\x04\x86", b"K\x03K\x40\x86"), "reaches beyond its storage, which holds 48 bytes"),
        ((b"K\x04K\x01\x86", b"K\x04K\xff\x86"), "reaches beyond its storage, which holds 48 bytes"),
    ],
    ids=["longer", "wider steps"],
)
def test_legacy_tensors_larger_than_storages_that_come_later(
    wrong: tuple[bytes, bytes], reason: str, tmp_path: Path
) -> None:
    torch.save({"w": X}, tmp_path / "c", _use_new_zipfile_serialization=False)
    data = (tmp_path / "c").read_bytes()
    assert data.count(wrong[0]) == 1
    (tmp_path / "d").write_bytes(data.replace(*wrong))
    tensor = read_weights(tmp_path / "d")["w"]
    for read in (tensor.array, tensor.mapped):
        with pytest.raises(FileFormatError, match=reason):
            read()


def test_legacy_file_that_leaves_a_storage_out(tmp_path: Path) -> None:
    torch.save({"w": X}, tmp_path / "c", _use_new_zipfile_serialization=False)
    data = (tmp_path / "c").read_bytes()
    keys = data.rindex(b"]")
    (tmp_path / "d").write_bytes(data[: keys + 1] + b"." + data[data.index(b".", keys) + 1 :])
    with pytest.raises(FileFormatError, match="holds no bytes for its storage"):
        read_weights(tmp_path / "d")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_told_and_the_hint_works(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 3)).save(str(tmp_path / "s.pt"))
    with pytest.raises(FileFormatError, match="TorchScript") as caught:
        read_weights(tmp_path / "s.pt")
    assert "torch.jit.load(path).state_dict()" in caught.value.hint
    torch.save(torch.jit.load(tmp_path / "s.pt").state_dict(), tmp_path / "again")
    assert read_weights(tmp_path / "again")["weight"].shape == (3, 2)


def test_another_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("model.pth", b"")
    with pytest.raises(FileFormatError, match=r"no data\.pkl"):
        read_weights(tmp_path / "z")
    with tarfile.open(tmp_path / "t", "w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    with pytest.raises(FileFormatError, match=r"not one of PyTorch's; it holds model\.pth"):
        read_weights(tmp_path / "t")
