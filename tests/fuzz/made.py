"""Files that are made when they are needed, by the libraries that usually write them, so that the corpus stays small."""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CORPUS = Path(__file__).resolve().parent / "corpus"
_N = 200

SEEDS: dict[str, Callable[[], bytes]] = {}
"""Inputs that are no files, of targets that take what was read."""


def content(name: str) -> bytes:
    """A file by its name: one of the corpus, or one that is made."""
    if name in SEEDS:
        return SEEDS[name]()
    file = CORPUS / name
    return file.read_bytes() if file.is_file() else made(name)


@functools.cache
def made(name: str) -> bytes:
    """A small valid file.

    Raises:
        ImportError: The package that writes it is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        _WRITERS[name](path)
        return path.read_bytes()


def _columns() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "t": np.sort(rng.integers(0, 10**5, _N)),
        "x": rng.integers(0, 34, _N),
        "y": rng.integers(0, 34, _N),
        "p": rng.integers(0, 2, _N),
    }


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for key, column in _columns().items():
            file.create_dataset(f"events/{key}", data=column, chunks=True, compression="gzip")
        file["events/height"], file["events/width"] = 34, 34


def _hdf5_rows(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["events"] = np.stack(list(_columns().values()), 1)


def _tonic(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["data/0"] = np.ones((5, 2, 34, 34), np.uint8)
        file["target/0"] = 3


def _text(path: Path) -> None:
    rows = np.stack(list(_columns().values()), 1)
    np.savetxt(path, rows, fmt="%d", delimiter=",", header="t,x,y,p", comments="")


def _npy(path: Path) -> None:
    kinds = [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")]
    table = np.zeros(_N, kinds)
    for key, column in _columns().items():
        table[key] = column
    np.save(path, table)


def _frames(path: Path) -> None:
    np.save(path, np.ones((2, 5, 2, 34, 34), np.uint8))


def _torch_frames(path: Path) -> None:
    import torch

    torch.save({"frames": torch.ones(2, 5, 2, 34, 34), "labels": torch.tensor([0, 3])}, path)


def _state_dict(path: Path) -> None:
    """The weights of the corpus' checkpoint, by safetensors."""
    import torch
    from safetensors.torch import save_file

    weights = torch.load(io.BytesIO(content("tiny.pth")), weights_only=True)["net"]
    save_file({key: value.contiguous() for key, value in weights.items()}, path)


def _aedat3(path: Path) -> None:
    columns = _columns()
    data = columns["x"] << 17 | columns["y"] << 2 | columns["p"] << 1 | 1
    words = np.stack([data, columns["t"]], 1).astype("<u4").tobytes()
    head = np.array([1, 1], "<i2").tobytes() + np.array([8, 4, 0, _N, _N, _N], "<i4").tobytes()
    path.write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + head + words)


def _aedat2(path: Path) -> None:
    columns = _columns()
    address = columns["x"] << 8 | columns["y"] << 1 | columns["p"]
    path.write_bytes(b"#!AER-DAT2.0\r\n" + np.stack([address, columns["t"]], 1).astype(">u4").tobytes())


def _faery(path: Path, **options: str) -> None:
    import faery

    array = np.zeros(_N, faery.EVENTS_DTYPE)
    for key, column in _columns().items():
        array[key] = column
    faery.events_stream_from_array(array, (34, 34)).to_file(path, **options)


def _state(path: Path) -> None:
    import tcja_deploy
    from tcja_deploy.runtime.stream import Stepper, initial, plan
    from tcja_deploy.runtime.stream.saved import state_to_bytes

    graph = tcja_deploy.load(CORPUS / "tiny.tcja")
    network = plan(graph)
    stepper = Stepper(network, initial(network, 1))
    stepper.push(np.ones((1, *graph.input_shape), np.float32))
    path.write_bytes(state_to_bytes(stepper.state))


def _prices(path: Path) -> None:
    from tcja_deploy import hardware_profiles

    path.write_bytes((Path(hardware_profiles.__file__).parent / "loihi1.toml").read_bytes())


def _rich_weights() -> dict[str, Any]:
    """Tensors of many kinds, nested."""
    import torch

    x = torch.arange(12.0).reshape(3, 4) / 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "net": {"w": x, "b": x[0].half(), "t": x.T, "s": x.to_sparse(), "r": x.to_sparse_csr()},
            "epoch": 3, "list": [x.bfloat16(), x.long(), torch.nn.Parameter(x)], "set": {1, 2}, "name": ("a", None, 0.5),
            "q": torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "c": torch.complex(x, x), "size": x.shape, "i": x[:0],
            "n": np.arange(3), "scalar": np.float64(2), "dtype": torch.float32, "bool": x > 0, "m": x.to("meta"),
        }  # fmt: skip


def _rich(path: Path, *, zipped: bool) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(_rich_weights(), path, _use_new_zipfile_serialization=zipped)


def _plain_pickle(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(pickle.dumps(_rich_weights()["net"], protocol=2))


def _rich_safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    weights = _rich_weights()
    plain = {
        "w": weights["net"]["w"],
        "h": weights["net"]["b"].clone(),
        "bf": weights["list"][0],
        "l": weights["list"][1],
    }
    save_file(
        {**plain, "bool": weights["bool"], "none": weights["i"].clone()}, path, metadata={"format": "pt"}
    )


def _tar(path: Path) -> None:
    """A file as PyTorch wrote it in 2016."""
    import torch

    numbers = np.arange(12, dtype="<f4")
    storages = pickle.dumps(1, 2) + pickle.dumps((7, "cpu", torch.FloatStorage), 2) + struct.pack("<q", 12)
    tensors = (
        pickle.dumps(1, 2)
        + pickle.dumps((5, 7, torch.FloatTensor), 2)
        + struct.pack("<i4x5q", 2, 3, 4, 4, 1, 0)
    )
    parts = {
        "storages": storages + numbers.tobytes() + pickle.dumps([], 2),
        "tensors": tensors,
        "pickle": b"\x80\2}X\1\0\0\0wX\1\0\0\0005Qs.",
    }
    with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _progress(path: Path) -> None:
    """What an interrupted run keeps."""
    with np.load(CORPUS / "act.npz") as file:
        arrays = dict(file)
    header = {"format": "tcja-progress", "version": 1, "facts": {"model": "x"}, "state": {}}
    outcomes = np.ones((2, len(arrays["samples"])), np.int64)
    np.savez(path, **arrays, outcomes=outcomes, progress=np.array(json.dumps(header)))


_WRITERS: dict[str, Any] = {
    "rich.pt": functools.partial(_rich, zipped=True),
    "rich_legacy.pt": functools.partial(_rich, zipped=False),
    "plain.pkl": _plain_pickle,
    "rich.safetensors": _rich_safetensors,
    "old.tar": _tar,
    "progress.npz": _progress,
    "labelled.npz": lambda path: np.savez(
        path, frames=np.ones((2, 10, 2, 34, 34), np.uint8), labels=np.array([0, 3])
    ),
    "meter.txt": lambda path: path.write_text("package-0;123456;262143328850"),
    "words.txt": lambda path: path.write_text(
        "net.pth --timesteps 5 --set a=1 --set b=2 --dt 0.5 --trust-pickle"
    ),
    "beside.json": lambda path: path.write_text(
        '{"format": "tcja-deploy-manifest", "target": "onnx-step", "files": {"net.onnx": {}, "net.golden.npz": {}}}'
    ),
    "card.md": lambda path: path.write_text(
        "---\nlanguage: en\nlibrary_name: tcja-deploy\nlicense: mit\ntags:\n- onnx\n---\n# A card\n"
    ),
    "classes.txt": lambda path: path.write_text("cat\ndog\n10\n2\n"),
    "options.txt": lambda path: path.write_text("16GB,300s;30ms;240,320;T=10;2,34,34;10;0.5"),
    "columns.h5": _hdf5,
    "rows.h5": _hdf5_rows,
    "tonic.hdf5": _tonic,
    "rows.csv": _text,
    "labels.csv": lambda path: path.write_text("file,label\na.npz,1\nb.npz,7\n"),
    "trials.csv": lambda path: path.write_text("class,start,end\n1,0,40000\n3,40000,90000\n"),
    "prices.toml": _prices,
    "state.safetensors": _state,
    "rows.npy": _npy,
    "frames.npy": _frames,
    "frames.pt": _torch_frames,
    "weights.safetensors": _state_dict,
    "three.aedat": _aedat3,
    "two.aedat": _aedat2,
    "four.aedat4": _faery,
    "two.raw": functools.partial(_faery, version="evt2"),
    "three.raw": functools.partial(_faery, version="evt3"),
    "two.dat": functools.partial(_faery, version="dat2"),
    "stream.es": _faery,
}


@functools.cache
def exports() -> dict[str, dict[str, bytes]]:
    """Folders that are exported from the corpus' network: all files of each, by their paths."""
    import tcja_deploy
    from tcja_deploy.runtime.synthetic import synthetic_frames

    graph = tcja_deploy.load(CORPUS / "tiny.tcja")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for target, options in (("lava", {}), ("nir", {"gate": "split"})):
            path = Path(folder) / target
            frames = [synthetic_frames(graph, 1)]
            tcja_deploy.export(graph, target, path, data=frames, verify=False, **options)
            found[target] = {
                file.relative_to(path).as_posix(): file.read_bytes()
                for file in sorted(path.rglob("*"))
                if file.is_file()
            }
    return found


@functools.cache
def graph_bundle() -> dict[str, bytes]:
    """A bundle of a network with branches: synapses, neurons, relays and window programs; all files by their paths."""
    import sys

    sys.path.append(str(CORPUS.parents[1] / "exporters" / "lava"))
    from bundles import write_bundle
    from graph_nets import random_counts, random_graphs

    network = random_graphs(range(2), frames=3, stages=8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b"
        write_bundle(network, path, random_counts(network, 1), about={"model": {"sha256": "00"}})
        return {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }
