"""What a command says besides its results: notes on standard error, which `--quiet` leaves out, as it leaves out bars."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any, cast, get_type_hints

import typer

from tcja_deploy.text import printable

__all__ = ["is_quiet", "note", "quietable"]

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)

QuietOption = Annotated[
    bool, typer.Option("--quiet", help="No progress bars and no notes: results and errors only.")
]


def is_quiet() -> bool:
    """Whether the command that runs was told `--quiet`."""
    return _quiet.get()


def note(text: str) -> None:
    """A note on standard error, from one of the processes that share the work."""
    if not is_quiet() and os.environ.get("RANK", "0") == "0":
        typer.echo(printable(f"note: {text}", keep="\n"), err=True)


def quietable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with `--quiet` as its last option."""
    hints = get_type_hints(command, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(command).parameters.values()
    ]
    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietOption)

    @functools.wraps(command)
    def run(*, quiet: bool = False, **given: Any) -> None:
        token = _quiet.set(quiet)
        try:
            command(**given)
        finally:
            _quiet.reset(token)

    described = cast(Any, run)
    described.__signature__ = inspect.Signature([*parameters, quiet])
    described.__annotations__ = {p.name: p.annotation for p in (*parameters, quiet)}
    return run
