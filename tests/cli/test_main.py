"""The command line from the outside: exit codes, messages, JSON, files, and what `--help` imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import Ran, Run
from onnx import numpy_helper

import tcja_deploy as td
from tcja_deploy import errors
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.ir import dump
from tcja_deploy.reading.limits import Limits, current_limits

COMMANDS = ["export", "inspect", "verify", "rates", "energy", "stream", "demo"]
GROUPS = [["profiles", "list"], ["profiles", "show"], ["lava", "setup"], ["lava", "doctor"]]


# -- help --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [[], *([c] for c in COMMANDS), *GROUPS])
def test_help(arguments: list[str], run: Run) -> None:
    for flag in ("--help", "-h"):
        ran = run(*arguments, flag)
        assert ran.code == 0
        assert "Usage: " in ran.out
        assert not ran.err


def test_help_lists_every_exit_code(run: Run) -> None:
    text = " ".join(run("--help").out.split())
    classes = [
        getattr(errors, name) for name in errors.__all__ if name not in ("DeployError", "SilenceWarning")
    ]
    codes = sorted({0, 70, 130, *(c.exit_code for c in classes)})
    assert len({c.exit_code for c in classes}) == len(classes)
    for code in codes:
        assert f" {code} " in text


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["export", "--help"], ["export"], ["nonsense"]]
)
def test_help_and_mistakes_import_nothing_heavy(arguments: list[str]) -> None:
    heavy = (
        "torch",
        "numpy",
        "onnx",
        "onnxruntime",
        "h5py",
        "pandas",
        "matplotlib",
        "spikingjelly",
        "safetensors",
    )
    code = (
        "import sys; from tcja_deploy.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', sorted(set(sys.modules) & set({heavy!r})))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.splitlines()[-1] == "HEAVY []"


def test_version(run: Run) -> None:
    assert run("--version") == Ran(0, f"tcja-deploy {td.__version__}\n", "")


def test_module_and_console_script() -> None:
    script = Path(sys.executable).parent / "tcja-deploy"
    for command in ([sys.executable, "-m", "tcja_deploy"], [str(script)]):
        ran = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout == f"tcja-deploy {td.__version__}\n"


# -- export and verify ----------------------------------------------------------------------------------------------------
def test_export_and_verify(files: Path, run: Run, tmp_path: Path) -> None:
    ran = run("export", files / "net.pth", "--target", "onnx")
    assert ran.code == 0, ran.err
    assert {f.name for f in tmp_path.iterdir()} == {"net.onnx", "net.manifest.json", "net.golden.npz"}
    assert "onnxruntime agrees: 4 of 4 predictions equal" in ran.out
    assert "wrote net.onnx" in ran.out
    assert "conv.1" in ran.out
    ran = run("verify", "net.onnx", "--model", files / "net.pth")
    assert ran.code == 0
    assert "onnxruntime agrees" in ran.out
    assert run("verify", "net.onnx", "-m", files / "net.pth", "--data", files / "data.npz").code == 0


def test_export_as_json(files: Path, run: Run, tmp_path: Path) -> None:
    ran = run(
        "export",
        files / "net.pth",
        "-t",
        "onnx",
        "-o",
        "m.onnx",
        "--data",
        files / "data.npz",
        "--limit",
        3,
        "--json",
    )
    found = json.loads(ran.out)
    assert found["target"] == "onnx"
    assert found["path"] == "m.onnx"
    assert all(Path(f).is_file() for f in found["files"])
    assert found["parity"]["samples"] == 3
    assert found["parity"] == json.loads((tmp_path / "m.manifest.json").read_text())["parity"]
    ran = run("verify", "m.onnx", "--model", files / "net.pth", "--json")
    assert json.loads(ran.out)["passed"] is True


def test_export_without_verification(files: Path, run: Run, tmp_path: Path) -> None:
    assert run("export", files / "net.pth", "-t", "onnx", "--no-verify", "--json").code == 0
    assert json.loads((tmp_path / "net.manifest.json").read_text())["parity"] is None


def test_options_reach_the_exporter(files: Path, run: Run, tmp_path: Path) -> None:
    options = ("--opset", 13, "--batch-first", "--external-data", "--no-verify")
    assert run("export", files / "net.pth", "-t", "onnx", *options).code == 0
    manifest = json.loads((tmp_path / "net.manifest.json").read_text())
    assert manifest["onnx"] == {"opset": 13, "layout": "N,T", "external_data": True}
    assert (tmp_path / "net.onnx.data").is_file()


def test_pickled_module_with_consent(files: Path, run: Run) -> None:
    arguments = ("export", files / "whole.pth", "-t", "onnx", "--no-verify", "--input-shape", "2,34,34")
    assert run(*arguments).code == 3
    assert run(*arguments, "--trust-pickle").code == 0


def test_force(files: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("mine")
    ran = run("export", files / "net.pth", "-t", "onnx", "--no-verify")
    assert ran.code == 8
    assert "--force" in ran.err
    assert (tmp_path / "net.onnx").read_text() == "mine"
    assert run("export", files / "net.pth", "-t", "onnx", "--no-verify", "--force").code == 0
    onnx.checker.check_model(str(tmp_path / "net.onnx"))


def test_tampered_model(files: Path, run: Run, tmp_path: Path) -> None:
    assert run("export", files / "net.pth", "-t", "onnx", "--no-verify").code == 0
    model = onnx.load("net.onnx")
    bias = next(i for i in model.graph.initializer if i.name == "conv.3.0.bias")
    changed = numpy_helper.to_array(bias) + np.float32(0.3)
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
    onnx.save(model, "net.onnx")
    ran = run("verify", "net.onnx", "--model", files / "net.pth")
    assert ran.code == 9
    assert "onnxruntime DISAGREES" in ran.out
    assert "conv.4: first in sample 0, t = " in ran.out
    assert "from the threshold" in ran.out
    assert "conv.8: first in sample" in ran.out
    assert "after an earlier mismatch" in ran.out
    assert "differs from the reference beyond the bound" in ran.err
    ran = run("verify", "net.onnx", "--model", files / "net.pth", "--json")
    assert ran.code == 9
    layers = {layer["name"]: layer for layer in json.loads(ran.out)["layers"]}
    assert layers["conv.1"]["mismatches"] == 0
    first = layers["conv.4"]["first_mismatch"]
    assert set(first) == {"sample", "t", "index", "expected", "distance"}
    assert len(first["index"]) == 3


@pytest.mark.parametrize("target", ["onnx", "onnx-step", "nir"])
def test_output_into_a_folder(target: str, files: Path, run: Run, tmp_path: Path) -> None:
    if target == "nir":  # the package; a folder of tests has this name, too
        pytest.importorskip("nir.ir", reason="the package nir is not installed")
    (tmp_path / "out").mkdir()
    for folder in ("out", "."):
        how = ["--gate", "mean", "--data", files / "data.npz"] if target == "nir" else []
        assert run("export", files / "net.pth", "-t", target, "--no-verify", "-o", folder, *how).code == 0
    for folder in (tmp_path, tmp_path / "out"):
        assert (folder / f"net{TARGETS[target].suffix}").is_file()


def test_odd_names_of_outputs(files: Path, run: Run, tmp_path: Path) -> None:
    """One that is too long cannot be written; one of two lines is printed in one."""
    ran = run("export", files / "net.pth", "-t", "onnx", "--no-verify", "-o", "n" * 300)
    assert (ran.code, "cannot be accessed" in ran.err) == (8, True), ran.err
    ran = run("export", files / "net.pth", "-t", "onnx", "--no-verify", "-o", "a\nb.onnx")
    assert ran.code == 0, ran.err
    assert "wrote a\\nb.onnx (" in ran.out
    assert (tmp_path / "a\nb.onnx").is_file()


def test_names_are_printed_as_they_are(files: Path, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run [bold]:smile: 1"
    folder.mkdir()
    model = folder / "net[b].pth"
    model.write_bytes((files / "net.pth").read_bytes())
    title = f"{model}: T = 4"
    assert "".join(title.split()) in "".join(run("inspect", model).out.split())  # long titles are folded
    ran = run("export", model, "-t", "onnx", "-o", folder / "a[red].onnx", "--data", files / "data.npz")
    assert f"wrote {folder / 'a[red].onnx'} " in ran.out
    assert "onnxruntime agrees: 6 of 6" in ran.out
    assert "[/]" not in ran.out


# -- inspect ------------------------------------------------------------------------------------------------------------------
def test_inspect(files: Path, run: Run) -> None:
    graph = td.load(files / "net.pth")
    ran = run("inspect", files / "net.pth")
    assert ran.code == 0
    for node in graph:
        assert f" {node.name} " in f" {ran.out} " or node.name in ran.out
    assert graph.hash in ran.out
    assert f"{graph.parameters:,}" in ran.out
    assert "assumptions: LIF: tau = 2" in ran.out
    assert run("inspect", files / "net.pth", "--text").out == dump(graph)
    found = json.loads(run("inspect", files / "net.pth", "--json").out)
    assert (found["T"], found["sha256"], found["input_shape"]) == (4, graph.hash, [2, 34, 34])
    assert [n["name"] for n in found["nodes"]] == [n.name for n in graph]
    assert sum(n["parameters"] for n in found["nodes"]) == found["parameters"] == graph.parameters


def test_limits_hold_for_one_command(run: Run) -> None:
    assert run("--limits", "1MB,5s", "profiles", "list").code == 0
    assert current_limits() == Limits()
