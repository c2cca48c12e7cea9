"""Tables in narrow terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tcja_deploy.cli import profiles, render
from tcja_deploy.energy.render.formats import to_rich
from tcja_deploy.energy.render.table import Column, Table
from tcja_deploy.hardware_profiles import list_profiles


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


@pytest.mark.parametrize("width", [20, 40, 80])
def test_tables_of_reports_keep_their_text(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(render, "console", Console(file=out, width=width))
    columns = [
        Column("layer", "Layer"),
        *(Column(f"n{i}", "A heading of several words", "int") for i in range(6)),
    ]
    render.print_table(
        to_rich(Table("t", "A title", tuple(columns), (("conv.1", *range(1234567, 1234573)),)))
    )
    assert {"conv.1", "1,234,567", "1,234,572"} <= set(out.getvalue().split())


def test_the_list_of_profiles_fits_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(render, "console", Console(file=out, width=80))
    profiles.list_profiles()
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    names = {line.split()[0] for line in lines if line.strip()}
    assert set(list_profiles()) <= names  # none is broken in two
