"""The pages of the reference that are generated are what the commands and errors are now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import tcja_deploy as td

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["cli.md", "exit-codes.md"])
def test_a_page_is_true(name: str) -> None:
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == module.PAGES[name](), (
        "python docs/generate_cli.py"
    )


@pytest.mark.parametrize("name", [n for n in td.__all__ if n[0].islower()])
def test_every_function_is_on_both_pages(name: str) -> None:
    assert f"`td.{name}(" in (DOCS / "python.md").read_text(encoding="utf-8")
    reference = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    assert re.search(rf"^::: tcja_deploy\.[a-z_.]+\.{name}$", reference, re.MULTILINE)


def test_every_page_is_in_the_sites_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    pages |= {page.relative_to(DOCS).as_posix() for page in (DOCS / "tutorials").glob("*.py")}
    assert [page for page in sorted(pages) if page not in navigation] == []
