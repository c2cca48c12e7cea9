"""What a command says besides its results: notes on standard error, which `--quiet` suppresses along with progress bars."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any, cast, get_type_hints

import typer

from tcja_deploy.cli.apart import check_apart
from tcja_deploy.text import printable

__all__ = ["is_quiet", "note", "quietable"]

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)

QuietOption = Annotated[
    bool, typer.Option("--quiet", help="No progress bars and no notes: results and errors only.")
]


def is_quiet() -> bool:
    """Whether the running command was given `--quiet`."""
    return _quiet.get()


def note(text: str) -> None:
    """Print a note on standard error; of several processes that share the work, only the first prints it."""
    if not is_quiet() and os.environ.get("RANK", "0") == "0":
        typer.echo(printable(f"note: {text}", keep="\n"), err=True)


def quietable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with `--quiet` as its last option, after a look at whether its outputs have places of their own."""
    hints = get_type_hints(command, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(command).parameters.values()
    ]
    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietOption)

    @functools.wraps(command)
    def run(*, quiet: bool = False, **given: Any) -> None:
        check_apart(given)
        token = _quiet.set(quiet)
        try:
            command(**given)
        finally:
            _quiet.reset(token)

    described = cast(Any, run)
    described.__signature__ = inspect.Signature([*parameters, quiet])
    described.__annotations__ = {p.name: p.annotation for p in (*parameters, quiet)}
    return run
