"""Tables and progress bars in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from tcja_deploy.cli.notes import is_quiet
from tcja_deploy.library import progress
from tcja_deploy.text import printable

if TYPE_CHECKING:
    from tcja_deploy.energy.render.table import Table as ReportTable
    from tcja_deploy.exporters.report import ExportReport
    from tcja_deploy.runtime.agreement import Agreement

__all__ = [
    "agreement_table",
    "console",
    "first_mismatches",
    "print_agreement",
    "print_report",
    "print_table",
    "print_written",
    "progress_bar",
    "show_document",
    "step_bar",
    "table",
    "time_table",
    "verdict",
]

_PIPED_WIDTH = 160
_width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH


class _Shown(Console):
    """A console that makes control characters in what it prints visible; only its own styles become escape sequences."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, keep="\n"), style, control)


console = _Shown(width=_width, markup=False, emoji=False)  # brackets and colons in names are text, not markup


def table(title: str, *columns: str, left: int = 1) -> Table:
    """An empty table; the first `left` columns are text, the others numbers aligned to the right."""
    result = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for i, column in enumerate(columns):
        result.add_column(
            column,
            justify="left" if i < left else "right",
            overflow="fold",
            no_wrap=i >= left,
            min_width=6 if i < left else None,
        )
    return result


_NARROWEST = 14
"""Characters to which a column of text may be folded."""


def time_table(seconds: Mapping[str, float]) -> Table:
    """Where the time of a run went: seconds by part, and their shares."""
    total = sum(seconds.values())
    result = table(f"Time: {total:.2f} s", "part", "seconds", "share")
    for name, spent in seconds.items():
        result.add_row(name, f"{spent:.2f}", f"{100 * spent / total:.1f} %" if total else "-")
    return result


def print_table(result: Table) -> None:
    """Print a table; numbers stay whole and text readable where the terminal is too narrow, and its lines wrap instead."""
    needed = 2 * len(result.columns)  # spaces around and between
    for column in result.columns:
        cells = [str(cell) for cell in (column.header, *column.cells)]
        if column.no_wrap:
            column.min_width = column.min_width or max(map(cell_len, cells))
            needed += column.min_width
        else:
            words = [cell_len(word) for cell in cells for word in cell.split()]
            narrowest = min(_NARROWEST, max(words, default=0))
            column.min_width = max(column.min_width or 0, narrowest)
            needed += column.min_width
    if needed > console.width:
        result.width = needed
    console.print(result, crop=False)


def progress_bar(what: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """A bar, unless `--quiet` or done soon; call the result with the number done so far."""
    return progress.progress_bar(what, shown=not is_quiet())(total)


def step_bar(samples: int | None) -> AbstractContextManager[Callable[[str, int], None]]:
    """A bar for an export, likewise; call the result with what is being done and how much of it is done."""
    return progress.step_bar(samples, shown=not is_quiet())


def print_report(report: ExportReport) -> None:
    """What an export did, what it assumed and what it wrote."""
    for own in report.details:
        result = table(own.title, *own.columns, left=own.text_columns)
        for row in own.rows:
            result.add_row(*row)
        print_table(result)
        console.print(own.legend, highlight=False)
    if report.agreement is not None:
        print_agreement(report.agreement, report.runtime)
    for note in () if is_quiet() else report.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    print_written(report.files)
    for file in report.removed:
        console.print(
            f"removed {file}, which belonged to what this replaces", highlight=False, soft_wrap=True
        )
    for line in report.summary:
        console.print(line, highlight=False, soft_wrap=True)


def print_written(files: Iterable[Path]) -> None:
    """Tell what was written, one line per file, never wrapped."""
    for file in files:
        console.print(
            f"wrote {printable(str(file))} ({file.stat().st_size:,} bytes)", highlight=False, soft_wrap=True
        )


def agreement_table(agreement: Agreement, other: str) -> Table:
    """Spikes of each layer in the reference and in another runtime."""
    result = table(
        f"Spikes of the reference and of {other}", "layer", "reference", other, "differ", "of neuron-steps"
    )
    for layer in agreement.layers:
        numbers = (layer.spikes, layer.other_spikes, layer.mismatches, layer.neuron_steps)
        result.add_row(layer.name, *(f"{n:,}" for n in numbers))
    return result


def first_mismatches(agreement: Agreement) -> list[str]:
    """Where each layer that differs does so first, one line per layer."""
    lines = []
    for layer in agreement.layers:
        if layer.first is not None:
            index = ", ".join(map(str, layer.first.index))
            distance = layer.first.distance
            cause = (
                "after an earlier mismatch"
                if distance is None
                else f"membrane {distance:+.1e} from the threshold"
            )
            lines.append(
                f"{layer.name}: first in sample {layer.first.sample}, t = {layer.first.t}, [{index}], {cause}"
            )
    return lines


def verdict(agreement: Agreement, other: str) -> str:
    """One sentence on a comparison, with its numbers."""
    colour, word = ("green", "agrees") if agreement.passed else ("red", "DISAGREES")
    return (
        f"[{colour}]{other} {word}[/]: {agreement.predictions_equal} of {agreement.samples} predictions equal, "
        f"{agreement.mismatches:,} of {agreement.neuron_steps:,} neuron-steps differ "
        f"({agreement.mismatch_rate:.1e}, bound {agreement.bound:.0e}), "
        f"largest output difference {agreement.output_difference:.1e} "
        f"({agreement.output_error:.1e} of the largest output where all spikes are equal)"
    )


def print_agreement(agreement: Agreement, other: str) -> None:
    """Table, first mismatches and verdict."""
    print_table(agreement_table(agreement, other))
    for line in first_mismatches(agreement):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print(verdict(agreement, other), soft_wrap=True, markup=True)


def show_document(
    tables: Sequence[ReportTable],
    render: Callable[[str], str],
    output: Sequence[Path],
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Write a document where it is asked for, then print it as tables or JSON.

    Args:
        tables: What the terminal shows.
        render: Makes the document of a suffix.
        output: Files to write.
        force: Replace files that exist.
        as_json: Print the document as JSON instead.
    """
    from tcja_deploy.energy.render.documents import write_text
    from tcja_deploy.energy.render.formats import to_rich

    for path in output:  # first: a reader may close the pipe
        write_text(path, render, force=force)
    if as_json:
        typer.echo(render(".json"), nl=False)
        return
    for shown in tables:
        print_table(to_rich(shown))
    print_written(output)
