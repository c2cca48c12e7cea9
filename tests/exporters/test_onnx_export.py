"""Exported ONNX files: layouts, names, metadata, manifest, golden sample, refusals, atomic writing, verification."""

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
from onnx_cases import checked, run_model, session

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
from tcja_deploy.exporters.onnx.sequence import sequence_model
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames


def small(seed: int = 0) -> Graph:
    return zoo.build("events34", channels=(6, 8, 8), T=5, hidden=24, seed=seed)


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
    from tcja_deploy.exporters.onnx import sequence

    monkeypatch.delitem(sequence.SEQUENCE, ir.TCJA)
    with pytest.raises(UnsupportedError, match=r"2 nodes:\n  - conv\.5: TCJA .*\n  - conv\.9: TCJA "):
        td.export(graph, "onnx", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_wrong_opset_leaves_nothing(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        td.export(graph, "onnx", tmp_path / "m.onnx", opset=11)
    assert not list(tmp_path.iterdir())


# -- verification ---------------------------------------------------------------------------------------------------------
def tampered(path: Path, weight: str, change: Any) -> None:
    """Change one weight in an ONNX file; `change` gets the array."""
    model = onnx.load(path)
    tensor = next(i for i in model.graph.initializer if i.name == weight)
    array = numpy_helper.to_array(tensor).copy()
    change(array)
    tensor.CopyFrom(numpy_helper.from_array(array, weight))
    onnx.save(model, path)


def test_progress_and_counts(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    seen: list[int] = []
    batches = [synthetic_frames(graph, 2, seed=0), synthetic_frames(graph, 3, seed=1)]
    agreement = td.verify(tmp_path / "m.onnx", graph, batches, progress=lambda _, done: seen.append(done))
    assert seen == [2, 5]
    assert agreement.samples == 5
    spikes: dict[str, int] = {}
    run(graph, np.concatenate(batches, 1), observe=lambda n, v: spikes.update({n.name: int(v.sum())}))
    for layer, node in zip(agreement.layers, graph.neurons, strict=True):
        assert layer.neuron_steps == node.signal.size * graph.T * 5
        assert layer.spikes == spikes[node.name]


def test_tampered_weight_is_found_where_it_acts(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    # Channel 3 of the second convolution gets a bias that lifts its membranes by 0.5 in the first step.
    tampered(tmp_path / "m.onnx", "conv.3.0.bias", lambda w: w.__setitem__(3, w[3] + 1.0))
    batches = [synthetic_frames(graph, 1, seed=s) for s in range(3)]
    agreement = td.verify(tmp_path / "m.onnx", graph, batches)
    assert not agreement.passed
    layers = {layer.name: layer for layer in agreement.layers}
    assert layers["conv.1"].mismatches == 0
    assert layers["conv.1"].first is None
    first = layers["conv.4"].first
    assert first is not None
    assert first.index[0] == 3
    assert (first.sample, first.expected) == (0, 0)
    assert first.distance is not None
    # The bias of 1 is halved once per step: by step t the membrane is higher by 1/2 + ... + 1/2^(t+1), less than 1.
    assert -1 < first.distance < 0
    later = layers["conv.8"]
    assert later.mismatches > 0
    assert later.first is not None
    assert later.first.distance is None  # its inputs differed already


def test_bound_decides(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    tampered(tmp_path / "m.onnx", "conv.7.0.bias", lambda w: w.__setitem__(0, w[0] + 0.02))
    frames = [synthetic_frames(graph, 2)]
    agreement = td.verify(tmp_path / "m.onnx", graph, frames, bound=1.0)
    assert agreement.mismatches > 0
    assert agreement.passed == (agreement.predictions_equal == 2)
    assert not td.verify(tmp_path / "m.onnx", graph, frames, bound=agreement.mismatch_rate / 2).passed


def test_another_network(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    for other in (
        small(1),
        zoo.build("events34", channels=(6, 8, 8), T=5, kernels=(None, (4, 4), None), hidden=24),
    ):
        with pytest.raises(FileFormatError, match="not exported from the given network"):
            td.verify(tmp_path / "m.onnx", other, [synthetic_frames(graph, 1)])


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000)])
def test_damaged_file(content: bytes, graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"m\.onnx"):
        td.verify(tmp_path / "m.onnx", graph, [synthetic_frames(graph, 1)])


def test_truncated_file(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    content = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError):
        td.verify(tmp_path / "m.onnx", graph, [synthetic_frames(graph, 1)])


def test_model_that_onnxruntime_refuses(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.node[3].op_type = "Not"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(FileFormatError, match="onnxruntime does not accept"):
        td.verify(tmp_path / "m.onnx", graph, [synthetic_frames(graph, 1)])


def test_frames_of_another_shape(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    with pytest.raises(DataError, match=r"\[T=5, N, 2, 34, 34\]"):
        td.verify(tmp_path / "m.onnx", graph, [np.zeros((5, 1, 2, 32, 32), np.float32)])
    with pytest.raises(DataError, match="no samples"):
        td.verify(tmp_path / "m.onnx", graph, [])


def test_export_that_does_not_agree_is_written_and_says_so(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        export, "sequence_model", lambda g, **options: sequence_model(fold_batch_norm(small(5)), **options)
    )
    report = td.export(graph, "onnx", tmp_path / "m.onnx")
    assert report.agreement is not None
    assert not report.agreement.passed
    assert json.loads((tmp_path / "m.manifest.json").read_text())["parity"]["passed"] is False
