"""`tcja-deploy stream` from the outside."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.cli.stream import stream
from tcja_deploy.cli.stream_live import onnx_feed, stream_feed
from tcja_deploy.errors import DataError, DeployError, ExportError, UsageError
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir_file import save_graph
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import load_profile, plan
from tcja_deploy.runtime.synthetic import synthetic_frames

app = typer.Typer()
app.command()(stream)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    graph = zoo.build("events34", T=4, channels=(4, 4, 4), hidden=16)
    save_graph(graph, folder / "model.tcja")
    frames = synthetic_frames(graph, 12)
    np.savez(folder / "data.npz", frames=frames.swapaxes(0, 1), labels=np.arange(12) % 10)
    return folder


def call(files, *arguments, fails: type[DeployError] | None = None) -> str:
    result = CliRunner().invoke(
        app, [str(files / "model.tcja"), "--data", str(files / "data.npz"), *map(str, arguments)]
    )
    if fails is not None:
        assert isinstance(result.exception, fails), result.exception
        return str(result.exception)
    assert result.exception is None, result.exception
    return result.stdout


def strict(text: str):
    """JSON as the standard has it: without NaN."""

    def refuse(constant: str):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("engine", ["auto", "torch", "events", "onnx", "twin"])
def test_every_engine_agrees_with_its_reference(files, engine):
    found = strict(call(files, "--engine", engine, "--json"))
    assert found["exact"]
    assert found["engine"] == ("events" if engine == "auto" else engine)
    assert ("sparse" in found["engine_label"]) == (engine == "auto")
    assert found["agreement"]["passed"]
    assert found["agreement"]["samples"] == found["outcome"]["samples"] == 12
    assert found["cost"]["schedule"] == ("paced" if engine == "onnx" else "burst")
    assert found["cost"]["latency"] == (6 if engine == "onnx" else 0)
    assert found["outcome"]["steps"] == found["cost"]["latency"] + 4


def test_the_report_in_words(files):
    out = call(files, "--frame-time", "5", "--schedule", "paced", "--lookahead", "1")
    assert "conv.5" in out
    assert "a result leaves 2 frames (10 ms) after" in out
    assert "an approximation" in out
    assert "stream agrees" in call(files)


def test_sweep_and_fit(files, tmp_path):
    out = call(
        files, "--sweep", "--fit", "--plot", tmp_path / "s.png", "--save-profile", tmp_path / "p.safetensors"
    )
    assert "6 recordings" in out  # the other six were fitted on
    assert "the linear prediction" in out
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    from tcja_deploy.ir_file import load_graph

    assert set(load_profile(load_graph(files / "model.tcja"), tmp_path / "p.safetensors").blocks) == {
        "conv.5",
        "conv.9",
    }
    rows = strict(call(files, "--sweep", "--json", "--profile", tmp_path / "p.safetensors"))
    assert [(r["lookahead"], r["estimate"]) for r in rows] == [
        (d, e) for d in range(4) for e in ("zeros", "profile")
    ]
    assert rows[-1]["agreement"] == 1.0
    assert rows[-1]["running_accuracy"][:-1] == [None] * 3  # exact: nothing is known before the last frame
    call(files, "--sweep", "--plot", tmp_path / "s.png", fails=ExportError)


def test_recordings_without_labels(files, tmp_path):
    with np.load(files / "data.npz") as labelled:
        np.save(tmp_path / "data.npy", labelled["frames"][0])
    unlabelled = ["--data", tmp_path / "data.npy"]
    rows = strict(call(files, *unlabelled, "--sweep", "--json", "--plot", tmp_path / "s.png"))
    assert all(r["accuracy"] is None and r["running_accuracy"] == [None] * 4 for r in rows)
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    out = call(files, *unlabelled)
    assert "accuracy" not in out
    assert "(one recording at a time)" in out


@pytest.mark.parametrize("engine", ["torch", "events", "onnx", "twin"])
def test_live(files, engine):
    out = call(
        files, "--live", "--frame-time", "0.01", "--limit", "1", "--engine", engine, "--lookahead", "0"
    )
    for text in ("frame 4 of 4", "conv.1", "prediction", "firing rate"):
        assert text in out
    assert out.endswith("\n")
    assert ("waiting for" in out) == (engine != "onnx")  # a step model without look-ahead holds no frames


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_the_live_prediction_is_the_mean_of_the_results_so_far(engine, tmp_path):
    rng, b = np.random.default_rng(0), GraphBuilder(4)
    x = b.add("input", ir.Input((3,), Kind.REAL))
    graph = b.finish(b.add("fc", ir.Linear(rng.normal(size=(5, 3)).astype(np.float32)), x))
    td.export(graph, "onnx-step", tmp_path / "m.onnx", verify=False)
    feed = stream_feed(plan(graph)) if engine == "torch" else onnx_feed(tmp_path / "m.onnx", [])
    frames = rng.normal(size=(4, 1, 3)).astype(np.float32)
    expected = run(graph, frames).numpy()[:, 0]
    for t, frame in enumerate(frames):
        np.testing.assert_allclose(feed(frame).scores, expected[: t + 1].mean(0), atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sweep", "--engine", "twin"],
        ["--plot", "x.png"],
        ["--save-profile", "x"],
        ["--calibration", "x"],
        ["--fit", "--profile", "x"],
        ["--live", "--sweep"],
        ["--engine", "onnx", "--schedule", "burst"],
        ["--fit"],
        ["--lookahead", "4"],
        ["--sweep", "--lookahead", "1"],
        ["--sweep", "--schedule", "burst"],
    ],
)
def test_combinations_without_sense_are_refused(files, arguments):
    call(files, *arguments, fails=UsageError)


def test_fitting_needs_recordings_to_test_on(files):
    message = call(files, "--fit", "--sweep", "--limit", "1", fails=DataError)
    assert "too few recordings" in message
