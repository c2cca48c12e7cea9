"""What goes wrong on the command line: exit codes, messages, nothing left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Ran, Run

from tcja_deploy import errors

MISTAKES: dict[str, tuple[int, list[str], str]] = {
    "no target": (2, ["export", "{files}/net.pth"], "--target"),
    "unknown target": (2, ["export", "{files}/net.pth", "-t", "tflite"], "choose one of onnx"),
    "option of another target": (2, ["export", "{files}/net.pth", "-t", "nir", "--opset", "17"], "it applies to onnx"),
    "unknown option": (2, ["export", "{files}/net.pth", "-t", "onnx", "--nonsense"], "--nonsense"),
    "unknown command": (2, ["exprot"], "exprot"),
    "no number": (2, ["export", "{files}/net.pth", "-t", "onnx", "-T", "four"], "--timesteps"),
    "batch size": (2, ["export", "{files}/net.pth", "-t", "onnx", "--batch-size", "0"], "--batch-size"),
    "opset": (2, ["export", "{files}/net.pth", "-t", "onnx", "--opset", "5"], "13 to 23"),
    "timesteps": (2, ["export", "{files}/net.pth", "-t", "onnx", "-T", "5"], "contradicts the CLA weights"),
    "input shape": (2, ["inspect", "{files}/net.pth", "--input-shape", "2x34x34"], "2,128,128"),
    "two formats": (2, ["inspect", "{files}/net.pth", "--text", "--json"], "mutually exclusive"),
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
    "empty file as artifact": (3, ["verify", "{files}/nothing", "-m", "{files}/net.pth"], "not an artifact"),
    "no artifact": (3, ["verify", "nothing.onnx", "-m", "{files}/net.pth"], "nothing.onnx"),
    "no counts": (3, ["energy", "{files}/net.pth", "--activity", "no.npz"], "there is no such file"),
    "recordings as counts": (3, ["energy", "{files}/net.pth", "--activity", "{files}/data.npz"], "it holds frames, labels"),
    "no data": (4, ["export", "{files}/net.pth", "-t", "onnx", "--data", "nowhere"], "nowhere"),
    "empty data": (4, ["export", "{files}/net.pth", "-t", "onnx", "--data", "{files}/empty"], "empty"),
    "other layout": (5, ["inspect", "{files}/other.pth"], "backbone.weight"),
    "other frame size": (5, ["inspect", "{files}/net.pth", "--input-shape", "2,64,64"], "fc.2.0.weight: has shape"),
    "nan": (6, ["inspect", "{files}/nan.pth"], "not finite"),
    "gate in NIR": (7, ["export", "{files}/net.pth", "-t", "nir", "--gate", "refuse"], "conv.5"),
    "output without a name": (2, ["export", "{files}/net.pth", "-t", "nir", "--gate", "split", "-o", "."], "not name a file"),
    "missing folder": (8, ["export", "{files}/net.pth", "-t", "onnx", "-o", "no/folder/m.onnx"], "does not exist"),
    "profile": (10, ["profiles", "show", "no-such-chip"], "no-such-chip"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, files: Path, run: Run, tmp_path: Path) -> None:
    code, arguments, part = MISTAKES[name]
    if "net.onnx" in arguments:
        run("export", files / "net.pth", "-t", "onnx", "--no-verify")
    if name == "verify without model":
        Path("net.manifest.json").unlink()  # which tells the model
    before = sorted(tmp_path.iterdir())
    ran = run(*(a.format(files=files) for a in arguments))
    assert ran.code == code, ran.err
    assert part in " ".join(ran.err.replace("│", " ").split())
    assert "Traceback" not in ran.err + ran.out
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "output", "code"),
    [
        (["rates"], ["--save", "{taken}"], 8),
        (["rates"], ["-o", "{taken}"], 8),
        (["rates"], ["-o", "no/folder/r.csv"], 8),
        (["rates"], ["-o", "r.pdf"], 2),
        (["rates"], ["--plots", "{taken}"], 8),
        (["rates"], ["--plots", "{plots}"], 8),
        (["energy"], ["-o", "{taken}"], 8),
        (["energy"], ["-o", "r.docx"], 2),
        (["energy"], ["-o", "no/folder/r.html"], 8),
        (["stream", "--sweep"], ["--plot", "no/folder/p.png"], 8),
        (["stream", "--sweep"], ["--plot", "p.pdf"], 2),
        (["stream", "--sweep", "--fit"], ["--save-profile", "{taken}"], 8),
    ],
)
def test_outputs_are_checked_before_the_work(
    command: list[str], output: list[str], code: int, files: Path, run: Run, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.csv"
    plots = tmp_path / "plots"
    plots.mkdir()
    for path in (taken, plots / "rate_histogram.svg"):
        path.touch()
    name, *flags = command
    outputs = [o.format(taken=taken, plots=plots) for o in output]
    ran = run(
        name, files / "net.pth", "--data", "nowhere", *flags, *outputs
    )  # the recordings are not looked at
    assert ran.code == code, ran.err
    assert outputs[-1].rpartition("/")[0] in ran.err
    assert {p.name for p in tmp_path.rglob("*")} == {"plots", "rate_histogram.svg", "taken.csv"}


def test_a_profile_that_is_missing(files: Path, run: Run) -> None:
    ran = run("stream", files / "net.pth", "--data", files / "data.npz", "--profile", "missing.safetensors")
    assert (ran.code, "there is no such profile" in ran.err, "--fit" in ran.err) == (3, True, True)


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
    assert "not a folder" in ran.err


def test_closed_pipe(files: Path) -> None:
    # As in: tcja-deploy inspect net.pth --text | head -1
    command = f"{sys.executable} -m tcja_deploy inspect {files / 'net.pth'} --text | head -1; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode in (0, 141)  # 0 if all was written before the reader went
    assert ran.stdout.startswith("graph T=4")
    assert "Traceback" not in ran.stderr
    assert "Error" not in ran.stderr


def test_full_device(files: Path) -> None:
    command = f"{sys.executable} -m tcja_deploy inspect {files / 'net.pth'} > /dev/full"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 8
    assert ran.stderr.startswith("error: the output could not be printed (No space left")


@pytest.mark.parametrize("target", ["onnx", "onnx-step", "lava", "nir --gate split"])
def test_disk_without_room(target: str, files: Path, tmp_path: Path) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    command = [sys.executable, "-m", "tcja_deploy", "export", files / "net.pth", "--data", files / "data.npz"]
    ran = subprocess.run(
        [*command, "-o", tmp_path / "out", "-t", *target.split()], capture_output=True, text=True, check=False,
        timeout=120, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )  # fmt: skip
    assert (ran.returncode, "writing failed (File too large)" in ran.stderr) == (8, True)
    assert not list(tmp_path.iterdir())


def test_terminal_without_unicode(files: Path) -> None:
    command = [sys.executable, "-m", "tcja_deploy", "rates", files / "net.pth", "--data", files / "data.npz"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"conv.1" in ran.stdout
    assert ran.stdout.isascii()


def test_all_that_is_printed_and_nobody_reads(files: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    ran = run("inspect", files / "net.pth")
    assert (ran.code, ran.out, ran.err) == (141, "", "")


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
