"""A progress bar for work that takes longer than two seconds, in a terminal or a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["progress_bar"]

_PATIENCE = 2.0
"""Seconds without a bar."""


def progress_bar(
    what: str, *, shown: bool = True
) -> Callable[[int], AbstractContextManager[Callable[[int], None]]]:
    """Makes bars on standard error.

    Args:
        what: What is being done.
        shown: Whether to show it at all; a file or a pipe never gets one.

    Returns:
        Given the total, a context whose value is called with the number done so far.
    """

    @contextmanager
    def bar(total: int) -> Iterator[Callable[[int], None]]:
        console = Console(file=sys.stderr)
        visible = shown and (console.is_terminal or console.is_jupyter)
        progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, transient=True, disable=not visible,
        )  # fmt: skip
        task, begun, started = progress.add_task(what, total=total), time.monotonic(), False

        def update(done: int) -> None:
            nonlocal started
            if visible and not started and time.monotonic() - begun > _PATIENCE:
                progress.start()
                started = True
            progress.update(task, completed=done)

        try:
            yield update
        finally:
            if started:
                progress.stop()

    return bar
