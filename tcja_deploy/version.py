"""The package's version, in a module of its own, so that any module can state it, and torch's without importing it."""

from __future__ import annotations

import runpy
from importlib.util import find_spec
from pathlib import Path

__all__ = ["__version__", "torch_version"]

__version__ = "0.1.0"


def torch_version() -> str:
    """Torch's version with what it was built for, such as `2.14.1+cu130`, which package metadata may leave out."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return "not installed"
    return str(runpy.run_path(str(Path(spec.origin).with_name("version.py")))["__version__"])
