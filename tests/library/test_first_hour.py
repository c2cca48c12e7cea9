"""A stranger's first hour, as the pages lead: the demo, a module of one's own in a notebook, a table for a paper.

The installation is what `.ci/run` does before it runs this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from page_blocks import ROOT, Block, blocks_of, pages

START = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def linked(row: str) -> Path:
    """The first page that the table of the start page names for someone who has this."""
    found = re.search(rf"^\| {row}[^|]*\| \[[^\]]+\]\(([^)]+)\)", START, re.MULTILINE)
    assert found is not None
    return ROOT / "docs" / found[1]


def cells(notebook: Path) -> list[str]:
    """The code of each cell that has any."""
    parts = re.split(r"^# %%(.*)$", notebook.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [
        code
        for kind, code in zip(parts[1::2], parts[2::2], strict=True)
        if "[markdown]" not in kind and code.strip()
    ]


def open_notebook(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run all cells, one after the other, in the folder of the notebook; the names that they leave."""
    monkeypatch.chdir(notebook.parent)
    names: dict[str, Any] = {"__name__": "notebook"}
    for code in cells(notebook):
        exec(compile(code, str(notebook), "exec"), names)
    return names


def shell(line: str, folder: Path) -> str:
    """A line typed into a terminal; what it prints."""
    assert line.startswith("tcja-deploy ")
    words = [sys.executable, "-m", "tcja_deploy", *line.split()[1:]]
    ran = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "160"}
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def consoles(page: Path) -> list[Block]:
    return [b for b in blocks_of(page.relative_to(ROOT).as_posix()) if b.language == "console"]


EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


@pytest.mark.parametrize("page", [*pages(), ".ci/run", "Dockerfile"])
def test_what_is_installed_exists(page: str) -> None:
    """Whatever `pip install` is told to install of this package, with an extra or without, is there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"(?:\.|/opt/source|\.whl\)|tcja-deploy)\[([\w,]+)\]", text)
    assert {name for found in named for name in found.split(",")} <= EXTRAS


def test_the_readme_names_extras_that_there_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"Extras: (.*?)\.\n", readme, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", said)) == EXTRAS - {"test", "dev"}


def test_ci_installs_with_the_command_of_the_readme() -> None:
    """`.ci/run` takes it from the page, by a pattern that finds what a reader types."""
    (pattern,) = re.findall(r"grep -om1 '([^']+)' README\.md", (ROOT / ".ci" / "run").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(pattern, readme) == ['pip install -e ".[test]"']


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    install, demo, *_ = consoles(ROOT / "docs" / "index.md")
    assert "pip install" in install.text
    printed = shell(demo.text.strip(), tmp_path)
    assert "onnxruntime agrees" in printed
    opened = re.search(r"open the report: python -m webbrowser (\S+)", printed)
    assert opened is not None
    assert "Energy per inference" in (tmp_path / opened[1]).read_text(encoding="utf-8")
    following = [
        line.strip()
        for line in printed.partition("Next")[2].splitlines()
        if line.strip().startswith("tcja-deploy verify")
    ]
    assert following
    for line in following:  # the command that the demo names works as it stands
        assert "agrees" in shell(line, tmp_path)


@pytest.mark.slow
def test_a_module_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The notebook, then its last lines: the class in `models.py`, weights in `best.pth`, and the command."""
    pytest.importorskip("spikingjelly")
    import torch

    notebook = linked("a class of your own")
    assert notebook.name == "your_own_network.py"
    names = open_notebook(notebook, monkeypatch)
    assert names["graph"].source["proof"]
    (tmp_path / "models.py").write_text(
        next(code for code in cells(notebook) if "class Net(" in code).partition("torch.manual_seed")[0]
    )
    torch.save(names["net"].state_dict(), tmp_path / "best.pth")
    (block,) = consoles(notebook)
    assert "onnxruntime agrees" in shell(block.text.strip(), tmp_path)


@pytest.mark.slow
def test_a_table_for_a_paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = linked("a paper to write")
    assert notebook.name == "energy_table.py"
    names = open_notebook(notebook, monkeypatch)
    assert '`energy.save("table.tex")`' in notebook.read_text(encoding="utf-8")
    names["energy"].save(tmp_path / "table.tex")
    table = (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert r"\toprule" in table
    assert r"\bottomrule" in table
    snn = names["energy"].estimates[0].energy_pJ.mean / 1e6
    assert f"{snn:.3g}" in table
