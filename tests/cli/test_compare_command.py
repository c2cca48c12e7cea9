"""`tcja-deploy compare`: tables for a paper in one command."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Run

ROOT = Path(__file__).resolve().parents[2]
DATA = str(ROOT / "tests" / "data" / "n-mnist" / "Test")
MODEL = str(ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth")


def test_compare(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "table.tex"
    ran = run("compare", MODEL, MODEL, "--data", DATA, "--limit", "3", "-c", "paper", "-o", str(table))
    assert ran.code == 0, ran.err
    assert "2 networks on 3 recordings" in ran.out
    assert "Paired bootstrap" in ran.out
    assert r"\begin{tabular}" in table.read_text()
    again = run("compare", MODEL, "--data", DATA, "--limit", "3", "--json")
    assert [row["model"] for row in json.loads(again.out)["comparison"]] == ["nmnist_checkpoint_max"]


def test_wrong_use(run: Run, tmp_path: Path) -> None:
    assert run("compare", MODEL, "--data", DATA, "-o", str(tmp_path / "table.xlsx")).code == 2
    assert run("compare", MODEL, "--data", DATA, "-c", "hardware", "-p", "asic45").code == 2
