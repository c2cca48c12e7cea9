"""The command line tells of neurons that stay silent: when it reads a model, exports it and verifies the export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Run
from spikingjelly.activation_based import layer, neuron
from torch import nn

import tcja_deploy as td
from tcja_deploy.ir_file import save_graph


@pytest.mark.filterwarnings("ignore::tcja_deploy.errors.SilenceWarning")
def test_silent_layers_are_told(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 3, 3, step_mode="m"), neuron.LIFNode(v_threshold=0.3, step_mode="m"),
        layer.Conv2d(3, 3, 3, bias=False, step_mode="m"), neuron.LIFNode(step_mode="m"),
    ).eval()  # fmt: skip
    net[0].weight.data.abs_()
    net[2].weight.data.abs_().neg_()
    model, artifact = tmp_path / "net.tcja", tmp_path / "net.onnx"
    save_graph(td.load(net, timesteps=4, input_shape=(2, 8, 8)), model)
    exported = run("export", model, "-t", "onnx", "-o", artifact)
    assert exported.code == 0, exported.err
    assert "1 of 2 layers did not spike (3)" in exported.err
    assert "1 of 2 layers of neurons stay silent on the data (3)" in exported.out
    verified = run("verify", artifact, "-m", model)
    assert verified.code == 0, verified.err
    assert "1 of 2 layers of neurons stay silent on the data (3)" in verified.err


def test_a_network_without_neurons_is_no_spiking_one(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)).eval()
    model, frames = tmp_path / "ann.tcja", tmp_path / "frames.npz"
    save_graph(td.load(net, timesteps=2, input_shape=(2, 8, 8)), model)
    np.savez(frames, frames=np.ones((2, 2, 2, 8, 8), np.float32))
    ran = run("energy", model, "--data", frames, "--json")
    assert ran.code == 0, ran.err
    assert "no neurons that spike" in ran.err
    assert json.loads(ran.out)["verdicts"] == []
