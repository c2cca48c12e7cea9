"""`tcja-deploy profiles`: the hardware profiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcja_deploy.cli.options import JsonOption
from tcja_deploy.text import printable

if TYPE_CHECKING:
    from tcja_deploy.energy.render.table import Table
    from tcja_deploy.hardware_profiles import Profile, Quantity

__all__ = ["app"]

app = typer.Typer(name="profiles", help="Energy prices and limits of chips.", no_args_is_help=True)


@app.command("list")
def list_profiles(as_json: JsonOption = False) -> None:
    """The built-in profiles."""
    from tcja_deploy.energy.render.table import Column, Table
    from tcja_deploy.hardware_profiles import list_profiles as names
    from tcja_deploy.hardware_profiles import load_profile

    found = [load_profile(name) for name in names()]
    rows = tuple((p.name, p.title, p.kind.value, _lists(p), len(p.missing), p.version) for p in found)
    columns = (
        Column("name", "Profile"),
        Column("title", "What"),
        Column("kind", "Kind"),
        Column("pricings", "Price lists (default first)"),
        Column("missing", "Numbers not published", "int"),
        Column("version", "Version"),
    )
    shown = len(columns) if as_json else len(columns) - 1  # six columns are more than a narrow terminal holds
    _print(
        [Table("profiles", "Hardware profiles", columns[:shown], tuple(row[:shown] for row in rows))], as_json
    )


@app.command()
def show(
    profile: Annotated[str, typer.Argument(help="A built-in profile or a .toml file.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Every number of a profile, with source and evidence."""
    from tcja_deploy.cli.render import console
    from tcja_deploy.hardware_profiles import load_profile

    found = load_profile(profile)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return
    console.print(
        f"{found.title} ({found.name} {found.version}, {found.kind.value}, {found.origin})", highlight=False
    )
    for note in found.notes:
        console.print(f"- {note}", highlight=False, markup=False)
    _print(_tables(found), as_json=False)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A profile of your own (.toml).", show_default=False)],
) -> None:
    """Check a profile of your own; every violation names its key."""
    from tcja_deploy.errors import ProfileError
    from tcja_deploy.hardware_profiles import check_profile

    violations = check_profile(path)
    if violations:
        raise ProfileError(
            f"{len(violations)} violation{'s' if len(violations) > 1 else ''}:\n  " + "\n  ".join(violations),
            where=str(path),
            hint="docs/hardware-profiles.md describes the format",
        )
    typer.echo(printable(f"{path}: valid"))


def _lists(profile: Profile) -> str:
    others = [p.name for p in profile.pricings if p.name != profile.pricing.name]
    return ", ".join([profile.pricing.name, *others])


def _tables(profile: Profile) -> list[Table]:
    """One table per price list, then limits, timing and facts; notes below."""
    lists = [
        (
            f"Prices '{p.name}': {p.title} ({p.scope.value}, {p.precision.value})",
            [t.quantity for t in p.terms],
        )
        for p in profile.pricings
    ]
    rest = [
        ("Limits", list(profile.limits)),
        ("Timing", list(profile.timing)),
        ("Facts", list(profile.facts)),
    ]
    return [_table(title, quantities) for title, quantities in (*lists, *rest) if quantities]


def _table(title: str, quantities: Sequence[Quantity]) -> Table:
    from tcja_deploy.energy.render.table import Column, Table
    from tcja_deploy.hardware_profiles.document import range_text, value_text

    columns = (
        Column("key", "Number"),
        Column("value", "Value"),
        Column("range", "Range"),
        Column("evidence", "Evidence"),
        Column("source", "Source"),
    )
    rows = tuple(
        (
            q.path.rpartition(".")[2],
            value_text(q),
            range_text(q),
            f"{q.evidence.value} {q.certainty.value if q.certainty else ''}".strip(),
            q.citation,
        )
        for q in quantities
    )
    notes = tuple(f"{q.path.rpartition('.')[2]}: {q.note}" for q in quantities if q.note)
    return Table("quantities", title, columns, rows, notes)


def _print(tables: list[Table], as_json: bool) -> None:
    from tcja_deploy.cli.render import print_table
    from tcja_deploy.energy.render.formats import to_rich

    if as_json:
        typer.echo(json.dumps([r for t in tables for r in t.records()], indent=2, ensure_ascii=False))
        return
    for table in tables:
        print_table(to_rich(table))
