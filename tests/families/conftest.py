"""Lets the tests use the examples' modules, and Lava in forks of one process."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests" / "exporters" / "lava")]
