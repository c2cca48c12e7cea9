"""`tcja-deploy inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tcja_deploy.cli.options import AS_FOUND, JsonOption, Loading, ModelArgument, load_model, shared_options
from tcja_deploy.errors import UsageError
from tcja_deploy.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from tcja_deploy.ir import Graph

__all__ = ["inspect"]


@shared_options
def inspect(
    model: ModelArgument,
    how: Loading = AS_FOUND,
    text: Annotated[bool, typer.Option("--text", help="Print the graph as plain text, for diffs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a model computes: ops, shapes, signal kinds, parameters, MACs, look-ahead; for a Lava bundle, its timing."""
    if text and as_json:
        raise UsageError("--text and --json are mutually exclusive")
    from tcja_deploy.artifacts import is_bundle

    if is_bundle(model):
        if text:
            raise UsageError("--text prints graphs; a Lava bundle holds none", hint="use --json")
        _print_bundle(model, how, as_json)
        return
    graph = load_model(model, how)
    if text:
        from tcja_deploy.ir import dump

        typer.echo(printable(dump(graph), keep="\n"), nl=False)
    elif as_json:
        from tcja_deploy.library.inspection import Inspection

        typer.echo(Inspection(graph, str(model)).document(".json"), nl=False)
    else:
        from tcja_deploy.cli.render import console

        _print(graph, str(model))
        console.print()


def _print_bundle(path: Path, how: Loading, as_json: bool) -> None:
    from tcja_deploy.cli.render import show_document
    from tcja_deploy.library.bundle_inspection import bundle_inspection

    said = [f for f in how._fields if getattr(how, f) != getattr(AS_FOUND, f)]
    found = bundle_inspection(path, (f"--{name.replace('_', '-')}" for name in said))
    show_document(found.tables(), found.document, (), force=False, as_json=as_json)


def _print(graph: Graph, title: str) -> None:
    from tcja_deploy.cli.render import console, print_table, table
    from tcja_deploy.ir.rows import node_rows

    rows = node_rows(graph)
    result = table(
        f"{title}: T = {graph.T}", "node", "op", "shape", "kind", "weights", "MACs", "waits", left=4
    )
    for node, row in zip(graph, rows, strict=True):
        shape = "x".join(map(str, node.signal.features)) + ("" if node.signal.streams else " once")
        result.add_row(
            node.name,
            str(row["op"]),
            shape,
            str(row["kind"]),
            *(f"{row[key]:,}" if row[key] else "-" for key in ("parameters", "macs", "lookahead")),
        )
    total = sum(row["macs"] for row in rows)
    result.add_section()
    result.add_row("total", "", "", "", f"{graph.parameters:,}", f"{total:,}", "")
    print_table(result)
    console.print(
        "shape: one frame of one sample ('once': one result per window); MACs: dense, per frame; "
        "waits: frames until an output is final"
    )
    console.print(f"model sha256 {graph.hash}", highlight=False, soft_wrap=True)
    for key, value in graph.source.items():
        for part in value.split("; "):
            console.print(f"{key}: {part}", highlight=False, soft_wrap=True)
