"""Whole documents: the arrangement of each report as HTML, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

from tcja_deploy.energy.render import report_tables as tables
from tcja_deploy.energy.render.confusion_tables import confusion_table
from tcja_deploy.energy.render.formats import one_line, to_csv, to_latex, to_markdown
from tcja_deploy.energy.render.html import Page
from tcja_deploy.energy.render.plots import Plot, rate_plots, report_plots
from tcja_deploy.energy.render.rate_tables import input_table, neuron_table, rates_table, step_table
from tcja_deploy.energy.render.reproduce_tables import reproduction_tables
from tcja_deploy.energy.render.table import Table, energy_text, recordings_text
from tcja_deploy.energy.report.rates import Rates
from tcja_deploy.energy.report.record import Report
from tcja_deploy.energy.report.reproduce import Reproduction
from tcja_deploy.errors import UsageError
from tcja_deploy.files import atomic_file, output_folder, staged_files

__all__ = [
    "FORMATS",
    "document_json",
    "plain",
    "rates_document",
    "report_document",
    "reproduction_document",
    "tables_document",
    "write_plots",
    "write_text",
]

FORMATS = (".html", ".json", ".csv", ".tex", ".md")
"""Formats in which a report can be written, by suffix."""


def write_text(path: Path, render: Callable[[str], str], *, force: bool = False) -> None:
    """Write the text that `render` returns for the path's suffix.

    Raises:
        UsageError: If the suffix is not one of `FORMATS`.
        ExportError: If the path exists and `force` is not set, or writing fails.
    """
    if path.suffix not in FORMATS:
        raise UsageError(
            f"cannot write a report as {path.suffix or 'a file without suffix'}", where=str(path),
            hint=f"use one of {', '.join(FORMATS)}",
        )  # fmt: skip
    text = render(path.suffix)
    with atomic_file(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def plain(value: Any) -> Any:
    """Records, fractions and names as JSON-ready values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def document_json(kind: str, value: Any) -> str:
    """A record as JSON that names its kind."""
    record = {"kind": kind, "schema": 2, **plain(value)}
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _joined(title: str, facts: Mapping[str, str], found: Sequence[Table], suffix: str) -> str:
    """Markdown or LaTeX of several tables."""
    title, facts = one_line(title), {k: one_line(v) for k, v in facts.items()}
    if suffix == ".tex":
        lines = [
            f"% {title}",
            r"% needs \usepackage{booktabs}",
            *(f"% {k}: {v}" for k, v in facts.items()),
            "",
        ]
        return "\n".join([*lines, *map(to_latex, found)])
    listed = [f"- {k}: {v}" for k, v in facts.items()]
    return "\n".join([f"# {title}", "", *listed, "", *map(to_markdown, found)])


def report_document(report: Report, suffix: str) -> str:
    """An energy report in one of the `FORMATS`.

    CSV holds every priced and unpriced line in long form, JSON the whole record, the other formats all tables.
    """
    if suffix == ".csv":
        return to_csv(tables.entries_table(report.estimates))
    if suffix == ".json":
        return document_json("tcja-deploy energy report", report)
    title = f"Energy report: {report.model['architecture']}"
    if suffix == ".html":
        return _report_page(title, report)
    return _joined(title, _facts(report), tables.all_tables(report), suffix)


def _facts(report: Report) -> dict[str, str]:
    return {**report.model, **report.options.facts, **report.provenance}


def rates_document(found: Rates, facts: Mapping[str, str], suffix: str) -> str:
    """Firing rates in one of the `FORMATS`."""
    if suffix == ".csv":
        return to_csv(rates_table(found))
    if suffix == ".json":
        return document_json("tcja-deploy firing rates", {**plain(found), "provenance": dict(facts)})
    listed = [neuron_table(found), input_table(found), step_table(found)]
    listed += [] if found.confusion is None else [confusion_table(found.confusion)]
    if suffix != ".html":
        return _joined("Firing rates", facts, listed, suffix)
    page = Page("Firing rates", f"{recordings_text(found.recordings)}, T = {found.steps} time steps")
    page.section("plots", "Plots")
    page.plots(rate_plots(found))
    page.section("tables", "Tables")
    for table in listed:
        page.table(table)
    page.section("provenance", "Provenance")
    page.facts(facts)
    return page.render()


def reproduction_document(found: Reproduction, facts: Mapping[str, str], suffix: str) -> str:
    """The paper's comparison in one of the `FORMATS`; CSV holds the implied rates and any measured energies."""
    listed = reproduction_tables(found)
    title = "The published comparison: 0.0019 J against 0.01 J"
    if suffix == ".csv":
        return "\n".join(map(to_csv, listed))
    if suffix == ".json":
        return document_json("tcja-deploy reproduction", {**plain(found), "provenance": dict(facts)})
    if suffix != ".html":
        return _joined(title, facts, listed, suffix)
    page = Page(title, found.published.source)
    for table in listed:
        page.section(table.key, table.title)
        page.table(table, titled=False)
    page.section("provenance", "Provenance")
    page.facts(facts)
    return page.render()


def tables_document(
    kind: str,
    title: str,
    facts: Mapping[str, str],
    found: Sequence[Table],
    suffix: str,
    plots: Sequence[Plot] = (),
) -> str:
    """Tables and plots in one of the `FORMATS`; CSV holds the first table, JSON the raw values of all.

    Args:
        kind: Kind that the JSON document names.
        title: Heading.
        facts: Where the numbers are from.
        found: The tables, most important first.
        suffix: Suffix of the format.
        plots: Plots, for HTML.
    """
    if suffix == ".csv":
        return to_csv(found[0])
    if suffix == ".json":
        return document_json(kind, {**{t.key: t.records() for t in found}, "provenance": dict(facts)})
    if suffix != ".html":
        return _joined(title, facts, found, suffix)
    page = Page(title, "")
    if plots:
        page.section("plots", "Plots")
        page.plots(plots)
    for table in found:
        page.section(table.key, table.title)
        page.table(table, titled=False)
    page.section("provenance", "Provenance")
    page.facts(facts)
    return page.render()


def write_plots(folder: Path, plots: Sequence[Plot], *, force: bool = False) -> list[Path]:
    """Write plots as SVG files into a folder, which is created if it is missing.

    Raises:
        ExportError: If a file exists and `force` is not set, or writing fails.
    """
    texts = {f"{plot.key}.svg": plot.svg for plot in plots}
    with output_folder(folder), staged_files(folder, list(texts), force=force) as partial:
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    return [folder / name for name in texts]


def _report_page(title: str, report: Report) -> str:
    by_key = {t.key: t for t in tables.all_tables(report)}
    plots = {p.key: p for p in report_plots(report)}
    page = Page(
        title,
        f"{recordings_text(report.recordings)}, T = {report.steps} time steps. Energies are per inference, which is all "
        f"{report.steps} steps, unless labelled per step.",
    )
    page.cards(_cards(report))
    for entry in report.unsupported:
        page.warning(f"Not counted: {entry.node}: {entry.reason}")
    for fit in report.fits:
        if fit.violations:
            page.warning(
                f"{fit.profile}: {fit.verdict}. Its energies say what the operations would cost, no more."
            )
    layout = [
        ("energy", "Energy", ["energy_", "energy", "first_layer"]),
        ("thresholds", "Against published break-even points", ["thresholds"]),
        ("layers", "Layers", ["energy_by_node", "layers", "synops"]),
        ("operations", "All other operations", ["operations", "coverage"]),
        ("rates", "Activity", ["rates", "rates_over_time", "rate_histogram", "input_rates"]),
        ("predictions", "Predictions", ["confusion"]),
        ("sensitivity", "Sensitivity", ["sensitivity_"]),
        ("fit", "Fit on chips", ["fit", "fit_"]),
        ("unpriced", "Unpriced work", ["unpriced"]),
        ("conventions", "Conventions", ["conventions"]),
        ("assumptions", "Assumptions", ["assumptions"]),
    ]
    for anchor, heading, keys in layout:
        drawn, listed = _matching(plots, keys), _matching(by_key, keys)
        if drawn or listed:
            page.section(anchor, heading)
            page.plots(drawn)
            for table in listed:
                page.table(table)
    page.section("provenance", "Provenance")
    page.facts(_facts(report))
    return page.render()


def _matching(found: Mapping[str, Any], keys: Sequence[str]) -> list[Any]:
    """Entries by key; a key that ends in an underscore stands for all keys that begin with it."""
    picked: dict[str, Any] = {}
    for key in keys:
        for name, value in found.items():
            numbered = key.endswith("_") and name.startswith(key) and name not in ("energy_by_node",)
            if name == key or numbered:
                picked.setdefault(name, value)
    return list(picked.values())


def _cards(report: Report) -> list[tuple[str, str]]:
    cards: list[tuple[str, str]] = []
    shown: set[str] = set()  # one card per convention, for the first profile that prices it
    for e in report.estimates:
        if e.subject == "SNN" and e.energy_pJ is not None and e.convention not in shown:
            shown.add(e.convention)
            more = "" if e.complete else "≥ "
            cards.append(
                (f"{more}{energy_text(e.energy_pJ.mean)}", f"SNN per inference, {e.convention}, {e.profile}")
            )
    if report.spikes_per_synapse is not None:
        cards.append((f"{report.spikes_per_synapse:.3g}", "spikes per synapse and inference"))
    return cards
