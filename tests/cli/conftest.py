"""The command line in this process, and files for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Ran, Run

import tcja_deploy as td
from tcja_deploy import cli, zoo
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo.modules import to_module


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `tcja-deploy` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["tcja-deploy", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, its whole pickled module, another layout, recordings as frames."""
    folder = tmp_path_factory.mktemp("cli")
    arch = zoo.events34(channels=(4, 6, 6), T=4, hidden=20)
    net = to_module(arch, zoo.random_state(arch, seed=3))
    torch.save({"net": net.state_dict(), "epoch": 1, "max_test_acc": 0.5}, folder / "net.pth")
    torch.save(net, folder / "whole.pth")
    torch.save({"backbone.weight": torch.zeros(3)}, folder / "other.pth")
    broken = {k: v.clone() for k, v in net.state_dict().items()}
    broken["conv.0.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(broken, folder / "nan.pth")
    graph = td.load(folder / "net.pth")
    frames = synthetic_frames(graph, 6).swapaxes(0, 1)
    np.savez(folder / "data.npz", frames=frames, labels=np.arange(6) % 10)
    (folder / "empty").mkdir()
    (folder / "nothing").touch()
    return folder
