"""`--resume`, for the commands that may run for hours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcja_deploy.cli.notes import note

if TYPE_CHECKING:
    from tcja_deploy.runtime.resume import KeptProgress

__all__ = ["ResumeOption", "resumable"]

ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Continue where this command, given the same files, was interrupted."),
]


@contextmanager
def resumable(
    command: str, model: Path, data: Iterable[Path], output: Path | None, *, resume: bool
) -> Iterator[KeptProgress]:
    """The progress of a command, deleted when the command succeeds; notes what is kept of an interrupted run.

    Several processes that share the work keep theirs side by side.
    """
    from tcja_deploy.runtime.resume import KeptProgress

    rank = os.environ.get("RANK", "0")
    paths = [os.path.abspath(path) for path in (model, *data, *([] if output is None else [output]))]
    progress = KeptProgress((command, rank, *paths), resume=resume)
    said = ""
    if resume and not progress.interrupted:
        said = "nothing is kept of an interrupted run, so this one starts from the beginning"
    elif progress.interrupted and not resume:
        said = (
            "an earlier run was interrupted; this one starts from the beginning, --resume would continue it"
        )
    if said:
        note(said)
    with progress.until_done():
        yield progress
