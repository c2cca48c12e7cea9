"""The tables of an energy report (energies, sensitivity, unpriced work, definitions) and the order of all tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tcja_deploy.energy.count.inventory import Purpose
from tcja_deploy.energy.place.placement import Fit
from tcja_deploy.energy.price.estimate import EnergyEstimate
from tcja_deploy.energy.render.chip_tables import additions_table, fits_table, populations_table
from tcja_deploy.energy.render.confusion_tables import confusion_table
from tcja_deploy.energy.render.network_tables import (
    coverage_table,
    layers_table,
    synops_table,
    thresholds_table,
    works_table,
)
from tcja_deploy.energy.render.rate_tables import input_table, neuron_table
from tcja_deploy.energy.render.table import NOTHING, Column, Table, energy_text, recordings_text
from tcja_deploy.energy.report.record import Report

__all__ = ["all_tables", "entries_table", "summary_tables"]


def summary_tables(report: Report) -> list[Table]:
    """Tables for the terminal: the same with fewer columns, and the unpriced work in one line per estimate."""
    synops = synops_table(report)
    tables = [
        _brief(totals_table(report)),
        first_layer_table(report).only("treatment", "energy_pJ", "ci95_pJ", "chosen"),
        replace(synops, notes=synops.notes[:1]).only(
            "layer", "input_kind", "rate", "synops_exact", "synops_by_rate", "ratio"
        ),
        thresholds_table(report).only("name", "value", "low", "high", "verdict"),
        fits_table(report).only("profile", "cores", "chips", "verdict"),
        _unpriced_summary(report),
    ]
    return [t for t in tables if t.rows]


ELSEWHERE, TOO_LARGE = "prices of another chip", "the network does not fit the chip"
"""Remarks that must appear next to a number."""

_TOTALS = ("convention", "profile", "network", "bound", "energy_pJ", "ci95_pJ", "ratio_to_snn")


def _brief(totals: Table) -> Table:
    """The energy table in 80 columns: without versions (the files have them), with remarks below the table."""
    remarks: dict[str, list[str]] = {}
    for _, profile, *_, remark in totals.rows:
        for text in remark.split("; "):
            if text in (ELSEWHERE, TOO_LARGE):
                remarks.setdefault(text, []).append(profile.partition(" ")[0])
    notes = tuple(f"{', '.join(dict.fromkeys(names))}: {text}." for text, names in remarks.items())
    rows = tuple(
        (
            c.partition(" ")[0],
            p.partition(" ")[0],
            n,
            NOTHING if e is None else f"{bound} {energy_text(e)}".strip(),
            ci,
            x,
        )
        for c, p, n, bound, e, ci, x in totals.only(*_TOTALS).rows
    )
    energy = Column("energy", "Energy", "label")
    kept = [c for c in totals.columns if c.key in _TOTALS and c.key != "bound"]
    columns = tuple(energy if c.key == "energy_pJ" else c for c in kept)
    return replace(totals, columns=columns, rows=rows, notes=(*totals.notes, *notes))


def _unpriced_summary(report: Report) -> Table:
    groups: dict[str, list[str]] = {}
    for e in report.estimates:
        by_purpose: dict[str, float] = {}
        for u in e.unpriced:
            by_purpose[u.purpose] = by_purpose.get(u.purpose, 0.0) + u.count
        if by_purpose:
            text = ", ".join(
                p if p == Purpose.STATIC.value else f"{p} ({n:,.0f})" for p, n in by_purpose.items()
            )
            network = "" if e.subject == "SNN" else f", {e.subject}"
            groups.setdefault(text, []).append(f"{e.convention}, {e.profile}{network}")
    columns = (Column("estimates", "Estimate"), Column("unpriced", "Unpriced operations per inference"))
    rows = tuple(("\n".join(names), text) for text, names in groups.items())
    return Table(
        "unpriced", "Unpriced work: counted, never taken for zero; a report (-o) says why", columns, rows
    )


def all_tables(report: Report) -> list[Table]:
    """All tables, in the order of the files."""
    tables = [
        totals_table(report),
        first_layer_table(report),
        thresholds_table(report),
        layers_table(report),
        synops_table(report),
        nodes_table(report),
        works_table(report),
        neuron_table(report.rates),
        input_table(report.rates),
        *([] if report.rates.confusion is None else [confusion_table(report.rates.confusion)]),
        *tornado_tables(report),
        fits_table(report),
        *(populations_table(fit) for fit in report.fits),
        *(additions_table(fit) for fit in report.fits if fit.added),
        unpriced_table(report),
        coverage_table(report),
        definitions_table(report),
        assumptions_table(report),
    ]
    return [t for t in tables if t.rows]


def _ratio(report: Report, e: EnergyEstimate) -> float | None:
    """Energy of a counterpart divided by that of the spiking network, under the same convention and profile."""
    snn = next(
        x
        for x in report.estimates
        if (x.convention, x.profile, x.subject) == (e.convention, e.profile, "SNN")
    )
    if e.subject == "SNN" or e.energy_pJ is None or snn.energy_pJ is None or not snn.energy_pJ.mean:
        return None
    return e.energy_pJ.mean / snn.energy_pJ.mean


def _fit_of(report: Report, e: EnergyEstimate) -> Fit | None:
    return next((f for f in report.fits if e.profile.startswith(f"{f.profile}:")), None)


def totals_table(report: Report) -> Table:
    """Total energy of every estimate."""
    rows = []
    for e in report.estimates:
        fit = _fit_of(report, e)
        remarks = [] if e.complete else ["some work has no price"]
        if any("the price is that of" in text for text in e.assumptions):
            remarks.append(ELSEWHERE)
        if fit is not None and fit.violations:
            remarks.append(TOO_LARGE)
        energy = None if e.energy_pJ is None else e.energy_pJ.mean
        interval = None if e.energy_pJ is None else e.energy_pJ.interval
        spread = interval is not None and interval.low < interval.high
        prices = e.prices_pJ
        rows.append(
            (
                e.convention,
                e.profile,
                e.subject,
                "" if e.complete else "≥",
                energy,
                (interval.low, interval.high) if interval is not None and spread else None,
                None if prices is None or prices.low == prices.high else (prices.low, prices.high),
                e.per_step_pJ if e.steps > 1 else None,
                _ratio(report, e),
                "no price is published" if energy is None else "; ".join(remarks),
            )
        )
    return Table(
        "energy",
        f"Energy per inference (T = {report.steps} steps), mean of {recordings_text(report.recordings)}",
        (
            Column("convention", "Convention"),
            Column("profile", "Prices"),
            Column("network", "Network"),
            Column("bound", "Bound"),
            Column("energy_pJ", "Energy / inference", "energy"),
            Column("ci95_pJ", "95 % interval", "energies"),
            Column("price_range_pJ", "Price range", "energies"),
            Column("energy_per_step_pJ", "Energy / step", "energy"),
            Column("ratio_to_snn", "× SNN", "number", 3),
            Column("remark", "Remark"),
        ),
        tuple(rows),
        (
            "95 % interval of the mean: bootstrap over recordings. ANN, QNN: the same layers in one pass, ReLU for the "
            "neurons. × SNN: energy over that of the SNN. ≥: some work has no published price.",
        ),
    )


def first_layer_table(report: Report) -> Table:
    """The `paper` energy under each treatment of the first layer."""
    rows = []
    for row in report.first_layer:
        interval = row.snn.interval
        chosen = "used above" if row.treatment is report.options.first_layer else ""
        rows.append(
            (
                row.treatment.value,
                row.treatment.meaning,
                row.snn.mean,
                interval and (interval.low, interval.high),
                chosen,
            )
        )
    return Table(
        "first_layer",
        f"Convention 'paper', SNN per inference, by treatment of the first layer ({report.first_layer_profile})",
        (
            Column("treatment", "First layer"),
            Column("meaning", "Meaning"),
            Column("energy_pJ", "Energy / inference", "energy"),
            Column("ci95_pJ", "95 % interval", "energies"),
            Column("chosen", "Choice"),
        ),
        tuple(rows),
        ("The network's input is dense: without a rate, ac and mac-nnz are T dense passes of MACs as well.",)
        if any(x.first and x.rate is None for x in report.layers)
        else (),
    )


def nodes_table(report: Report) -> Table:
    """Mean energy of the spiking network by node, one column per estimate."""
    mine = [e for e in report.estimates if e.subject == "SNN" and e.energy_pJ is not None]
    columns = [Column("node", "Node")]
    columns += [
        Column(f"{e.convention} {e.profile} pJ", f"{e.convention}, {e.profile}", "energy") for e in mine
    ]
    met = {name for e in mine for name, _ in e.nodes}
    order = [c.node for c in report.coverage]  # in the order of the network; work of no node comes last
    names = [*(n for n in order if n in met), *sorted(met.difference(order))]
    by_node = [dict(e.nodes) for e in mine]
    rows = tuple((name, *(nodes.get(name) for nodes in by_node)) for name in names)
    return Table("energy_by_node", "Energy per inference by node (SNN)", tuple(columns), rows)


def tornado_tables(report: Report) -> list[Table]:
    """Sensitivity."""
    columns = (
        Column("choice", "Choice"),
        Column("low", "Lower end"),
        Column("low_pJ", "Energy / inference", "energy"),
        Column("high", "Upper end"),
        Column("high_pJ", "Energy / inference", "energy"),
        Column("swing_pJ", "Swing", "energy"),
    )
    tables = []
    for i, t in enumerate(report.tornados):
        rows = tuple((b.name, b.low, b.low_pJ, b.high, b.high_pJ, b.swing) for b in t.bars)
        title = f"Sensitivity of {t.base} (SNN, base {energy_text(t.base_pJ)} per inference)"
        tables.append(
            Table(
                f"sensitivity_{i}",
                title,
                columns,
                rows,
                ("One choice at a time, all others as in the base.",),
            )
        )
    return tables


def unpriced_table(report: Report) -> Table:
    """Work without a price."""
    rows: dict[tuple[str, str, str, str], float] = {}
    for e in report.estimates:
        for u in e.unpriced:
            key = (
                f"{e.convention}, {e.profile}" + ("" if e.subject == "SNN" else f", {e.subject}"),
                u.purpose,
                u.reason,
                u.operation,
            )
            rows[key] = rows.get(key, 0.0) + u.count
    return Table(
        "unpriced",
        "Unpriced work per inference: counted, never taken for zero",
        (
            Column("estimate", "Estimate"),
            Column("purpose", "Purpose"),
            Column("operation", "Operation"),
            Column("count", "Count", "int"),
            Column("reason", "Why there is no price"),
        ),
        tuple((where, purpose, op, n, why) for (where, purpose, why, op), n in rows.items()),
    )


def definitions_table(report: Report) -> Table:
    """What each convention adds up."""
    rows: list[tuple[str, str, str]] = []
    for c in report.conventions:
        rows += [(c.label, "adds", text) for text in c.formulas]
        rows += [(c.label, "leaves out", text) for text in c.excluded]
        rows += [(c.label, "source", text) for text in c.sources]
    columns = (Column("convention", "Convention"), Column("what", "What"), Column("text", "Definition"))
    return Table("conventions", "Conventions", columns, tuple(rows))


def assumptions_table(report: Report) -> Table:
    """Assumptions made to use the prices, and the sources of the prices."""
    rows: dict[tuple[str, str, str], None] = {}
    for e in report.estimates:
        for text in e.assumptions:
            rows[e.profile, "assumes", text] = None
        for text in e.sources:
            rows[e.profile, "price from", text] = None
    columns = (Column("profile", "Prices"), Column("what", "What"), Column("text", "Text"))
    return Table("assumptions", "Assumptions and sources of prices", columns, tuple(rows))


def entries_table(estimates: Sequence[EnergyEstimate]) -> Table:
    """Every line of every estimate in long form, from which all sums can be recomputed."""
    rows = tuple(
        (
            e.convention,
            e.profile,
            e.subject,
            x.node,
            x.purpose,
            x.what,
            x.operation,
            x.count,
            x.price_pJ,
            x.energy_pJ,
        )
        for e in estimates
        for x in e.entries
    )
    return Table(
        "entries",
        "All priced and unpriced lines, per inference",
        (
            Column("convention", "Convention"),
            Column("profile", "Prices"),
            Column("network", "Network"),
            Column("node", "Node"),
            Column("purpose", "Purpose"),
            Column("what", "Operation in the network"),
            Column("operation", "Priced as"),
            Column("count_per_inference", "Count", "number"),
            Column("price_pJ", "Price", "energy"),
            Column("energy_pJ_per_inference", "Energy / inference", "energy"),
        ),
        rows,
    )
