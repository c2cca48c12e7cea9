"""Kernels on disk: loaded as long as no source that they may contain has changed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba")

from tcja_deploy.runtime.events import compiling

SOURCE = """
from tcja_deploy.runtime.events.compiling import compiled


@compiled
def twice(x):
    return 2 * x
"""


def loaded(path: Path) -> Any:
    """The function of a module that is imported anew, as another process would; called once."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.twice(21) == 42
    return module.twice


def test_a_change_in_another_file_compiles_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kernel_of_a_test.py"
    path.write_text(SOURCE)
    assert not loaded(path).stats.cache_hits
    assert loaded(path).stats.cache_hits
    monkeypatch.setattr(compiling, "source_digest", lambda: "that of changed sources")
    assert not loaded(path).stats.cache_hits
    assert loaded(path).stats.cache_hits


def test_every_file_of_kernels_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever compiles a kernel or generates instructions."""
    runtime = Path(compiling.__file__).parents[1]
    marks = ("import numba", "from numba", "from llvmlite", "@compiled")
    writers = [p for p in runtime.rglob("*.py") if any(mark in p.read_text() for mark in marks)]
    read: list[Path] = []
    original = Path.read_bytes

    def seen(path: Path) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", seen)
    compiling.source_digest.cache_clear()
    compiling.source_digest()
    assert set(writers) <= set(read)
    assert len(read) == len(set(read))
