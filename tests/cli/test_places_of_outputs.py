"""Outputs that would meet each other, or what the command reads: refused before anything runs, with --force too."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run
from odd_paths import parameters

from tcja_deploy.cli.apart import INPUTS, OUTPUTS
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.lava.tuning.tune import TuneOptions
from tcja_deploy.runtime.resume import KeptProgress

NEITHER = {
    "arch", "backend", "batch_size", "convention", "device", "engine", "first_layer", "frame_time", "gate", "input_kind",
    "input_shape", "label_order", "license", "limit", "lookahead", "name", "plots", "python", "resize", "reuse", "runner",
    "schedule", "sensor", "settings", "split", "split_by", "target", "targets", "threshold_rule", "weights_key", "counts_as",
    "set", "path", "profiles", "conventions", "bound", "measure",
}  # fmt: skip
"""Parameters of texts and folders that no output can meet."""


def test_every_parameter_that_may_be_a_path_is_known() -> None:
    """A new one has to be said to be an input, an output, or neither."""
    found = {name for _, name in parameters()}
    assert found <= OUTPUTS | INPUTS | NEITHER, found - OUTPUTS - INPUTS - NEITHER


MEETING = [
    ("rates", "net.pth", "--data", "data.npz", "--save", "data.npz"),
    ("rates", "net.pth", "--data", "data.npz", "--save", "sub/../data.npz"),
    ("rates", "net.pth", "--data", "data.npz", "--save", "link.npz"),
    ("rates", "net.pth", "--data", "data.npz", "--save", "x.json", "-o", "x.json"),
    ("rates", "net.pth", "--data", "data.npz", "--neurobench", "x.json", "-o", "./x.json"),
    ("energy", "net.pth", "--activity", "counts.html", "-o", "counts.html"),
    ("compare", "net.html", "net.pth", "--data", "data.npz", "-o", "net.html"),
    ("benchmark", "net.html", "--data", "data.npz", "-o", "net.html"),
    ("stream", "net.pth", "--data", "data.npz", "--fit", "--save-profile", "data.npz"),
    (
        "stream",
        "net.pth",
        "--data",
        "data.npz",
        "--sweep",
        "--fit",
        "--save-profile",
        "x.png",
        "--plot",
        "x.png",
    ),
    ("lava", "tune", "net.pth", "--data", "data.npz", "-o", "net.pth"),
    ("export", "net.onnx", "-t", "onnx", "-o", "net.onnx"),
]


@pytest.mark.parametrize("command", MEETING, ids=" ".join)
def test_outputs_have_places_of_their_own(command: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("net.pth", "net.html", "net.onnx", "data.npz", "counts.html"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link.npz").symlink_to("data.npz")
    ran = run(*command, "--force")
    assert (ran.code, ran.out) == (2, "")
    assert "name the same file" in ran.err or "would replace what" in ran.err
    for name in ("net.pth", "net.html", "net.onnx", "data.npz", "counts.html"):
        assert (tmp_path / name).read_text() == name


def test_names_of_work_in_progress_are_refused(run: Run, files: Path) -> None:
    ran = run("export", files / "net.pth", "-t", "onnx", "--no-verify", "-o", ".tcja-deploy.mine.onnx")
    assert ran.code == 8
    assert "work in progress" in ran.err


@pytest.mark.parametrize("seed", [-1, 1 << 63, 10**30])
def test_seeds_that_torch_does_not_take(seed: int) -> None:
    with pytest.raises(UsageError, match="63 bits"):
        TuneOptions(seed=seed)


def test_a_cache_folder_that_cannot_be_keeps_nothing(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "a" * 5000)
    assert KeptProgress(("rates",), resume=True).names() == []
    assert run("rates", files / "net.pth", "--data", files / "data.npz").code == 0
