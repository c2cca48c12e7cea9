"""Write the pages of commands and of exit codes from what they are: `python docs/generate_cli.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from tcja_deploy.cli import app
from tcja_deploy.errors import DeployError

REFERENCE = Path(__file__).resolve().parent / "reference"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _command(command: Any, path: str, level: int) -> Iterator[str]:
    below = getattr(command, "commands", {})
    yield f"{'#' * level} `{path}`\n\n{_cell(command.help or '')}\n"
    rows = []
    for p in command.params:
        names = ", ".join(f"`{n}`" for n in (*p.opts, *p.secondary_opts))
        if p.param_type_name == "argument":
            names = f"`{p.metavar or p.name.upper()}`"
        default = p.default
        shown = (
            ""
            if default in (None, False, (), []) or callable(default)
            else f"`{getattr(default, 'value', default)}`"
        )
        rows.append(f"| {names} | {_cell(p.help or '')} | {'required' if p.required else shown} |")
    if rows:
        yield "| argument or option | what it does | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    for name, sub in below.items():
        yield from _command(sub, f"{path} {name}", level + 1)


def cli_page() -> str:
    """The reference of all commands."""
    root = typer.main.get_command(app)
    return "\n".join(["# Command line\n", *_command(root, "tcja-deploy", 2)])


def _errors(error: type[DeployError]) -> Iterator[str]:
    summary = (error.__doc__ or "").strip().split("\n\n")[0]
    yield f"| {error.exit_code} | `{error.__name__}` | {_cell(summary)} |"
    for kind in sorted(error.__subclasses__(), key=lambda e: e.exit_code):
        if kind.__module__.startswith("tcja_deploy"):
            yield from _errors(kind)


def exit_code_page() -> str:
    """The exit codes, and the errors of the Python interface behind them."""
    rows = [
        row
        for kind in sorted(DeployError.__subclasses__(), key=lambda e: e.exit_code)
        for row in _errors(kind)
    ]
    return "\n".join(
        [
            "# Errors and exit codes",
            "",
            "Every error is a `tcja_deploy.DeployError` with `reason`, `where` and `hint`. Besides these: 0, done; 70, a",
            "defect in tcja-deploy; 130, interrupted; 141, the output pipe was closed. `--debug` before the command shows the",
            "traceback.",
            "",
            "| exit code | error | when |",
            "|---|---|---|",
            *dict.fromkeys(rows),
            "",
        ]
    )


PAGES = {"cli.md": cli_page, "exit-codes.md": exit_code_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
