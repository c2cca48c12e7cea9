"""Neurons that stay silent prove nothing: that is told when a network is loaded, exported and verified."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

import tcja_deploy as td
from tcja_deploy.errors import SilenceWarning

T = 4


def network(*thresholds: float) -> nn.Sequential:
    """Dense layers with positive weights; a neuron behind each."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for threshold in thresholds:
        parts += [
            layer.Linear(6, 6, bias=False, step_mode="m"),
            neuron.LIFNode(v_threshold=threshold, step_mode="m"),
        ]
    net = nn.Sequential(*parts).eval()
    for p in net.parameters():
        p.data.abs_()
    return net


def silenced(net: nn.Sequential, index: int) -> nn.Sequential:
    """The same network whose neurons of one layer cannot spike, whatever the input."""
    net[index].weight.data.abs_().neg_()
    return net


def test_networks_that_spike_are_loaded_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SilenceWarning)
        graph = td.load(network(0.3, 0.3), timesteps=T, input_shape=(6,))
    assert "silence" not in graph.source


def test_large_thresholds_are_reached_by_larger_frames() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SilenceWarning)
        td.load(network(900.0, 0.1), timesteps=T, input_shape=(6,))


def test_silent_layers_are_named_when_the_network_is_loaded() -> None:
    with pytest.warns(SilenceWarning, match=r"1 of 3 layers did not spike \(5\)"):
        graph = td.load(silenced(network(0.3, 0.3, 0.3), 4), timesteps=T, input_shape=(6,))
    assert "2 of 3 layers of neurons spiked" in graph.source["proof"]
    with pytest.warns(SilenceWarning, match="no layer of neurons spiked"):
        td.load(silenced(network(0.3, 0.3), 0), timesteps=T, input_shape=(6,))


@pytest.mark.filterwarnings("ignore::tcja_deploy.errors.SilenceWarning")
@pytest.mark.parametrize("target", ["onnx", "nir"])
def test_exports_of_silent_networks_say_so(target: str, tmp_path: Path) -> None:
    graph = td.load(silenced(network(0.3, 0.3), 0), timesteps=T, input_shape=(6,))
    frames = np.ones((T, 2, 6), np.float32)
    report = td.export(graph, target, tmp_path / f"net.{target}", data=[frames])
    assert report.agreement is not None
    assert report.agreement.passed
    assert any("no layer of neurons spiked on made-up frames" in note for note in report.notes)
    assert any("the whole network stays silent on the data" in note for note in report.notes)
    manifest = json.loads((tmp_path / "net.manifest.json").read_text())
    assert manifest["notes"] == list(report.notes)
    assert "silent" in manifest["parity"]["silence"]
    assert "silent" in td.verify(tmp_path / f"net.{target}", graph, [frames]).silence


def test_a_network_that_is_silent_on_these_recordings_alone(tmp_path: Path) -> None:
    graph = td.load(network(0.3, 0.3), timesteps=T, input_shape=(6,))
    td.export(graph, "onnx", tmp_path / "net.onnx")
    silent = td.verify(tmp_path / "net.onnx", graph, [np.zeros((T, 1, 6), np.float32) - 9])
    assert silent.silence.startswith("the whole network stays silent")
    assert td.verify(tmp_path / "net.onnx", graph, [np.ones((T, 1, 6), np.float32)]).silence == ""
