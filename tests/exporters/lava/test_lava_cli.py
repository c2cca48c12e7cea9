"""What the command line shows of Lava exports and bundles."""

from __future__ import annotations

import json

import numpy as np
import pytest
from graphs import frames_for
from test_lower import GRAPHS
from typer.testing import CliRunner

import tcja_deploy as td
from tcja_deploy.cli import app
from tcja_deploy.cli.render import print_report
from tcja_deploy.errors import UsageError


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    graph = GRAPHS["max, gate, max"]()
    frames = frames_for(graph, 3)
    path = tmp_path_factory.mktemp("cli") / "b.lava"
    return path, td.export(graph, "lava", path, data=[frames], test=[(frames, np.array([0, 1, -1]))])


def test_the_report_says_what_was_measured_and_assumed(exported, capsys):
    path, report = exported
    print_report(report)
    text = " ".join(capsys.readouterr().out.split())
    assert "columns from wraps on: 3 samples of the test data" in text
    accuracy = report.accuracy
    assert f"predictions: {accuracy.agree} of 3 equal; of 2 with a label" in text
    assert "a pair of 8-bit synapses per weight; the host sends the input twice" in text
    notes = json.loads((path / "manifest.json").read_text())["notes"]
    assert notes
    for note in (*notes, *report.notes):
        assert note in text
    assert "the twin of the written files agrees" in text
    assert f"0 of {report.agreement.neuron_steps:,} neuron-steps differ" in text
    assert f"latency {report.latency} steps; N windows take 6 N + {report.latency}" in text


def test_inspect_shows_a_bundle(exported):
    path, report = exported
    answer = CliRunner().invoke(app, ["inspect", str(path)])
    assert answer.exit_code == 0, answer.output
    for stage in report.stages:
        assert stage.name in answer.output
    assert f"Latency {report.latency} steps" in answer.output
    again = CliRunner().invoke(app, ["inspect", str(path), "-T", "3"])
    assert "--timesteps: these say how to read a model" in str(again.exception)
    as_json = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert json.loads(as_json.output)["latency"] == report.latency
    assert isinstance(CliRunner().invoke(app, ["inspect", str(path), "--text"]).exception, UsageError)
