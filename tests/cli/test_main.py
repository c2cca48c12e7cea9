"""The command line from the outside: exit codes, messages, JSON, files, and what ``--help`` imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import tcja_deploy as td
from tcja_deploy import cli, errors, zoo
from tcja_deploy.ir import dump
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo.modules import to_module

COMMANDS = ["export", "inspect", "verify", "rates", "energy", "stream", "demo"]
GROUPS = [["profiles", "list"], ["profiles", "show"], ["lava", "setup"], ["lava", "doctor"]]


class Ran(NamedTuple):
    """How a run of the command line ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs ``tcja-deploy`` in this process, in a folder of its own."""
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
    return folder


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
    classes = [getattr(errors, name) for name in errors.__all__ if name != "DeployError"]
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
    assert "behind an earlier mismatch" in ran.out
    assert "differs from the reference beyond the bound" in ran.err
    ran = run("verify", "net.onnx", "--model", files / "net.pth", "--json")
    assert ran.code == 9
    layers = {layer["name"]: layer for layer in json.loads(ran.out)["layers"]}
    assert layers["conv.1"]["mismatches"] == 0
    first = layers["conv.4"]["first_mismatch"]
    assert set(first) == {"sample", "t", "index", "expected", "distance"}
    assert len(first["index"]) == 3


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


# -- errors -------------------------------------------------------------------------------------------------------------------
MISTAKES: dict[str, tuple[int, list[str], str]] = {
    "no target": (2, ["export", "{files}/net.pth"], "--target"),
    "unknown target": (2, ["export", "{files}/net.pth", "-t", "tflite"], "choose one of onnx"),
    "option of another target": (2, ["export", "{files}/net.pth", "-t", "nir", "--opset", "17"], "it belongs to onnx"),
    "unknown option": (2, ["export", "{files}/net.pth", "-t", "onnx", "--nonsense"], "--nonsense"),
    "unknown command": (2, ["exprot"], "exprot"),
    "no number": (2, ["export", "{files}/net.pth", "-t", "onnx", "-T", "four"], "--timesteps"),
    "batch size": (2, ["export", "{files}/net.pth", "-t", "onnx", "--batch-size", "0"], "--batch-size"),
    "opset": (2, ["export", "{files}/net.pth", "-t", "onnx", "--opset", "5"], "13 to 23"),
    "timesteps": (2, ["export", "{files}/net.pth", "-t", "onnx", "-T", "5"], "contradicts the CLA weights"),
    "input shape": (2, ["inspect", "{files}/net.pth", "--input-shape", "2x34x34"], "2,128,128"),
    "architecture": (2, ["inspect", "{files}/net.pth", "--arch", "resnet50"], "choose one of"),
    "split": (2, ["export", "{files}/net.pth", "-t", "onnx", "--data", "{files}", "--split-by", "x"], "number or time"),
    "limit of nothing": (2, ["export", "{files}/net.pth", "-t", "onnx", "--limit", "3"], "pass --data"),
    "split of nothing": (2, ["export", "{files}/net.pth", "-t", "onnx", "--split-by", "time"], "pass --data"),
    "bound": (2, ["verify", "net.onnx", "-m", "{files}/net.pth", "--bound", "-1"], "--bound"),
    "how to read no model": (2, ["verify", "net.onnx", "-T", "4"], "pass --model"),
    "verify without model": (2, ["verify", "net.onnx"], "--model"),
    "no model file": (3, ["inspect", "nothing.pth"], "no such file"),
    "folder as model": (3, ["inspect", "{files}"], "this is a folder"),
    "recording as model": (3, ["inspect", "{files}/data.npz"], "data.npz"),
    "pickled module": (3, ["inspect", "{files}/whole.pth"], "--trust-pickle"),
    "model as artifact": (3, ["verify", "{files}/net.pth", "-m", "{files}/net.pth"], "net.pth"),
    "no artifact": (3, ["verify", "nothing.onnx", "-m", "{files}/net.pth"], "nothing.onnx"),
    "no data": (4, ["export", "{files}/net.pth", "-t", "onnx", "--data", "nowhere"], "nowhere"),
    "empty data": (4, ["export", "{files}/net.pth", "-t", "onnx", "--data", "{files}/empty"], "empty"),
    "other layout": (5, ["inspect", "{files}/other.pth"], "backbone.weight"),
    "other frame size": (5, ["inspect", "{files}/net.pth", "--input-shape", "2,64,64"], "fc.2.0.weight: has shape"),
    "nan": (6, ["inspect", "{files}/nan.pth"], "not finite"),
    "gate in NIR": (7, ["export", "{files}/net.pth", "-t", "nir", "--gate", "refuse"], "conv.5"),
    "missing folder": (8, ["export", "{files}/net.pth", "-t", "onnx", "-o", "no/folder/m.onnx"], "does not exist"),
    "profile": (10, ["profiles", "show", "no-such-chip"], "no-such-chip"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, files: Path, run: Run, tmp_path: Path) -> None:
    code, arguments, part = MISTAKES[name]
    if "net.onnx" in arguments:
        run("export", files / "net.pth", "-t", "onnx", "--no-verify")
    before = sorted(tmp_path.iterdir())
    ran = run(*(a.format(files=files) for a in arguments))
    assert ran.code == code, ran.err
    assert part in " ".join(ran.err.replace("│", " ").split())
    assert "Traceback" not in ran.err + ran.out
    assert sorted(tmp_path.iterdir()) == before


def test_toolchain_error(files: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> Any:
        raise errors.ToolchainError("no Python 3.10 here", hint="install one")

    monkeypatch.setattr("tcja_deploy.cli.options.load_model", missing)
    monkeypatch.setattr("tcja_deploy.cli.inspect.load_model", missing)
    ran = run("inspect", files / "net.pth")
    assert ran == Ran(11, "", "error: no Python 3.10 here\n  -> install one\n")


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr("tcja_deploy.cli.inspect.load_model", fail)


def test_defects_are_called_so(files: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError("oops"))
    ran = run("inspect", files / "net.pth")
    assert ran.code == 70
    assert "internal error: ZeroDivisionError: oops" in ran.err
    assert "--debug" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("oops"), errors.TraceError("reason", where="here", hint="do this")]
)
def test_debug_shows_the_traceback(
    error: Exception, files: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, error)
    ran = run("--debug", "inspect", files / "net.pth")
    assert ran.code == getattr(error, "exit_code", 70)
    assert "Traceback (most recent call last)" in ran.err
    assert "in fail" in ran.err


def test_an_interrupt_is_told(files: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert run("inspect", files / "net.pth") == Ran(130, "", "interrupted\n")


def test_warnings_of_other_packages_are_not_shown(
    files: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*args: Any, **kwargs: Any) -> Any:
        warnings.warn("this function is deprecated", FutureWarning, stacklevel=1)
        raise errors.TraceError("reason")

    monkeypatch.setattr("tcja_deploy.cli.inspect.load_model", warn)
    assert run("inspect", files / "net.pth").err == "error: reason\n"
    with pytest.warns(FutureWarning):
        run("--debug", "inspect", files / "net.pth")


def test_nothing_but_messages_on_standard_error(files: Path, run: Run) -> None:
    ran = run("export", files / "net.pth", "-t", "onnx", "--data", files / "data.npz")
    assert (ran.code, ran.err) == (0, "")


def test_demo_into_a_file(files: Path, run: Run) -> None:
    ran = run("demo", "-o", files / "net.pth")
    assert ran.code == 8
    assert "no folder" in ran.err


def test_closed_pipe(files: Path) -> None:
    # As in: tcja-deploy inspect net.pth --text | head -1
    command = f"{sys.executable} -m tcja_deploy inspect {files / 'net.pth'} --text | head -1; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert ran.stdout.startswith("graph T=4")
    assert "Traceback" not in ran.stderr
    assert "Error" not in ran.stderr


def test_interrupt_leaves_nothing(files: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.npz"
    frames = np.load(files / "data.npz")["frames"]
    np.savez(many, frames=np.concatenate([frames] * 400), labels=np.zeros(2400, np.int64))
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable, "-m", "tcja_deploy", "export", str(files / "net.pth"), "-t", "onnx",
        "-o", str(out / "m.onnx"), "--data", str(many), "--batch-size", "1",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + 60
        while not any(out.glob(".*/*/m.onnx")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert any(out.iterdir()), "the export did not start to write"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not list(out.iterdir())
