"""What docs/promises.md and SECURITY.md promise is held by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "promises.md"
NAMED = re.compile(r"`(tests/[\w/]+(?:\.py)?)(?:::(test_\w+))?`")


def rows() -> list[tuple[str, str]]:
    """Each promise of the table, with the cell that says what holds it."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| **")]
    return [
        (cells[1].strip().strip("*").split("**")[0], cells[2])
        for cells in (line.split("|") for line in lines)
    ]


def names_in(path: Path) -> set[str]:
    files = [path] if path.suffix == ".py" else sorted(path.rglob("test_*.py"))
    trees = [ast.parse(file.read_text()) for file in files]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_table_is_read() -> None:
    assert len(rows()) >= 8


@pytest.mark.parametrize(("promise", "held_by"), rows(), ids=[promise for promise, _ in rows()])
def test_a_promise_is_held(promise: str, held_by: str) -> None:
    named = NAMED.findall(held_by)
    assert named, f"no test is named for: {promise}"
    assert all(test for _, test in named), f"a file is not a test: {held_by}"
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert test in names_in(ROOT / file), f"{file} has no {test}"


def test_security_names_tests_that_exist() -> None:
    named = NAMED.findall((ROOT / "SECURITY.md").read_text())
    assert named
    for file, test in named:
        assert (ROOT / file).exists(), file
        assert not test or test in names_in(ROOT / file), f"{file} has no {test}"
