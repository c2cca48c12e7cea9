"""Progress bars for work that takes longer than two seconds, in a terminal or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock, Timer

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tcja_deploy.text import printable

__all__ = ["progress_bar", "step_bar"]

_PATIENCE = 2.0
"""Seconds of work before a bar appears."""


@contextmanager
def _patient(*, shown: bool) -> Iterator[Progress]:
    """A display on standard error that appears only after `_PATIENCE` seconds, and never in a file or a pipe."""
    console = Console(file=sys.stderr)
    visible = shown and (console.is_terminal or console.is_jupyter)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not visible,
    )  # fmt: skip
    if not visible:
        yield progress
        return
    turn, over, started = Lock(), False, False

    def start() -> None:
        nonlocal started
        with turn:
            if not over:
                progress.start()
                started = True

    timer = Timer(_PATIENCE, start)
    timer.daemon = True
    timer.start()
    try:
        yield progress
    finally:
        timer.cancel()
        with turn:
            over = True
        if started:
            progress.stop()


def progress_bar(
    what: str, *, shown: bool = True
) -> Callable[[int | None], AbstractContextManager[Callable[[int], None]]]:
    """A maker of bars on standard error.

    Args:
        what: What is being done.
        shown: Whether to show it at all; a file or a pipe never gets one.

    Returns:
        Given the total, a context whose value is called with the number done so far.
    """

    @contextmanager
    def bar(total: int | None) -> Iterator[Callable[[int], None]]:
        with _patient(shown=shown) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=done)

    return bar


@contextmanager
def step_bar(samples: int | None, *, shown: bool = True) -> Iterator[Callable[[str, int], None]]:
    """A bar for work in steps; call its value with what is being done and how many samples or steps of that are done."""
    with _patient(shown=shown) as progress:
        task = progress.add_task("translating", total=None)
        yield lambda doing, done: progress.update(
            task,
            description=printable(doing),
            completed=done,
            total=samples if doing == "verifying" else None,
        )
