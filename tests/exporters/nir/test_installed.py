"""Whether the tests beside this one run at all, and what is said where they could not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_nir_is_installed() -> None:
    nir = pytest.importorskip(
        "nir", reason="the package nir is not installed: no test of the export to NIR runs"
    )
    assert nir.version


@pytest.mark.parametrize("folder", [False, True])
def test_without_nir(tmp_path: Path, folder: bool) -> None:
    """Also where Python takes a folder of that name for the package."""
    if folder:
        (tmp_path / "nir").mkdir()
    code = """
import sys, importlib.machinery
class Hidden(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "nir":
            return super().find_spec(name, [sys.argv[1]])
        return super().find_spec(name, path, target)
sys.meta_path = [m for m in sys.meta_path if m is not importlib.machinery.PathFinder] + [Hidden]
from tcja_deploy import export, zoo
from tcja_deploy.errors import ToolchainError
try:
    export(zoo.build("events34"), "nir", sys.argv[1] + "/net.nir", gate="mean")
except ToolchainError as error:
    print(error)
"""
    asked = [sys.executable, "-c", code, str(tmp_path)]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert "the package nir is not installed" in ran.stdout, ran.stderr
    assert "pip install 'tcja-deploy[nir]'" in ran.stdout
