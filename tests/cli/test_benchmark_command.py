"""`tcja-deploy benchmark`: one row per target in one command.

What docs/benchmark.md shows of it is run here, on two recordings.
"""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Run

ROOT = Path(__file__).resolve().parents[2]
DATA = str(ROOT / "tests" / "data" / "n-mnist" / "Test")
MODEL = str(ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth")


def test_benchmark(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "table.tex"
    ran = run(
        "benchmark", MODEL, "--data", DATA, "--limit", "2", "--turns", "1", "-t", "onnx", "-t", "nir", "-o", str(table)
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "nmnist_checkpoint_max on 2 recordings" in ran.out
    assert "TCJA" in ran.out  # why NIR refuses
    assert r"\begin{tabular}" in table.read_text()
    again = run(
        "benchmark",
        MODEL,
        "--data",
        DATA,
        "--limit",
        "2",
        "--turns",
        "1",
        "-t",
        "onnx",
        "--json",
        "--measure",
    )
    found = json.loads(again.out)
    assert [row["target"] for row in found["benchmark"]] == ["the network itself", "onnx"]
    assert found["provenance"]["measured"].startswith(("Measured: ", "Nothing measured: "))


def test_wrong_use(run: Run, tmp_path: Path) -> None:
    assert run("benchmark", MODEL, "--data", DATA, "-o", str(tmp_path / "table.xlsx")).code == 2
    assert run("benchmark", MODEL, "--data", DATA, "-t", "tflite").code == 2
    assert run("benchmark", MODEL, "--data", DATA, "-t", "onnx:opset=old").code == 2
