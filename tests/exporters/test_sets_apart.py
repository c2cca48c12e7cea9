"""Artifacts of one stem in one folder: neither takes the other's golden sample, manifest and card away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tcja_deploy as td
from tcja_deploy.errors import ExportError
from tcja_deploy.exporters.onnx_step.export import OnnxStepTranslation
from tcja_deploy.exporters.target import Check
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir


@pytest.fixture(scope="module")
def graph() -> Graph:
    rng = np.random.default_rng(0)
    b = GraphBuilder(3)
    x = b.add("flat", ir.Flatten(), b.add("input", ir.Input((2, 3, 3), Kind.BINARY)))
    x = b.add("sum", ir.Linear(rng.normal(0, 0.5, (4, 18)).astype(np.float32)), x)
    return b.finish(b.add("mean", ir.TimeMean(), b.add("out", ir.LIF(), x)))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("force", [False, True])
def test_an_artifact_of_another_target_is_refused(graph: Graph, tmp_path: Path, force: bool) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    td.export(graph, "nir", tmp_path / "m", card=True)
    before = contents(tmp_path)
    with pytest.raises(
        ExportError, match=r"m\.onnx: golden sample .* those of m\.nir, which is there"
    ) as told:
        td.export(graph, "onnx", tmp_path / "m.onnx", force=force)
    assert contents(tmp_path) == before
    assert "such as m-onnx.onnx" in str(told.value.hint)
    made = td.export(graph, "onnx", tmp_path / "m-onnx.onnx", card=True)
    assert {file.name for file in made.files}.isdisjoint(before)
    assert contents(tmp_path).items() > before.items()
    for artifact in ("m.nir", "m-onnx.onnx"):
        assert td.verify(tmp_path / artifact, graph).passed


def test_its_own_set_is_replaced(graph: Graph, tmp_path: Path) -> None:
    first = td.export(graph, "onnx", tmp_path / "m.onnx", card=True)
    again = td.export(graph, "onnx", tmp_path / "m.onnx", card=True, force=True)
    assert again.files == first.files
    assert again.removed == ()


def test_what_an_artifact_left_that_is_gone_is_replaced(graph: Graph, tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    td.export(graph, "onnx", tmp_path / "m.onnx")
    (tmp_path / "m.onnx").unlink()
    with pytest.raises(ExportError, match=r"already there: m\.golden\.npz, m\.manifest\.json"):
        td.export(graph, "nir", tmp_path / "m.nir")
    td.export(graph, "nir", tmp_path / "m.nir", force=True)
    assert json.loads((tmp_path / "m.manifest.json").read_text())["target"] == "nir"


def test_another_target_under_the_same_name_leaves_nothing_of_the_first(graph: Graph, tmp_path: Path) -> None:
    td.export(graph, "onnx-step", tmp_path / "m.onnx")
    assert (tmp_path / "m.states.npz").is_file()
    made = td.export(graph, "onnx", tmp_path / "m.onnx", force=True)
    assert [file.name for file in made.removed] == ["m.states.npz"]
    assert contents(tmp_path).keys() == {file.name for file in made.files}


def test_one_that_appears_meanwhile_is_not_robbed(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two exports at once: who comes second is told, under `force` too."""
    pytest.importorskip("nir", reason="nir is not installed")
    check: Callable[..., Check] = OnnxStepTranslation.check

    def checked(*given: Any) -> Check:
        td.export(graph, "nir", tmp_path / "m.nir")
        return check(*given)

    monkeypatch.setattr(OnnxStepTranslation, "check", checked)
    with pytest.raises(ExportError, match=r"those of m\.nir, which is there"):
        td.export(graph, "onnx-step", tmp_path / "m.onnx", force=True)
    assert contents(tmp_path).keys() == {"m.nir", "m.golden.npz", "m.manifest.json"}
    assert td.verify(tmp_path / "m.nir", graph).passed


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "tcja-deploy-manifest", "files": 3}'])
def test_a_manifest_that_tells_nothing_is_replaced_when_asked(
    graph: Graph, tmp_path: Path, text: str
) -> None:
    (tmp_path / "m.manifest.json").write_text(text)
    with pytest.raises(ExportError, match=r"already there: m\.manifest\.json"):
        td.export(graph, "onnx", tmp_path / "m.onnx")
    td.export(graph, "onnx", tmp_path / "m.onnx", force=True, verify=False)
    assert json.loads((tmp_path / "m.manifest.json").read_text())["target"] == "onnx"
