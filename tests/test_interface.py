"""The public interface: what Python code and scripts may rely on, written down in `tests/data/interface.txt`.

A change that is meant: `python tests/test_interface.py` writes the file anew, and CHANGELOG says what changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import tcja_deploy as td
from tcja_deploy.cli import app
from tcja_deploy.errors import DeployError
from tcja_deploy.library import accounting

WRITTEN = Path(__file__).parent / "data" / "interface.txt"


def _python() -> Iterator[str]:
    for name in sorted(td.__all__):
        offered = getattr(td, name)
        if inspect.ismodule(offered):  # `energy`, a package that can be called
            offered = accounting.energy
        if inspect.isfunction(offered):
            for parameter in inspect.signature(offered).parameters.values():
                default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
                star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
                word = " (by name)" if parameter.kind is parameter.KEYWORD_ONLY else ""
                yield f"tcja_deploy.{name}: {star}{parameter.name}{default}{word}"
        else:
            yield f"tcja_deploy.{name}"


def _errors(error: type[DeployError]) -> Iterator[str]:
    yield f"{error.__name__}: exit code {error.exit_code}"
    for kind in sorted(error.__subclasses__(), key=lambda e: e.__name__):
        if kind.__module__.startswith("tcja_deploy"):
            yield from _errors(kind)


def _commands(command: Any, path: str) -> Iterator[str]:
    for parameter in command.params:
        names = " ".join((*parameter.opts, *parameter.secondary_opts))
        what = "argument" if parameter.param_type_name == "argument" else "option"
        needed = " (required)" if parameter.required else ""
        yield f"{path}: {what} {names}{needed}"
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield f"{path} {name}"
        yield from _commands(below, f"{path} {name}")


def interface() -> str:
    """All names, arguments, commands, options and exit codes, a line each."""
    lines = [
        *_python(),
        "",
        *_errors(DeployError),
        "",
        *_commands(typer.main.get_command(app), "tcja-deploy"),
    ]
    return "\n".join(lines) + "\n"


def test_the_interface_is_the_one_written_down() -> None:
    assert interface() == WRITTEN.read_text(), "if this is meant, run: python tests/test_interface.py"


if __name__ == "__main__":
    WRITTEN.write_text(interface())
