"""Exports to Lava and their verification, without Lava."""

from __future__ import annotations

import json

import numpy as np
import pytest
from graphs import Builder, frames_for
from test_lower import GRAPHS

import tcja_deploy as td
from tcja_deploy.errors import DataError, ExportError, UnsupportedError, UsageError
from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.exporters.lava.integrity import seal
from tcja_deploy.exporters.report import Fidelity
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm


def graph_with_everything():
    b = Builder((2, 13, 11)).conv(4)
    norm = ir.BatchNorm2d(*(b.rng.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4)))
    b.add(norm).lif(tau=3.0).pool("avg", (2, 2)).conv(4).lif().tcja().pool("max", (2, 2)).add(ir.Flatten())
    return b.linear(6).lif().add(ir.TimeMean()).add(ir.Vote(2)).done()


def test_the_report_says_what_became_of_each_node(tmp_path):
    graph = graph_with_everything()
    frames = frames_for(graph, 3)
    labels = np.array([0, 1, -1])
    report = td.export(graph, "lava", tmp_path / "b", data=[frames], test=[(frames, labels)])
    assert [node.name for node in report.nodes] == [node.name for node in graph]
    notes = {node.op: (node.fidelity, node.note) for node in report.nodes}
    assert notes["BatchNorm2d"] == (Fidelity.EXACT, "folded into 1.conv2d")
    assert notes["MaxPool2d"][0] is Fidelity.EXACT
    assert notes["AvgPool2d"] == (Fidelity.EXACT, "merged into the weights after it")
    assert notes["TCJA"][0] is Fidelity.APPROXIMATED
    assert notes["TimeMean"] == (Fidelity.EXACT, "on the host")
    leak = next(node for node in report.nodes if node.name == "3.lif")
    assert leak.fidelity is Fidelity.APPROXIMATED
    assert "leak 0.333333 becomes 1365/4096, off by 0.024 %" in leak.note
    assert report.agreement.passed
    assert report.accuracy.samples == 3
    assert report.accuracy.labelled == 2
    assert [stage.name for stage in report.stages] == ["3.lif", "3.lif.crop", "6.lif", "7.tcja", "11.lif"]
    assert report.latency == 4 + graph.T - 1
    assert report.frames == graph.T
    assert all(file.is_file() for file in report.files)
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["model"]["sha256"] == graph.hash
    assert manifest["lava"]["accuracy"]["on"] == "test data"
    assert manifest["lava"]["accuracy"]["labelled"] == 2
    assert manifest["lava"]["quantisation"]["options"]["gate_bits"] == 6
    assert [stage["name"] for stage in manifest["lava"]["quantisation"]["stages"]] == [
        s.name for s in report.stages
    ]
    assert manifest["lava"]["made_for"] == ["lava-nc==0.10.0", "lava-dl==0.6.0"]
    assert manifest["target"] == "lava"
    assert manifest["parity"] == report.agreement.as_dict()
    assert manifest["notes"] == list(report.notes)
    assert report.notes[0] == (
        "3.lif: a pair of 8-bit synapses per weight; the host sends the input twice, once times 128"
    )


def test_without_data_the_report_warns(tmp_path):
    graph = GRAPHS["gate"]()
    report = td.export(graph, "lava", tmp_path / "b", verify=False)
    assert "calibrated on synthetic frames" in report.notes[0]
    assert report.agreement is None
    assert report.accuracy.labelled == 0
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["notes"] == list(report.notes)
    assert manifest["parity"] is None


def test_wraps_on_test_data_are_said(tmp_path):
    graph = GRAPHS["gate"]()
    frames = frames_for(graph)
    report = td.export(
        graph, "lava", tmp_path / "b", data=[frames], test=[(frames * 2000, None)], verify=False
    )
    assert any("currents wrapped on the data in" in note for note in report.notes)


def test_real_inputs_state_their_rounding(tmp_path):
    graph = GRAPHS["real in"]()
    report = td.export(graph, "lava", tmp_path / "b", data=[frames_for(graph)], input_scale=100)
    assert report.nodes[0].fidelity is Fidelity.APPROXIMATED
    assert report.nodes[0].note == "rounded to multiples of 1/100"


def test_refusals_leave_nothing(tmp_path):
    graph = GRAPHS["plain"]()
    frames = frames_for(graph)
    with pytest.raises(UnsupportedError, match="no spiking layer"):
        td.export(Builder((2, 6, 6)).add(ir.Flatten()).linear(2).done(), "lava", tmp_path / "b")
    with pytest.raises(DataError, match="no samples"):
        td.export(graph, "lava", tmp_path / "b", data=[])
    assert list(tmp_path.iterdir()) == []
    td.export(graph, "lava", tmp_path / "b", data=[frames], verify=False)
    with pytest.raises(ExportError, match="something at this path"):
        td.export(graph, "lava", tmp_path / "b", data=[frames])
    td.export(graph, "lava", tmp_path / "b", data=[frames], force=True)


def test_the_twin_of_a_bundle_is_the_network_that_was_quantised(tmp_path):
    graph = fold_batch_norm(graph_with_everything())
    frames = frames_for(graph, 2)
    td.export(graph, "lava", tmp_path / "b", data=[frames])
    agreement = td.verify(tmp_path / "b", backend="twin")
    assert agreement.samples == 1
    assert agreement.mismatches == 0
    assert agreement.neuron_steps == graph.T * sum(
        int(np.prod(stage.out_shape)) for stage in read_bundle(tmp_path / "b").network.stages
    )


def test_a_golden_sample_that_does_not_belong_is_found(tmp_path):
    """One changed spike, with its hash put right: only running the network can tell."""
    from tcja_deploy.files import sha256

    graph = GRAPHS["plain"]()
    path = tmp_path / "b"
    td.export(graph, "lava", path, data=[frames_for(graph)])
    golden = dict(np.load(path / "golden.npz"))
    golden["stage_0"][0] ^= 128
    np.savez_compressed(path / "golden.npz", **golden)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = {
        "sha256": sha256(path / "golden.npz"),
        "bytes": (path / "golden.npz").stat().st_size,
    }
    manifest["manifest_sha256"] = seal(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    agreement = td.verify(path, backend="twin")
    assert agreement.mismatches == 1
    assert not agreement.passed
    first = agreement.layers[0].first
    assert (first.sample, first.t, first.index) == (0, 0, (0, 0, 0))


def test_backends_are_checked(tmp_path):
    graph = GRAPHS["plain"]()
    td.export(graph, "lava", tmp_path / "b", data=[frames_for(graph)])
    with pytest.raises(UsageError, match="unknown backend"):
        td.verify(tmp_path / "b", backend="loihi")
    with pytest.raises(UsageError, match="reference itself"):
        td.verify(tmp_path / "b", None, [frames_for(graph)], backend="twin")
