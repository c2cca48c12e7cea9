"""A current folder that is gone, and a system that opens no more files: messages, no defects."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from command_line import Run


def test_a_current_folder_that_is_gone(
    run: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        ran = run("inspect", files / "net.pth")
    finally:
        os.chdir(tmp_path)
    assert ran.code == 3
    assert "the current folder is gone" in ran.err


def test_no_more_files_may_be_opened(run: Run, files: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        ran = run("inspect", files / "net.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert ran.code == 3
    assert "Too many open files" in ran.err
