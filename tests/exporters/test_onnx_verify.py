"""Exported ONNX files are verified: what was changed is found where it acts, and what is no model is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_cases import small

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import (
    DataError,
    FileFormatError,
)
from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.onnx import export
from tcja_deploy.exporters.onnx.target import ONNX
from tcja_deploy.exporters.onnx.verify import OnnxRuns, verify_onnx
from tcja_deploy.exporters.pipeline import run_verification
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.onnx import session
from tcja_deploy.runtime.onnx.sequence import sequence_model
from tcja_deploy.runtime.reference import Reference
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames


@pytest.fixture(scope="module")
def graph() -> Graph:
    return small()


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
    agreement = run_verification(
        ONNX, tmp_path / "m.onnx", graph, batches, progress=lambda _, done: seen.append(done)
    )
    assert seen == [2, 5]
    assert agreement.samples == 5
    spikes: dict[str, int] = {}
    run(graph, np.concatenate(batches, 1), observe=lambda n, v: spikes.update({n.name: int(v.sum())}))
    for layer, node in zip(agreement.layers, graph.neurons, strict=True):
        assert layer.neuron_steps == node.signal.size * graph.T * 5
        assert layer.spikes == spikes[node.name]


@pytest.mark.parametrize("much", [0, 2**30])
@pytest.mark.parametrize("ahead", [0, 1, 2, 5])
def test_runs_made_ahead_are_compared_as_all_others(
    ahead: int, much: int, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_MUCH", much)
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    tampered(tmp_path / "m.onnx", "conv.3.0.bias", lambda w: w.__setitem__(3, w[3] + 1.0))
    batches = [synthetic_frames(graph, samples, seed=samples) for samples in (2, 1, 3)]
    reference = Reference(fold_batch_norm(graph), "torch")
    runs = OnnxRuns(tmp_path / "m.onnx", graph, FrameBatches(graph, batches))
    turns = iter([True] * ahead)
    runs.run_ahead(lambda: next(turns, False))
    found = verify_onnx(runs, reference)
    assert found == run_verification(ONNX, tmp_path / "m.onnx", graph, batches, engine="torch")
    assert (found.samples, found.passed) == (6, False)


@pytest.mark.parametrize("much", [0, 2**30])
def test_spikes_are_read_as_booleans(
    much: int, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a session ends after its run or goes on; of spikes, and of a value that no comparison makes."""
    monkeypatch.setattr(session, "_MUCH", much)
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    gated = next(node.name for node in graph if isinstance(node.op, ir.TCJA))
    names = [*(node.name for node in graph.neurons), gated]
    model = session.Model(tmp_path / "m.onnx", trusted=True)
    model.start(fired=names)
    (entry,) = model.inputs
    for seed in range(2):
        frames, expected = synthetic_frames(graph, 2, seed=seed), {}
        output = run(graph, frames, observe=lambda n, v: expected.update({n.name: v.numpy() != 0}))  # noqa: B023
        found = model.run({entry: frames}, [*names, *model.outputs])
        assert np.allclose(found[model.outputs[0]], output, atol=1e-6)
        for name in names:
            assert found[name].dtype == np.bool_
            assert np.array_equal(found[name], expected[name])


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
