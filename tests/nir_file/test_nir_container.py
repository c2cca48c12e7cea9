"""The HDF5 side of NIR files that nobody vouches for, and the notes in them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nir_graphs import DT, F, N, T, full, graph_of, lif_file, weights

import tcja_deploy as td
from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.frontend.load import load
from tcja_deploy.ir import Kind
from tcja_deploy.nir_file.container import read_nir_file
from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.runtime.sequence import run

nir = pytest.importorskip("nir", reason="the package nir is not installed")


def test_reads_what_nir_reads(tmp_path: Path) -> None:
    f = [full(v, 4, 8, 8) for v in (2 * DT, 1.0, 0.0, 1.0, 0.0)]
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    conv = nir.Conv2d((8, 8), weights(4, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1, weights(4))
    flat = nir.Flatten(np.array([4, 4, 4]), -3, -1)
    graph = graph_of(
        conv,
        nir.LIF(*f, metadata={"note": "é"}),
        pool,
        flat,
        nir.Affine(weights(3, 64), weights(3)),
        shape=(2, 8, 8),
    )
    graph.metadata = {"from": "a test", "nested": {"n": 3}}
    nir.write(tmp_path / "g.nir", graph)
    ours, version = read_nir_file(tmp_path / "g.nir")
    theirs = nir.read(tmp_path / "g.nir").to_dict()
    assert version == nir.version
    assert ours["metadata"] == theirs["metadata"]
    assert [tuple(e) for e in ours["edges"]] == theirs["edges"]
    for name, node in theirs["nodes"].items():
        for key, value in node.items():
            if isinstance(value, np.ndarray | np.generic | int | tuple) and key in ours["nodes"][name]:
                assert np.array_equal(ours["nodes"][name][key], np.asarray(value)), (name, key)
            elif value != {}:
                assert ours["nodes"][name][key] == value, (name, key)


def write(path: Path, fill: Callable[[h5py.Group], None]) -> Path:
    """A NIR file whose only node is filled by hand."""
    with h5py.File(path, "w") as file:
        file["version"] = "1.0.8"
        node = file.create_group("node")
        node["type"] = "NIRGraph"
        fill(node)
    return path


def external(node: h5py.Group) -> None:
    node["secret"] = h5py.ExternalLink("/etc/hostname", "/")


def soft(node: h5py.Group) -> None:
    node["loop"] = h5py.SoftLink("/node")


def outside_data(node: h5py.Group) -> None:
    node.create_dataset("weight", (10,), "f4", external=[("/etc/hostname", 0, 40)])


def virtual(node: h5py.Group) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (10,))
    node.create_virtual_dataset("weight", layout)


def bomb(node: h5py.Group) -> None:
    node.create_dataset("weight", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10), compression="gzip")


def cycle(node: h5py.Group) -> None:
    node["self"] = node


def compound(node: h5py.Group) -> None:
    node.create_dataset("weight", (2,), [("a", "f4"), ("b", "i4")])


@pytest.mark.parametrize("fill", [external, soft, outside_data, virtual, bomb, cycle, compound])
def test_hostile_files(fill: Callable[[h5py.Group], None], tmp_path: Path) -> None:
    path = write(tmp_path / "x.nir", fill)
    with pytest.raises(FileFormatError) as error:
        load(path, timesteps=T, dt=DT)
    assert "x.nir" in str(error.value)


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    path = lif_file(tmp_path)
    content = path.read_bytes()
    for length in (8, 100, len(content) // 2, len(content) - 1):
        cut = tmp_path / f"{length}.nir"
        cut.write_bytes(content[:length])
        with pytest.raises(FileFormatError):
            td.load(cut, timesteps=T)
    with h5py.File(tmp_path / "lava.net", "w") as file:
        file.create_group("layer")
    with pytest.raises(FileFormatError, match="holds no NIR graph"):
        load(tmp_path / "lava.net", timesteps=T)
    with pytest.raises(FileFormatError, match="not a NIRGraph"):
        load_nir(
            write(tmp_path / "root.nir", lambda n: n.__delitem__("type") or n.__setitem__("type", "LIF")), T
        )
    with pytest.raises(FileFormatError, match="no such file"):
        load_nir(tmp_path / "nothing.nir", T)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes_never_escape_the_tree_of_errors(changes: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = lif_file(Path(name))
        content = bytearray(path.read_bytes())
        for place, value in changes:
            content[8 + int(place * (len(content) - 9))] = value
        path.write_bytes(bytes(content))
        with contextlib.suppress(DeployError):
            load(path, timesteps=T, dt=DT)


@pytest.mark.parametrize(
    "noted",
    [
        "{",
        '{"dt": -1, "T": 3, "input_kind": "count", "readout": []}',
        '{"dt": 1, "T": 3, "input_kind": "purple", "readout": []}',
        '{"dt": 1, "T": 3, "input_kind": "count", "readout": [["Vote"]]}',
        '{"dt": 1, "T": 3, "input_kind": "count", "readout": [["Vote", 99]]}',
        '{"dt": 1, "T": 3, "input_kind": "count", "readout": [["system"]]}',
        '{"dt": 1, "T": "3", "input_kind": "count", "readout": []}',
    ],
)
def test_damaged_notes(noted: str, tmp_path: Path) -> None:
    graph = graph_of(nir.Linear(weights(F, F)))
    graph.metadata = {"tcja_deploy": noted}
    nir.write(tmp_path / "x.nir", graph)
    with pytest.raises(FileFormatError):
        load_nir(tmp_path / "x.nir")


def test_notes_of_an_export_are_used(tmp_path: Path) -> None:
    graph = graph_of(nir.Linear(weights(F, F)))
    noted = {"dt": DT, "T": 3, "input_kind": "binary", "readout": [["TimeMean"], ["Vote", 2]]}
    graph.metadata = {"tcja_deploy": json.dumps(noted)}
    read = load_nir(graph)
    assert (read.T, read.input.signal.kind) == (3, Kind.BINARY)
    assert [type(n.op).__name__ for n in read] == ["Input", "Linear", "TimeMean", "Vote"]
    assert load_nir(graph, 7).T == 7


def test_parts_of_nodes_take_no_name_of_another() -> None:
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    graph = graph_of(pool, nir.Flatten(np.array([1, 2, 2])), shape=(1, 4, 4))
    graph.nodes["sumpool2d.mean"] = graph.nodes.pop("flatten")
    graph.edges = [tuple("sumpool2d.mean" if n == "flatten" else n for n in e) for e in graph.edges]
    x = np.ones((T, N, 1, 4, 4), np.float32)
    assert (run(load_nir(graph, T), x).numpy() == 4).all()
