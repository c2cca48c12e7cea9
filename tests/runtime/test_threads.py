"""How many threads a process may use, and that they are good neighbours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcja_deploy.runtime import threads


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", None), ("150000 100000", 1.5), ("50000 100000", 0.5), ("", None), ("400000 100000", 4.0)],
)
def test_quota(text: str, cores: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Path, *args: Any, **kwargs: Any) -> str:
        if str(self) == "/sys/fs/cgroup/cpu.max":
            return text + "\n"
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads.available_cores() == (8 if cores is None else max(1, int(cores)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1,1")
    assert threads.available_cores() == 1


def test_libraries_are_told_before_they_start() -> None:
    """What the user says holds; otherwise threads sleep while they wait."""
    code = (
        "import os, sys; from tcja_deploy.cli import main; sys.argv = ['tcja-deploy', '--version']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(os.environ['OMP_WAIT_POLICY'], os.environ['OMP_NUM_THREADS'], 'torch' in sys.modules)"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    for given, expected in (
        ({}, ["PASSIVE"]),
        ({"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "1"}, ["ACTIVE", "1"]),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**clean, **given},
            timeout=60,
        )
        said = ran.stdout.splitlines()[-1].split()
        assert said[: len(expected)] == expected
        assert said[-1] == "False"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_row_once(count: int) -> None:
    rows = np.zeros(37, np.int64)

    def kernel(lo: int, hi: int, out: np.ndarray) -> None:
        out[lo:hi] += 1

    threads.share(kernel, len(rows), count, rows)
    assert (rows == 1).all()


def test_errors_come_through() -> None:
    def kernel(lo: int, hi: int) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        threads.share(kernel, 10, 2)


def test_a_module_is_imported_beside_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\nfor _ in range(20):\n    time.sleep(0.01)\n")
    (tmp_path / "broken_to_import.py").write_text("raise RuntimeError('on purpose')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with threads.importing("slow_to_import") as going_on:
        assert going_on()
    assert "slow_to_import" in sys.modules
    with threads.importing("slow_to_import") as going_on:
        assert not going_on()
    with threads.importing("broken_to_import"):
        pass
    with pytest.raises(RuntimeError, match="on purpose"):
        import broken_to_import  # noqa: F401
    sys.modules.pop("slow_to_import")
