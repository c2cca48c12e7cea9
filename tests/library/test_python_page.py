"""The page on Python runs as it stands and prints what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_example(tmp_path: Path) -> None:
    found = re.search(r"^```python run\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    shutil.copy(ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth", tmp_path)
    shutil.copytree(ROOT / "tests" / "data" / "n-mnist" / "Test", tmp_path / "n-mnist" / "Test")
    ran = subprocess.run(
        [sys.executable, "-c", found[1]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == found[2]
    assert {"rates.html", "energy.png"} <= {file.name for file in tmp_path.iterdir()}
