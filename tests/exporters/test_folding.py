"""Exports are compared with the folded network; what folding batch normalisation changes is measured and told apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.exporters.folding import folding_effect
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm, prepare
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.reference import Reference
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames

EXPORTS = {"m.onnx": "onnx", "step.onnx": "onnx-step", "m.nir": "nir"}


def test_the_effect_of_folding() -> None:
    graph = zoo.build("events34", channels=(6, 8, 8), T=5, hidden=24)
    frames = synthetic_frames(graph, 2)
    effect = folding_effect(prepare(graph), Reference(fold_batch_norm(graph)), frames, bound=1e-5)
    assert effect is not None
    assert (effect.samples, effect.predictions_equal) == (2, 2)
    assert [layer.name for layer in effect.layers] == [n.name for n in graph.neurons]
    # A normalisation that folding gets wrong would show at once: here folded weights meet another network's statistics.
    one = next(n for n in graph if isinstance(n.op, ir.BatchNorm2d))
    shifted = replace(one, op=replace(one.op, beta=one.op.beta + 0.3))
    other = replace(graph, nodes=tuple(shifted if n is one else n for n in graph))
    folded = fold_batch_norm(other)
    spikes: dict[str, Any] = {}
    output = run(folded, frames, observe=lambda n, v: spikes.update({n.name: v.numpy()})).numpy()
    assert compare(graph, frames, output, spikes, bound=1e-5).mismatch_rate > 1e-3
    assert folding_effect(prepare(folded), Reference(folded), frames, bound=1e-5) is None


def normalised(statistics: np.ndarray, threshold: float | None) -> Graph:
    """One input, weighted and normalised; a neuron after it if there is a threshold."""
    b = GraphBuilder(1)
    x = b.add("input", ir.Input((1,), Kind.REAL))
    x = b.add("fc", ir.Linear(np.ones((1, 1), np.float32)), x)
    x = b.add("bn", ir.BatchNorm1d(*statistics[:, None]), x)
    return b.finish(x if threshold is None else b.add("if", ir.IF(v_threshold=threshold), x))


ONE = np.ones((1, 1, 1), np.float32)


@pytest.mark.parametrize("file", EXPORTS)
def test_a_membrane_that_folding_takes_below_the_threshold(file: str, tmp_path: Path) -> None:
    # An input of one times a weight, plus a bias: whoever computes the folded network rounds once and equally.
    for statistics in np.random.default_rng(1).uniform(0.5, 1.5, (500, 4)).astype(np.float32):
        network = normalised(statistics, None)
        unfolded, folded = (float(run(g, ONE)) for g in (network, fold_batch_norm(network)))
        if 0 < folded < unfolded:
            break
    else:
        pytest.fail("folding rounds each of 500 numbers as the unfolded network does")
    report = td.export(normalised(statistics, unfolded), EXPORTS[file], tmp_path / file, data=[ONE])
    assert report.agreement is not None
    assert report.agreement.mismatches == 0
    told = [note for note in report.notes if "1 of 1 neuron-steps differ" in note]
    assert any("it began 0.0e+00 from the threshold" in note for note in told)
    manifest = json.loads((tmp_path / f"{Path(file).stem}.manifest.json").read_text())
    assert (manifest["parity"]["mismatches"], manifest["comparisons"]["folding"]["mismatches"]) == (0, 1)
    golden = np.load(tmp_path / f"{Path(file).stem}.golden.npz")
    assert golden["output"].sum() == 0  # what the exported network computes


@pytest.mark.parametrize("file", EXPORTS)
def test_without_normalisation_there_is_nothing_to_tell(file: str, tmp_path: Path) -> None:
    graph = fold_batch_norm(normalised(np.ones(4, np.float32), 0.5))
    report = td.export(graph, EXPORTS[file], tmp_path / file, data=[ONE])
    manifest = json.loads((tmp_path / f"{Path(file).stem}.manifest.json").read_text())
    assert "folding" not in manifest["comparisons"]
    assert not any("folding" in note for note in report.notes)
