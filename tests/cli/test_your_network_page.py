"""The page on networks of one's own runs as it stands: its files are written, its code and its commands are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "your-network.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(
    r'^```(python title="(?P<file>[^"]+)"|python|console)\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)


def run_section(text: str, folder: Path, environment: dict[str, str]) -> str:
    """Everything a section shows, in order; what the commands print."""
    printed = ""
    for block in BLOCK.finditer(text):
        if block["file"]:
            (folder / block["file"]).write_text(block["text"])
            continue
        lines = block["text"].splitlines() if block[1] == "console" else [""]
        for line in lines:
            words = (
                ["-c", block["text"]]
                if not line
                else ["-m", *line.replace("tcja-deploy", "tcja_deploy").split()]
            )
            ran = subprocess.run(
                [sys.executable, *words],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                env=environment,
            )
            assert ran.returncode == 0, f"{line or 'code'}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"
            printed += ran.stdout
    return printed


def agreed(printed: str) -> bool:
    """Whether export and verify both ended in agreement, on a network that spikes."""
    compared = [
        int(n.replace(",", ""))
        for n in re.findall(r"^ *\S+ +([\d,]+) +[\d,]+ +0 +[\d,]+ *$", printed, re.MULTILINE)
    ]
    return printed.count("onnxruntime agrees") == 2 and min(compared) > 0


@pytest.mark.parametrize(
    ("title", "file"), [("A Lightning checkpoint", "gesture"), ("A loop over time", "looped")]
)
def test_from_the_command_line_to_a_verified_file(title: str, file: str, tmp_path: Path) -> None:
    environment = {**os.environ, "COLUMNS": "160"}
    printed = run_section(SECTIONS[title], tmp_path, environment)
    assert agreed(printed), printed
    model = onnx.load(tmp_path / f"{file}.onnx")
    assert f"{'models.py:build' if file == 'gesture' else 'looped.py:Looped'}" in str(model.metadata_props)
    if file == "gesture":
        run_section(SECTIONS["In Python"], tmp_path, environment)


@pytest.mark.slow
def test_spikingjelly_of_2022(tmp_path: Path) -> None:
    """Installs that version into a folder of its own, as the page says."""
    title = next(t for t in SECTIONS if t.startswith("SpikingJelly 0.0.0.0.12"))
    folder = Path(os.environ.get("CASES_CACHE", tmp_path)) / "spikingjelly__0.0.0.0.12"
    if not folder.is_dir():
        install = ["install", "--quiet", "--no-deps", "--target", str(folder), "spikingjelly==0.0.0.0.12"]
        subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    printed = run_section(
        SECTIONS[title], tmp_path, {**os.environ, "COLUMNS": "160", "PYTHONPATH": str(folder)}
    )
    assert agreed(printed), printed
