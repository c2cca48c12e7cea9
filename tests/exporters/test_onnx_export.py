"""Exported ONNX files: layouts, names, metadata, manifest, golden sample, refusals, atomic writing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_cases import checked, run_model, session, small

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import (
    DataError,
    ExportError,
    FileFormatError,
    UnsupportedError,
    UsageError,
)
from tcja_deploy.exporters import pipeline
from tcja_deploy.exporters.onnx import export
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames


@pytest.fixture(scope="module")
def graph() -> Graph:
    return small()


@pytest.fixture(scope="module")
def streaming() -> Graph:
    """A network whose output is a stream of membrane inputs."""
    return zoo.build("cifar10dvs", channels=(4, 4, 6, 6, 8, 8, 8, 8), T=3)


# -- layouts ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("external_data", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("which", ["graph", "streaming"])
def test_any_number_of_samples(
    which: str, batch_first: bool, external_data: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    graph: Graph = request.getfixturevalue(which)
    report = td.export(
        graph, "onnx", tmp_path / "m.onnx", batch_first=batch_first, external_data=external_data
    )
    assert report.agreement is not None
    assert report.agreement.passed
    running = session(tmp_path / "m.onnx")
    for n in (1, 3, 7):
        frames = synthetic_frames(graph, n, seed=n)
        fed = np.ascontiguousarray(frames.swapaxes(0, 1)) if batch_first else frames
        result = running.run(None, {"input": fed})[0]
        expected = run(graph, frames).numpy()
        swapped = batch_first and graph[graph.output].signal.streams
        result = result.swapaxes(0, 1) if swapped else result
        assert result.shape == expected.shape
        # Votes and rates are multiples of 1 / (voters T): they are equal or a spike flipped. Membrane inputs are sums of up to
        # 72 products that round differently, and BN is folded.
        assert np.allclose(result, expected, rtol=0, atol=1e-6 if which == "graph" else 1e-4)


def test_shapes_in_the_file(graph: Graph, streaming: Graph, tmp_path: Path) -> None:
    for network, batch_first, inputs, outputs in (
        (graph, False, [5, "N", 2, 34, 34], ["N", 10]),
        (graph, True, ["N", 5, 2, 34, 34], ["N", 10]),
        (streaming, False, [3, "N", 2, 128, 128], [3, "N", 10]),
        (streaming, True, ["N", 3, 2, 128, 128], ["N", 3, 10]),
    ):
        td.export(network, "onnx", tmp_path / "m.onnx", batch_first=batch_first, verify=False, force=True)
        running = session(tmp_path / "m.onnx")
        assert running.get_inputs()[0].shape == inputs
        assert running.get_outputs()[0].shape == outputs
        assert len(running.get_inputs()) == len(running.get_outputs()) == 1


def test_external_data(graph: Graph, tmp_path: Path) -> None:
    report = td.export(graph, "onnx", tmp_path / "m.onnx", external_data=True)
    assert {f.name for f in report.files} == {"m.onnx", "m.onnx.data", "m.manifest.json", "m.golden.npz"}
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    outside = [i for i in model.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL]
    assert outside
    assert {e.value for i in outside for e in i.external_data if e.key == "location"} == {"m.onnx.data"}
    assert (tmp_path / "m.onnx").stat().st_size < (tmp_path / "m.onnx.data").stat().st_size
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    assert td.verify(tmp_path / "m.onnx", graph, [synthetic_frames(graph, 1)]).passed
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(FileFormatError, match=r"m\.onnx"):
        td.verify(tmp_path / "m.onnx", graph, [synthetic_frames(graph, 1)])


def test_large_models_leave_the_protobuf_file(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "needs_external_data", lambda model: True)
    report = td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    assert (tmp_path / "m.onnx.data").is_file()
    assert tmp_path / "m.onnx.data" in report.files


@pytest.mark.parametrize("opset", [13, 17, 18, 23])
def test_opset_option(graph: Graph, opset: int, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", opset=opset, data=[synthetic_frames(graph, 1)])
    model = onnx.load(tmp_path / "m.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    checked(model)


# -- readable names, metadata, manifest ----------------------------------------------------------------------------------
def test_values_carry_module_paths(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    model = onnx.load(tmp_path / "m.onnx")
    produced = {name for node in model.graph.node for name in node.output}
    for node in graph:
        if isinstance(node.op, ir.Neuron | ir.TCJA | ir.Vote):
            assert node.name in produced
    assert model.graph.output[0].name == graph.output
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    assert np.array_equal(weights["conv.5.tla"], graph["conv.5"].op.tla)
    assert weights["conv.0.0.weight"].shape == graph["conv.0.0"].op.weight.shape
    names = [n.name for n in model.graph.node]
    assert len(names) == len(set(names))
    assert all(names)
    assert "conv.1/t0/membrane:Add" in names


def test_metadata(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False, batch_first=True)
    model = onnx.load(tmp_path / "m.onnx")
    properties = {p.key: p.value for p in model.metadata_props}
    assert properties["tcja_deploy.T"] == "5"
    assert properties["tcja_deploy.model_sha256"] == graph.hash
    assert properties["tcja_deploy.layout"] == "N,T"
    assert properties["tcja_deploy.target"] == "onnx"
    assert properties["tcja_deploy.source.architecture"] == "events34"
    assert (model.producer_name, model.producer_version) == ("tcja-deploy", td.__version__)


def test_manifest(graph: Graph, tmp_path: Path) -> None:
    report = td.export(graph, "onnx", tmp_path / "m.onnx", data=[synthetic_frames(graph, 3)])
    manifest = json.loads((tmp_path / "m.manifest.json").read_text())
    assert (manifest["format"], manifest["format_version"], manifest["target"]) == (
        "tcja-deploy-manifest",
        2,
        "onnx",
    )
    model = manifest["model"]
    assert (model["sha256"], model["T"], model["input"]) == (graph.hash, 5, ["T", "N", "2", "34", "34"])
    assert model["parameters"] == graph.parameters
    assert set(manifest["files"]) == {"m.onnx", "m.golden.npz"}
    for name, facts in manifest["files"].items():
        content = (tmp_path / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    parity = manifest["parity"]
    assert parity == report.agreement.as_dict()  # type: ignore[union-attr]
    assert parity["samples"] == parity["predictions_equal"] == 3
    assert [layer["name"] for layer in parity["layers"]] == [n.name for n in graph.neurons]
    fates = {n["name"]: n for n in manifest["nodes"]}
    assert set(fates) == {n.name for n in graph}
    assert {n["fidelity"] for n in manifest["nodes"]} == {"exact"}
    assert "folded into conv.0.0" in fates["conv.0.1"]["note"]
    assert "5 steps" in fates["conv.1"]["note"]
    assert manifest["versions"]["tcja_deploy"] == td.__version__
    assert manifest["comparisons"]["folding"]["samples"] == 1
    assert manifest["notes"] == list(report.notes)
    assert manifest["onnx"] == {"opset": 17, "layout": "T,N", "external_data": False}
    assert report.files[-1] == tmp_path / "m.onnx"


@pytest.mark.parametrize("batch_first", [False, True])
def test_golden_sample_reproduces(graph: Graph, batch_first: bool, tmp_path: Path) -> None:
    data = [synthetic_frames(graph, 2, seed=9)]
    td.export(graph, "onnx", tmp_path / "m.onnx", batch_first=batch_first, data=data)
    golden = np.load(tmp_path / "m.golden.npz")
    first = data[0][:, :1]
    assert np.array_equal(golden["input"], first.swapaxes(0, 1) if batch_first else first)
    assert np.array_equal(run_model(tmp_path / "m.onnx", golden["input"]), golden["output"])


def test_the_same_export_gives_the_same_bytes(graph: Graph, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        td.export(graph, "onnx", tmp_path / name / "m.onnx", verify=False)
    assert (tmp_path / "a" / "m.onnx").read_bytes() == (tmp_path / "b" / "m.onnx").read_bytes()


# -- writing ------------------------------------------------------------------------------------------------------------------
def test_suffix_is_added(graph: Graph, tmp_path: Path) -> None:
    assert td.export(graph, "onnx", tmp_path / "model.v2", verify=False).path == tmp_path / "model.v2.onnx"
    assert {f.name for f in tmp_path.iterdir()} == {
        "model.v2.onnx",
        "model.v2.manifest.json",
        "model.v2.golden.npz",
    }


def test_overwriting_needs_force(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    with pytest.raises(ExportError, match=r"m\.onnx: there is something at this path") as caught:
        td.export(small(1), "onnx", tmp_path / "m.onnx", verify=False)
    assert "--force" in caught.value.hint
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before
    (tmp_path / "m.onnx").unlink()  # any one of the files counts
    with pytest.raises(ExportError, match=r"m\.golden\.npz, m\.manifest\.json"):
        td.export(small(1), "onnx", tmp_path / "m.onnx", verify=False)
    td.export(small(1), "onnx", tmp_path / "m.onnx", verify=False, force=True)
    assert json.loads((tmp_path / "m.manifest.json").read_text())["model"]["sha256"] == small(1).hash


def test_missing_folder(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        td.export(graph, "onnx", tmp_path / "nowhere" / "m.onnx", verify=False)


@pytest.mark.parametrize(
    ("module", "step"),
    [
        *((export, name) for name in ("save_checked", "verify_onnx", "Reference", "node_reports")),
        (export.Reference, "run_sample"),
        *((pipeline, name) for name in ("sealed", "folding_effect")),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_failure_midway_leaves_everything_as_it_was(
    module: ModuleType | type,
    step: str,
    force: bool,
    graph: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if force:
        td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(module, step, broken)
    with pytest.raises(RuntimeError, match="on purpose"):
        td.export(small(1), "onnx", tmp_path / "m.onnx", force=force)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_full_disk(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline.np, "savez_compressed", full)
    with pytest.raises(ExportError, match="No space left on device"):
        td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    assert not list(tmp_path.iterdir())


def test_failing_data_leaves_nothing(graph: Graph, tmp_path: Path) -> None:
    def batches() -> Iterator[np.ndarray]:
        yield synthetic_frames(graph, 1)
        raise DataError("unreadable recording")

    with pytest.raises(DataError):
        td.export(graph, "onnx", tmp_path / "m.onnx", data=batches())
    with pytest.raises(DataError, match="no samples"):
        td.export(graph, "onnx", tmp_path / "m.onnx", data=[])
    with pytest.raises(DataError, match=r"T=5"):
        td.export(graph, "onnx", tmp_path / "m.onnx", data=[np.zeros((4, 1, 2, 34, 34), np.float32)])
    assert not list(tmp_path.iterdir())


def test_op_without_a_rule(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tcja_deploy.runtime.onnx import sequence

    monkeypatch.delitem(sequence.SEQUENCE, ir.TCJA)
    with pytest.raises(UnsupportedError, match=r"2 nodes:\n  - conv\.5: TCJA .*\n  - conv\.9: TCJA "):
        td.export(graph, "onnx", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_wrong_opset_leaves_nothing(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        td.export(graph, "onnx", tmp_path / "m.onnx", opset=11)
    assert not list(tmp_path.iterdir())
