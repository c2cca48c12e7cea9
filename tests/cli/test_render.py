"""Tables in narrow terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tcja_deploy.cli import render


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_numbers_stay_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(render, "console", Console(file=out, width=width))
    heads = [f"layer{i}.0.conv1" for i in range(12)]
    table = render.table("A title", "node", *heads)
    table.add_row("blocks.0.first", *(f"{1234567 * (i + 1):,}" for i in range(12)))
    render.print_table(table)
    words = out.getvalue().split()
    for i, head in enumerate(heads):
        assert head in words
        assert f"{1234567 * (i + 1):,}" in words
    assert "…" not in out.getvalue()
