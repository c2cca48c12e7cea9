"""`verify` reads the model again as the manifest says: if its files are the same, and code only if the user let it run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_line import Run

MODELS = """
from spikingjelly.activation_based import layer, neuron
from torch import nn

def build(channels: int = 3):
    open("ran", "a").write("x")
    return nn.Sequential(
        layer.Conv2d(2, channels, 3, step_mode="m"), neuron.LIFNode(v_threshold=0.2, step_mode="m"),
        layer.Flatten(step_mode="m"), layer.Linear(channels * 36, 5, step_mode="m"),
    )
"""


@pytest.fixture
def project(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with code, weights and an export of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "models.py").write_text(MODELS)
    torch.manual_seed(0)
    state = {
        "0.weight": torch.rand(4, 2, 3, 3), "0.bias": torch.rand(4),
        "3.weight": torch.rand(5, 144), "3.bias": torch.rand(5),
    }  # fmt: skip
    torch.save(state, tmp_path / "best weights.pth")
    exported = run(
        "export", "src/models.py:build", "--weights", "best weights.pth", "--set", "channels=4", "-T", 3,
        "--input-shape", "2,8,8", "-t", "onnx", "-o", "out.onnx",
    )  # fmt: skip
    assert exported.code == 0, exported.err
    return tmp_path


def test_nothing_has_to_be_said_again(project: Path, run: Run) -> None:
    verified = run("verify", "out.onnx")
    assert verified.code == 0, verified.err
    assert "agrees" in verified.out


def test_step_models_and_nir_files_too(project: Path, run: Run) -> None:
    from_file = run(
        "export", "src/models.py:build", "-T", 3, "--input-shape", "2,8,8", "-t", "onnx-step", "-o", "s"
    )
    assert from_file.code == 0, from_file.err
    (artifact,) = project.glob("s*.onnx")
    assert run("verify", artifact).code == 0


def test_each_of_two_artifacts_in_a_folder_has_its_own_manifest(project: Path, run: Run) -> None:
    """The names that are used if none is given, of which one begins like the other."""
    for target in ("onnx", "onnx-step"):
        made = run("export", "src/models.py:build", "-T", 3, "--input-shape", "2,8,8", "-t", target)
        assert made.code == 0, made.err
    for artifact in ("models.onnx", "models.step.onnx"):
        verified = run("verify", project / artifact)
        assert verified.code == 0, verified.err
        assert "agrees" in verified.out


def test_the_manifest_of_something_else(project: Path, run: Run) -> None:
    shutil.copy(project / "out.onnx", project / "s.onnx")
    step = run(
        "export", "src/models.py:build", "-T", 3, "--input-shape", "2,8,8", "-t", "onnx-step", "-o", "t"
    )
    assert step.code == 0, step.err
    shutil.copy(project / "t.manifest.json", project / "s.manifest.json")
    verified = run("verify", "s.onnx")
    assert verified.code == 2
    assert "that of an export to onnx-step, not to onnx" in verified.err
    assert "pass --model" in verified.err
    again = run(
        "verify", "s.onnx", "--model", "src/models.py:build", "--weights", "best weights.pth", "--set", "channels=4",
        "--timesteps", 3, "--input-shape", "2,8,8",
    )  # fmt: skip
    assert again.code == 0, again.err


def test_files_that_changed_are_named(project: Path, run: Run) -> None:
    weights = torch.load(project / "best weights.pth")
    torch.save({**weights, "3.bias": torch.zeros(5)}, project / "best weights.pth")
    verified = run("verify", "out.onnx")
    assert verified.code == 2
    assert "best weights.pth has changed since" in verified.err
    assert "--model src/models.py:build" in verified.err
    (project / "best weights.pth").unlink()
    assert "its files are not there" in run("verify", "out.onnx").err


def test_the_words_of_the_message_work(project: Path, run: Run) -> None:
    (project / "moved").mkdir()
    shutil.move(project / "best weights.pth", project / "moved" / "w.pth")
    assert "its files are not there" in run("verify", "out.onnx").err
    again = run(
        "verify", "out.onnx", "--model", "src/models.py:build", "--weights", "moved/w.pth", "--set", "channels=4",
        "--timesteps", 3, "--input-shape", "2,8,8",
    )  # fmt: skip
    assert again.code == 0, again.err


def test_a_project_that_moved_as_a_whole(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    verified = run("verify", "../out.onnx")
    assert verified.code == 0, verified.err


def test_code_of_a_manifest_does_not_run_unasked(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files somebody else sent: equal content alone is not consent."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "another user"))
    (project / "ran").unlink()
    verified = run("verify", "out.onnx")
    assert verified.code == 2
    assert "code that you have not allowed to run here" in verified.err
    assert not (project / "ran").exists()


def test_a_manifest_cannot_talk_code_into_running(project: Path, run: Run) -> None:
    """Facts of the manifest that would make code look like a file of weights change nothing."""
    from tcja_deploy.exporters.manifest import sealed
    from tcja_deploy.files import sha256

    evil = project / "evil.py"
    evil.write_text(MODELS)
    manifest = json.loads((project / "out.manifest.json").read_text())
    source = manifest["model"]["source"]
    source.pop("code_sha256")
    source |= {
        "loaded_with": "evil.py:build --timesteps 3",
        "loaded_sha256": sha256(evil),
        "file_sha256": sha256(evil),
    }
    body = {
        k: v
        for k, v in manifest.items()
        if k not in ("format", "format_version", "target", "manifest_sha256")
    }
    (project / "out.manifest.json").write_text(sealed("onnx", body))
    (project / "ran").unlink()
    assert "code that you have not allowed to run here" in run("verify", "out.onnx").err
    assert not (project / "ran").exists()


def test_models_that_are_files(project: Path, run: Run) -> None:
    """A .tcja file is found by its own content, whatever it was made from."""
    import tcja_deploy as td
    from tcja_deploy.ir_file import save_graph

    graph = td.load("src/models.py:build", timesteps=3, input_shape=(2, 8, 8))
    save_graph(graph, project / "net.tcja")
    assert run("export", "net.tcja", "-t", "onnx", "-o", "file.onnx").code == 0
    assert run("verify", "file.onnx").code == 0
