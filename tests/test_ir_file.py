"""The `.tcja` file: what was written comes back, and nothing else is ever loaded."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_samples import MAKERS, Making

from tcja_deploy.errors import ExportError, FileFormatError
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Node, Value
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir_file import FORMAT_VERSION, is_tcja_file, load_graph, save_graph

KEY = "tcja_deploy.graph"
IN_ONE_FOLDER = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def network() -> Graph:
    rng = np.random.default_rng(0)
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((2, 4, 4)))
    x = b.add("conv.0", ir.Conv2d(rng.normal(size=(2, 2, 3, 3)).astype(np.float32), padding=(1, 1, 1, 1)), x)
    x = b.add("conv.1", ir.LIF(v_reset=None, tau=3), x)
    x = b.add("conv.2", ir.TCJA(cla=rng.normal(size=(3, 3, 2)).astype(np.float32)), x)
    x = b.add("fc.0", ir.Flatten(), x)
    x = b.add("fc.1", ir.Linear(rng.normal(size=(2, 32)).astype(np.float32), np.ones(2, np.float32)), x)
    return b.finish(x, {"format": "test", "file": "größe.pth"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.tcja"
    save_graph(network(), path)
    return path


def same(a: Graph, b: Graph) -> bool:
    """Equality written out, so that the test does not rest on the hash."""
    if (a.T, a.output, a.source, len(a.nodes)) != (b.T, b.output, b.source, len(b.nodes)):
        return False
    for n, m in zip(a, b, strict=True):
        if (n.name, type(n.op), n.inputs, n.value) != (m.name, type(m.op), m.inputs, m.value):
            return False
        for name, value in n.op.constants().items():
            other = m.op.constants()[name]
            if type(value) is not type(other):
                return False
            if isinstance(value, np.ndarray):
                if (
                    value.dtype != other.dtype
                    or value.tobytes() != other.tobytes()
                    or value.shape != other.shape
                ):
                    return False
            elif value != other:
                return False
    return True


# -- round trip --------------------------------------------------------------------------------------------------------
def test_round_trip(file: Path) -> None:
    assert same(load_graph(file), network())
    assert load_graph(file).hash == network().hash
    assert is_tcja_file(file)


@st.composite
def one_op(draw: Any, name: str) -> Graph:
    """A graph with one op of a kind; generic ops bring frames to the shapes of its inputs."""
    sample = MAKERS[name](Making(draw))
    b = GraphBuilder(sample.T)
    b.add("input", ir.Input((3,), Kind.REAL))
    names = []
    for i, signal in enumerate(sample.signals):
        rest = signal.features
        weight = np.ones((int(np.prod(rest)), 3), np.float32)
        x = b.add(f"made.{i}", ir.Linear(weight), "input")
        x = b.add(f"split.{i}", ir.Reshape(("T", "N", *rest), (0, 1)), x)
        axes = [name for name in ("T", "N") if name in signal.dims]
        if "T" not in axes:
            x = b.add(f"mean.{i}", ir.TimeMean(), x)
        numbers = iter(range(len(axes), len(axes) + len(rest)))
        order = tuple(next(numbers) if isinstance(d, int) else axes.index(d) for d in signal.dims)
        names.append(b.add(f"x.{i}", ir.Permute(order), x))
    return b.finish(b.add("op", sample.op, *names))


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"Input"}))
@given(data=st.data())
@IN_ONE_FOLDER
def test_every_op_comes_back(tmp_path: Path, name: str, data: st.DataObject) -> None:
    graph = data.draw(one_op(name))
    save_graph(graph, tmp_path / "op.tcja", force=True)
    assert same(load_graph(tmp_path / "op.tcja"), graph)


@pytest.mark.parametrize("kind", list(Kind))
def test_graphs_without_weights(tmp_path: Path, kind: Kind) -> None:
    b = GraphBuilder(1)
    graph = b.finish(b.add("x", ir.Input((2, 3), kind)))
    save_graph(graph, tmp_path / "x.tcja")
    assert same(load_graph(tmp_path / "x.tcja"), graph)
    assert is_tcja_file(tmp_path / "x.tcja")


def test_a_file_is_not_overwritten(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ExportError, match="already"):
        save_graph(network(), file)
    assert file.read_bytes() == before
    save_graph(network(), file, force=True)
    assert file.read_bytes() == before, "the same graph makes the same file"


# -- damage --------------------------------------------------------------------------------------------------------------
def refused(path: Path) -> bool:
    """Whether loading fails as it should; any other error goes on to the test."""
    try:
        load_graph(path)
    except FileFormatError as error:
        return error.where == str(path)
    return False


@pytest.mark.parametrize("part", range(20))
def test_truncated(file: Path, part: int) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * part // 20])
    assert refused(file)


@pytest.mark.parametrize("cut", [1, 4, 63])
def test_a_few_bytes_less_or_more(file: Path, cut: int) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert refused(file)
    file.write_bytes(whole + b"x" * cut)
    assert refused(file)


def header_size(path: Path) -> int:
    size: int = struct.unpack("<Q", path.read_bytes()[:8])[0]
    return size


@given(st.data())
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes(file: Path, data: st.DataObject) -> None:
    """A flip is noticed, or it made no difference (in the blanks that fill up the header, say): never other weights."""
    save_graph(network(), file, force=True)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    assert refused(file) or same(load_graph(file), network())


def test_every_weight_is_under_the_checksum(file: Path) -> None:
    start, content = 8 + header_size(file), file.read_bytes()
    for at in range(start, len(content)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert refused(file)


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="there is no such file"):
        load_graph(tmp_path / "gone.tcja")
    assert refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        struct.pack("<Q", 2**63) + b"{}",  # a header of 9 exabytes
        struct.pack("<Q", 99_999_999) + b"{}",
        struct.pack("<Q", 10) + b"not json!!",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 2) + b"{}",
        pickle.dumps({"net": 1}),
    ],
)
def test_what_is_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tcja"
    path.write_bytes(content)
    assert refused(path)
    assert not is_tcja_file(path)


def test_a_tensor_that_claims_more_than_there_is(tmp_path: Path) -> None:
    header = {
        "x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        "__metadata__": {KEY: "{}"},
    }
    text = json.dumps(header).encode()
    (tmp_path / "x.tcja").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 64)
    assert refused(tmp_path / "x.tcja")


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("code from the file was run",))


def test_pickles_are_not_run(tmp_path: Path) -> None:
    for where in (0, 8):
        (tmp_path / "x.tcja").write_bytes(b"\0" * where + pickle.dumps(Bomb()))
        assert refused(tmp_path / "x.tcja")


# -- structures that no program of ours wrote -------------------------------------------------------------------------------
Structure = dict[str, Any]
Tensors = dict[str, np.ndarray]


def rewritten(path: Path, change: Callable[[Structure, Tensors], object]) -> None:
    """The file with another structure, and the checksum it had."""
    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as old:
        structure = json.loads(old.metadata()[KEY])
    change(structure, tensors)
    safetensors.numpy.save_file(tensors, path, metadata={KEY: json.dumps(structure)})


def node(structure: Structure, name: str) -> Structure:
    return next(n for n in structure["nodes"] if n["name"] == name)


def constants(structure: Structure, name: str) -> Structure:
    found: Structure = node(structure, name)["constants"]
    return found


def test_rewriting_alone_changes_nothing(file: Path) -> None:
    rewritten(file, lambda s, t: None)
    assert same(load_graph(file), network())


def put(*path: str | int) -> Callable[[Any], Callable[[Structure, Tensors], None]]:
    """Set one entry of the structure."""

    def to(value: Any) -> Callable[[Structure, Tensors], None]:
        def change(s: Any, t: Tensors) -> None:
            for key in path[:-1]:
                s = s[key]
            s[path[-1]] = value

        return change

    return to


CASES: list[tuple[Callable[[Structure, Tensors], object], str]] = [
    (put("version")(FORMAT_VERSION + 1), "format version 2, this program reads up to 1"),
    (put("version")("1"), "'1' is not an int"),
    (put("version")(True), "'True' is not an int"),
    (lambda s, t: s.pop("version"), "KeyError: 'version'"),
    (put("T")("3"), "'3' is not an int"),
    (put("T")(0), "at least one time step"),
    (put("T")(4), "do not fit T = 4"),
    (lambda s, t: s.pop("T"), "KeyError: 'T'"),
    (put("nodes")({}), "is not a list"),
    (put("nodes", 0)("input"), "is not a dict"),
    (put("nodes", 2, "op")("Quantum"), "conv.1: unknown op 'Quantum'"),
    (put("nodes", 2, "op")("Neuron"), "conv.1: unknown op 'Neuron'"),
    (put("nodes", 2, "op")(["LIF"]), "is not a str"),
    (put("nodes", 2, "name")(7), "'7' is not a str"),
    (put("nodes", 2, "name")("conv.0"), "conv.0: two nodes have this name"),
    (put("nodes", 2, "inputs")("input"), "is not a list"),
    (put("nodes", 2, "inputs")([0]), "'0' is not a str"),
    (put("nodes", 2, "inputs")(["fc.1"]), "values that do not exist"),
    (put("nodes", 2, "inputs")([]), "LIF got 0 inputs"),
    (put("nodes", 2, "constants")([]), "is not a dict"),
    (put("nodes", 2, "constants", "tau")("3.0"), "'3.0' is not a number"),
    (put("nodes", 2, "constants", "tau")(None), "None is not a number"),
    (put("nodes", 2, "constants", "tau")(10**400), "is not a number"),
    (put("nodes", 2, "constants", "tau")(0.5), "tau = 0.5 is below 1"),
    (put("nodes", 2, "constants", "tau")(float("inf")), "Infinity is not a number"),
    (put("nodes", 2, "constants", "tau")(float("nan")), "NaN is not a number"),
    (put("nodes", 2, "constants", "strict")(0), "0 is not a bool"),
    (put("nodes", 2, "constants", "colour")(1), "LIF has no constants colour"),
    (put("nodes", 2, "constants", "tau")(2.5), "does not match the checksum"),
    (put("nodes", 1, "constants", "stride")([0, 1]), r"stride = \(0, 1\) is below 1"),
    (put("nodes", 1, "constants", "stride")([1]), r"\[1\] is not a tuple"),
    (put("nodes", 1, "constants", "padding")([10**30] * 4), "is not a tuple"),
    (put("nodes", 1, "constants", "weight")([[1.0]]), "is not an array"),
    (put("nodes", 1, "constants", "weight")({"tensor": "fc.1.weight"}), "conv.0: weight refers to"),
    (
        put("nodes", 1, "constants", "weight")({"tensor": "conv.0.weight", "more": 1}),
        "conv.0: weight refers to",
    ),
    (put("nodes", 1, "constants", "groups")({"tensor": "conv.0.groups"}), "KeyError: 'conv.0.groups'"),
    (
        lambda s, t: constants(s, "conv.0").pop("weight"),
        "conv.0: .*missing 1 required positional argument: 'weight'",
    ),
    (lambda s, t: t.pop("conv.0.weight"), "KeyError: 'conv.0.weight'"),
    (lambda s, t: t.update(extra=np.ones(2, np.float32)), "tensors without a place: extra"),
    (lambda s, t: t.update({"conv.0.weight": np.ones((2, 2, 3, 3))}), "not float32: conv.0.weight"),
    (
        lambda s, t: t.update({"conv.0.weight": np.ones((2, 2, 3, 3), np.float16)}),
        "not float32: conv.0.weight",
    ),
    (
        lambda s, t: t.update({"conv.0.weight": np.array(1.0, np.float32)}),
        r"the weight has shape \(\), 4 axes",
    ),
    (
        lambda s, t: t.update({"conv.0.weight": np.ones((2, 3, 3, 3), np.float32)}),
        "expects 3 channels, the input has 2",
    ),
    (lambda s, t: t["conv.0.weight"].fill(np.nan), "not finite"),
    (lambda s, t: t["conv.0.weight"].fill(0.0), "does not match the checksum"),
    (put("source")({"file": 1}), "'1' is not a str"),
    (put("source")([]), "is not a dict"),
    (put("source", "file")("other.pth"), "does not match the checksum"),
    (put("output")("fc.0"), "does not match the checksum"),
    (put("output")(None), "'None' is not a str"),
    (put("output")("gone"), "the output is not a value of the graph"),
    (put("sha256")("0" * 64), "does not match the checksum"),
    (put("sha256")(None), "'None' is not a str"),
    (lambda s, t: s.pop("sha256"), "KeyError: 'sha256'"),
]


@pytest.mark.parametrize(("change", "reason"), CASES)
def test_structures_that_are_refused(
    file: Path, change: Callable[[Structure, Tensors], object], reason: str
) -> None:
    rewritten(file, change)
    with pytest.raises(FileFormatError, match=reason) as caught:
        load_graph(file)
    assert caught.value.where == str(file)


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", "{", "[" * 100_000, '{"version": ' + "9" * 5000 + "}"]
)
def test_text_that_is_no_structure(file: Path, text: str) -> None:
    safetensors.numpy.save_file({}, file, metadata={KEY: text})
    assert refused(file)


def test_other_safetensors_files(file: Path) -> None:
    safetensors.numpy.save_file({"x": np.ones(2, np.float32)}, file)
    assert not is_tcja_file(file)
    with pytest.raises(FileFormatError, match="holds no graph"):
        load_graph(file)


def test_a_newer_version_says_what_to_do(file: Path) -> None:
    rewritten(file, put("version")(7))
    with pytest.raises(FileFormatError, match="version 7") as caught:
        load_graph(file)
    assert caught.value.hint == "upgrade tcja-deploy"


def test_weights_of_another_layout_come_back(tmp_path: Path) -> None:
    weight = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    b = GraphBuilder(1)
    x = b.add("input", ir.Input((3,)))
    graph = b.finish(b.add("fc", ir.Linear(weight), x))
    save_graph(graph, tmp_path / "x.tcja")
    assert np.array_equal(load_graph(tmp_path / "x.tcja")["fc"].op.constants()["weight"], weight)
    assert load_graph(tmp_path / "x.tcja").hash == graph.hash


def test_a_graph_that_breaks_rules_cannot_be_loaded_back(tmp_path: Path) -> None:
    graph = network()
    wrong = replace(
        graph, nodes=(*graph.nodes, Node("x", ir.ReLU(), ("fc.1",), Value("x", graph["fc.1"].signal)))
    )
    save_graph(wrong, tmp_path / "x.tcja")
    assert refused(tmp_path / "x.tcja")
