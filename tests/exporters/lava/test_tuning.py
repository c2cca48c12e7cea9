"""The fine-tune: its rounding is the exporter's, it learns, and what it writes has the layout of what it read."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn
from typer.testing import CliRunner

from tcja_deploy import data, load
from tcja_deploy.cli import app
from tcja_deploy.errors import DataError, ExportError, UsageError
from tcja_deploy.events import open_data
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.exporters.lava.tuning.rounded import RoundedNetwork
from tcja_deploy.exporters.lava.tuning.tune import TuneOptions, tune
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.library.tuning import tune as tune_model
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.sequence import run

RUNNER = CliRunner()
DIGITS, EVENTS = data.path("digits_checkpoint_max.pth"), data.path("digits_test_events.npz")

CODE = """
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn
from torch.nn.utils import parametrizations

def lif(v_threshold=0.1):
    return neuron.LIFNode(tau=2.0, v_threshold=v_threshold, surrogate_function=surrogate.ATan(), step_mode="m")

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = layer.Conv2d(8, 8, 3, padding=1, step_mode="m")
        self.norm = layer.BatchNorm2d(8, step_mode="m")

    def forward(self, x):
        return x + self.norm(self.first(x))

def build(weight_norm=False):
    head = nn.Linear(8 * 5 * 5, 10, bias=False)
    return nn.Sequential(
        layer.AvgPool2d(6, step_mode="m"),
        layer.Conv2d(2, 8, 3, padding=1, bias=False, step_mode="m"), layer.BatchNorm2d(8, step_mode="m"), lif(),
        Residual(), lif(), nn.Flatten(2),
        layer.SeqToANNContainer(parametrizations.weight_norm(head) if weight_norm else head), lif(0.02),
    )
"""


@pytest.fixture(scope="module")
def digits() -> tuple[Graph, list[tuple[np.ndarray, np.ndarray | None]]]:
    graph = load(DIGITS)
    recordings = open_data(EVENTS, timesteps=graph.T, sensor=(34, 34), channels=2, limit=20)
    return graph, list(recordings.batches(10))


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "tuned_models.py").write_text(CODE)
    return f"{tmp_path / 'tuned_models.py'}:build"


def made_up(samples: int = 12) -> np.ndarray:
    return np.random.default_rng(0).poisson(2.0, (3, samples, 2, 30, 30)).astype(np.float32)


def small(code: str) -> Graph:
    return load(code, timesteps=3, input_shape=(2, 30, 30))


def test_without_steps_it_computes_what_the_float_network_computes(code: str) -> None:
    graph = small(code)
    frames = torch.from_numpy(made_up())
    assert torch.equal(RoundedNetwork(graph, 6)(frames, {}).detach(), run(fold_batch_norm(graph), frames))


def test_the_rounded_weights_are_those_of_the_integer_network(digits: tuple[Graph, list]) -> None:  # type: ignore[type-arg]
    graph, batches = digits
    found = quantise(graph, [x for x, _ in batches], LavaOptions(weight_bits=5, wide_input=False))
    folded, compared = fold_batch_norm(graph), 0
    for node, name in found.floats.synapses.items():
        (layer,) = (s for s in found.network.stages if s.name == name)
        assert isinstance(layer, LayerStage)
        weight = np.asarray(folded[node].op.weight, np.float64)
        assert np.array_equal(np.floor(weight / found.steps[node] + 0.5), layer.weight.reshape(weight.shape))
        assert np.abs(layer.weight).max() <= 15
        compared += 1
    assert compared == 5


def test_it_comes_nearer_to_the_float_network_and_leaves_zeros(code: str) -> None:
    graph = small(code)
    weight = graph["1"].op.weight.copy()
    weight[:, 0] = 0
    graph = graph.with_weights({"1": weight})
    options = TuneOptions(epochs=6, lr=0.02, batch=4)
    found = tune(graph, [(made_up(), None)], options=options, export=LavaOptions(weight_bits=3))
    assert found.losses[-1] < 0.8 * found.losses[0]
    assert not found.graph["1"].op.weight[:, 0].any()
    assert found.graph["1"].op.weight[:, 1].any()
    again = tune(graph, [(made_up(), None)], options=options, export=LavaOptions(weight_bits=3))
    for node in found.graph:
        if isinstance(node.op, ir.Conv2d | ir.Linear):
            assert np.array_equal(node.op.weight, again.graph[node.name].op.weight)
            assert not np.array_equal(node.op.weight, graph[node.name].op.weight)


def test_the_command_writes_a_checkpoint_of_the_same_layout(tmp_path: Path) -> None:
    new = tmp_path / "new.pth"
    arguments = ["lava", "tune", str(DIGITS), "--data", str(EVENTS), "--limit", "10", "--epochs", "1"]
    arguments += ["--weight-bits", "4", "--output", str(new)]
    result = RUNNER.invoke(app, [*arguments, "--json"], catch_exceptions=False)
    steps = json.loads(result.stdout)["steps"]
    assert {name: found["samples"] for name, found in steps.items()} == {
        "rounded": 10, "biases corrected": 10, "tuned": 10,
    }  # fmt: skip
    before, after = (torch.load(path, weights_only=True)["net"] for path in (DIGITS, new))
    assert list(before) == list(after)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if key.endswith("0.weight")}
    assert load(new).T == load(DIGITS).T
    with pytest.raises(ExportError, match="something at this path"):
        RUNNER.invoke(app, arguments, catch_exceptions=False)


def test_the_command_takes_the_options_of_the_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taken: list[LavaOptions] = []

    def stop(*_: object, export: LavaOptions, **__: object) -> None:
        taken.append(export)
        raise DataError("enough")

    monkeypatch.setattr("tcja_deploy.library.tuning.tune_opened", stop)
    given = {
        "gate_bits": "5", "weight_bits": "6", "threshold_rule": "ties", "margin": "1.5", "percentile": "99.5",
    }  # fmt: skip
    words = [word for name, value in given.items() for word in ("--" + name.replace("_", "-"), value)]
    command = [
        "lava",
        "tune",
        str(DIGITS),
        "--data",
        str(EVENTS),
        "--limit",
        "2",
        "-o",
        str(tmp_path / "n.pth"),
    ]
    with pytest.raises(DataError, match="enough"):
        RUNNER.invoke(app, [*command, *words, "--per-channel", "--compensate"], catch_exceptions=False)
    wanted = LavaOptions(
        gate_bits=5,
        weight_bits=6,
        threshold_rule="ties",
        per_channel=True,
        margin=1.5,
        percentile=99.5,
        compensate=True,
    )
    assert taken == [wanted]


def test_code_with_its_weights_and_a_graph_file_are_written_again(tmp_path: Path, code: str) -> None:
    frames, options = made_up(4), TuneOptions(epochs=1, batch=4)
    loading = {"timesteps": 3, "input_shape": (2, 30, 30)}
    tuned = tune_model(code, frames, tmp_path / "state.pth", options=options, loading=loading)
    again = load(code, weights=tmp_path / "state.pth", **loading)
    assert np.array_equal(again["4.first"].op.weight, tuned.graph["4.first"].op.weight)
    written = tune_model(tuned.graph, frames, tmp_path / "graph.tcja", options=options)
    assert load(tmp_path / "graph.tcja").hash == written.graph.hash


def test_weights_that_the_source_does_not_hold_have_no_place(tmp_path: Path, code: str) -> None:
    loading = {"timesteps": 3, "input_shape": (2, 30, 30), "settings": {"weight_norm": True}}
    with pytest.raises(ExportError, match="not stored as the network computes"):
        tune_model(
            code, made_up(4), tmp_path / "state.pth", loading=loading,
            options=TuneOptions(epochs=2), export=LavaOptions(weight_bits=4),
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pth"] == []
    del loading["settings"]  # without the parametrisation, as the hint says
    tune_model(code, made_up(4), tmp_path / "state.pth", loading=loading, options=TuneOptions(epochs=1))


def test_a_pickled_module_is_not_written_and_the_hint_works(tmp_path: Path, code: str) -> None:
    frames, options = made_up(4), TuneOptions(epochs=1)
    torch.save(
        nn.Sequential(
            layer.AvgPool2d(6, step_mode="m"), nn.Flatten(2), nn.Linear(50, 10), neuron.IFNode(step_mode="m")
        ),
        tmp_path / "whole.pth",
    )
    loading = {"timesteps": 3, "input_shape": (2, 30, 30)}
    with pytest.raises(UsageError, match="pickled module cannot be rewritten") as refused:
        tune_model(
            tmp_path / "whole.pth", frames, tmp_path / "new.pth", options=options,
            loading={**loading, "trust_pickle": True},
        )  # fmt: skip
    assert "models.py:NAME --weights FILE" in str(refused.value.hint)
    network = runpy.run_path(code.rpartition(":")[0])["build"]()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    given = {**loading, "weights": tmp_path / "weights.pth"}
    tune_model(code, frames, tmp_path / "new.pth", options=options, loading=given)


def test_nothing_to_learn_from(code: str) -> None:
    with pytest.raises(DataError, match="no recordings"):
        tune(small(code), [])
    with pytest.raises(UsageError, match="epochs"):
        TuneOptions(epochs=0)
