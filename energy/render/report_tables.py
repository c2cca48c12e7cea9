"""The tables of an energy report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tcja_deploy.energy.counts import Part, Status
from tcja_deploy.energy.estimate import Estimate
from tcja_deploy.energy.placement import Fit
from tcja_deploy.energy.render.rate_tables import input_table, neuron_table
from tcja_deploy.energy.render.table import NOTHING, Column, Table, energy_text, shape_text
from tcja_deploy.energy.report import Report

__all__ = ["all_tables", "entries_table", "summary_tables"]


def summary_tables(report: Report) -> list[Table]:
    """What the terminal shows: the same tables with fewer columns, and what is unpriced in one line an
    estimate."""
    tables = [
        _brief(totals_table(report).only(*_TOTALS)),
        first_layer_table(report).only("treatment", "energy_pJ", "ci95_pJ", "chosen"),
        layers_table(report).only("layer", "input_kind", "rate", "synops_exact", "synops_by_rate", "ratio"),
        thresholds_table(report).only("name", "value", "low", "high", "verdict"),
        fits_table(report).only("profile", "cores", "chips", "verdict"),
        _unpriced_summary(report),
    ]
    return [t for t in tables if t.rows]


_TOTALS = ("convention", "profile", "network", "bound", "energy_pJ", "ci95_pJ", "ratio_to_snn")


def _brief(totals: Table) -> Table:
    """Without the versions, which the files have, and with the bound in front of the energy: it fits 80
    columns."""
    rows = tuple(
        (
            c.partition(" ")[0],
            p.partition(" ")[0],
            n,
            NOTHING if e is None else f"{bound} {energy_text(e)}".strip(),
            ci,
            x,
        )
        for c, p, n, bound, e, ci, x in totals.rows
    )
    energy = Column("energy", "Energy", "label")
    columns = tuple(energy if c.key == "energy_pJ" else c for c in totals.columns if c.key != "bound")
    return replace(totals, columns=columns, rows=rows)


def _unpriced_summary(report: Report) -> Table:
    groups: dict[str, list[str]] = {}
    for e in report.estimates:
        parts: dict[str, float] = {}
        for u in e.unpriced:
            parts[u.part] = parts.get(u.part, 0.0) + u.count
        if parts:
            text = ", ".join(p if p == Part.STATIC.value else f"{p} ({n:,.0f})" for p, n in parts.items())
            network = "" if e.subject == "SNN" else f", {e.subject}"
            groups.setdefault(text, []).append(f"{e.convention}, {e.profile}{network}")
    columns = (Column("estimates", "Estimate"), Column("unpriced", "Unpriced operations per inference"))
    rows = tuple(("\n".join(names), text) for text, names in groups.items())
    return Table(
        "unpriced", "Unpriced work: counted, never taken for zero; a report (-o) says why", columns, rows
    )


def all_tables(report: Report) -> list[Table]:
    """Every table, in the order of the files."""
    tables = [
        totals_table(report),
        first_layer_table(report),
        thresholds_table(report),
        layers_table(report),
        nodes_table(report),
        works_table(report),
        neuron_table(report.rates),
        input_table(report.rates),
        *tornado_tables(report),
        fits_table(report),
        *(populations_table(fit) for fit in report.fits),
        unpriced_table(report),
        coverage_table(report),
        definitions_table(report),
    ]
    return [t for t in tables if t.rows]


def _ratio(report: Report, e: Estimate) -> float | None:
    """Energy of a twin over that of the spiking network, same convention and profile."""
    snn = next(
        x
        for x in report.estimates
        if (x.convention, x.profile, x.subject) == (e.convention, e.profile, "SNN")
    )
    if e.subject == "SNN" or e.energy_pJ is None or snn.energy_pJ is None or not snn.energy_pJ.mean:
        return None
    return e.energy_pJ.mean / snn.energy_pJ.mean


def _fit_of(report: Report, e: Estimate) -> Fit | None:
    return next((f for f in report.fits if e.profile.startswith(f"{f.profile}:")), None)


def totals_table(report: Report) -> Table:
    """Every estimate."""
    rows = []
    for e in report.estimates:
        fit = _fit_of(report, e)
        remarks = [] if e.complete else ["some work has no price"]
        if fit is not None and fit.violations:
            remarks.append("the network does not fit the chip")
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
        f"Energy per inference (T = {report.steps} steps), mean of {report.recordings} recordings",
        (
            Column("convention", "Convention"),
            Column("profile", "Prices"),
            Column("network", "Network"),
            Column("bound", ""),
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
            Column("chosen", ""),
        ),
        tuple(rows),
    )


def layers_table(report: Report) -> Table:
    """Layers with weights."""
    rows = []
    for x in report.layers:
        rate = x.rate
        ci = rate and rate.interval
        so = x.synops.interval
        role = "attention" if x.attention else "first" if x.first else ""
        exact = x.synops.mean
        rows.append(
            (
                x.node, x.op, role, shape_text(x.shape_in), shape_text(x.shape_out), x.kind, x.parameters,
                x.macs.dense, x.macs.aware, rate and rate.mean, ci and (ci.low, ci.high),
                exact, so and (so.low, so.high), x.synops_by_rate,
                x.synops_by_rate / exact if exact else None, x.unit, x.integer, x.real,
            )
        )  # fmt: skip
    return Table(
        "layers",
        "Layers with weights",
        (
            Column("layer", "Layer"),
            Column("op", "Op"),
            Column("role", "Role"),
            Column("shape_in", "Input"),
            Column("shape_out", "Output"),
            Column("input_kind", "Input kind"),
            Column("parameters", "Weights", "int"),
            Column("macs_dense_per_step", "MACs / step, dense", "int"),
            Column("macs_border_aware_per_step", "MACs / step, border-aware", "int"),
            Column("rate", "Input rate", "percent"),
            Column("rate_ci95", "95 % interval", "percents"),
            Column("synops_exact", "SOPs / inference, exact", "int"),
            Column("synops_ci95", "95 % interval", "counts"),
            Column("synops_by_rate", "SOPs / inference, rate × T × MACs", "int"),
            Column("ratio", "formula ÷ exact", "number"),
            Column("share_unit", "by 1", "percent"),
            Column("share_integer", "by other whole", "percent"),
            Column("share_real", "by fraction", "percent"),
        ),
        tuple(rows),
        (
            "Input rate: non-zero elements of what the layer reads, after pooling and gate. SOPs: weights met by non-zero "
            "inputs, counted exactly (dense inputs meet every weight). The last three columns say which inputs caused them.",
        ),
    )


def nodes_table(report: Report) -> Table:
    """Mean energy of the spiking network by node, one column an estimate."""
    mine = [e for e in report.estimates if e.subject == "SNN" and e.energy_pJ is not None]
    columns = [Column("node", "Node")]
    columns += [
        Column(f"{e.convention} {e.profile} pJ", f"{e.convention}, {e.profile}", "energy") for e in mine
    ]
    names = dict.fromkeys(name for e in mine for name, _ in e.nodes)
    by_node = [dict(e.nodes) for e in mine]
    rows = tuple((name, *(nodes.get(name) for nodes in by_node)) for name in names)
    return Table("energy_by_node", "Energy per inference by node (SNN)", tuple(columns), rows)


def works_table(report: Report) -> Table:
    """All operations besides synapses."""
    rows = tuple((w.node, w.part, w.what, w.operation, w.dense, w.counted) for w in report.works)
    return Table(
        "operations",
        "Operations besides synapses, per inference",
        (
            Column("node", "Node"),
            Column("part", "Part"),
            Column("what", "Operation in the network"),
            Column("operation", "Counted as"),
            Column("dense", "Every element", "int"),
            Column("counted", "Counted", "int"),
        ),
        rows,
        ("Counted: mean over the recordings; fewer than every element where silent elements cost nothing.",),
    )


def thresholds_table(report: Report) -> Table:
    """Published break-even points."""
    rows = tuple(
        (v.threshold.name, v.threshold.quantity, v.value, v.threshold.low, v.threshold.high, v.text,
         v.threshold.condition, v.threshold.source)
        for v in report.verdicts
    )  # fmt: skip
    return Table(
        "thresholds",
        "Published break-even points",
        (
            Column("name", "Publication"),
            Column("quantity", "Quantity"),
            Column("value", "This network", "number"),
            Column("low", "From", "number"),
            Column("high", "To", "number"),
            Column("verdict", "Verdict"),
            Column("condition", "Derived for"),
            Column("source", "Source"),
        ),
        rows,
    )


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
        base = Column("", "", "energy").text(t.base_pJ)
        title = f"Sensitivity of {t.base} (SNN, base {base} per inference)"
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


def fits_table(report: Report) -> Table:
    """Chips."""
    rows = tuple(
        (
            f.profile,
            f.cores,
            f.cores_per_chip,
            f.chips,
            f.weight_bit,
            f.verdict,
            ", ".join(f.unchecked) or "none",
        )
        for f in report.fits
    )
    return Table(
        "fit",
        "Does it fit?",
        (
            Column("profile", "Chip"),
            Column("cores", "Cores needed", "int"),
            Column("cores_per_chip", "Cores / chip", "int"),
            Column("chips", "Chips", "int"),
            Column("weight_bit", "Bits / weight", "int"),
            Column("verdict", "Verdict"),
            Column("unchecked", "Limits not published"),
        ),
        rows,
        (
            "Placement by channel and spatial splitting, weights shared inside a core; docs/energy.md, Placement.",
        ),
    )


def populations_table(fit: Fit) -> Table:
    """Each layer on one chip."""
    rows = tuple(
        (p.node, p.neurons, p.slice and shape_text(p.slice), p.slices and shape_text(p.slices), p.cores, p.binding,
         ", ".join(f"{name} {'impossible' if n is None else f'{n:,}'}" for name, n in p.alone) or "–")
        for p in fit.populations
    )  # fmt: skip
    return Table(
        f"fit_{fit.profile}",
        f"Placement on {fit.profile}: {fit.verdict}",
        (
            Column("layer", "Layer"),
            Column("neurons", "Neurons", "int"),
            Column("slice", "Channels × rows × columns per core"),
            Column("slices", "Slices"),
            Column("cores", "Cores", "int"),
            Column("binding", "Binding limit"),
            Column("alone", "Cores by each limit alone"),
        ),
        rows,
        tuple(f"Exceeded: {v}" for v in fit.violations),
    )


def unpriced_table(report: Report) -> Table:
    """Work without a price."""
    rows: dict[tuple[str, str, str, str], float] = {}
    for e in report.estimates:
        for u in e.unpriced:
            key = (
                f"{e.convention}, {e.profile}" + ("" if e.subject == "SNN" else f", {e.subject}"),
                u.part,
                u.reason,
                u.operation,
            )
            rows[key] = rows.get(key, 0.0) + u.count
    return Table(
        "unpriced",
        "Unpriced work per inference: counted, never taken for zero",
        (
            Column("estimate", "Estimate"),
            Column("part", "Part"),
            Column("operation", "Operation"),
            Column("count", "Count", "int"),
            Column("reason", "Why there is no price"),
        ),
        tuple((where, part, op, n, why) for (where, part, why, op), n in rows.items()),
    )


def coverage_table(report: Report) -> Table:
    """Nodes that are not counted, and why."""
    rows = tuple(
        (c.node, c.op, c.status.value, c.reason) for c in report.coverage if c.status is not Status.COUNTED
    )
    counted = sum(c.status is Status.COUNTED for c in report.coverage)
    return Table(
        "coverage",
        f"Nodes not counted ({counted} of {len(report.coverage)} nodes are)",
        (Column("node", "Node"), Column("op", "Op"), Column("status", "Status"), Column("reason", "Why")),
        rows,
    )


def definitions_table(report: Report) -> Table:
    """What each convention adds up."""
    rows: list[tuple[str, str, str]] = []
    for c in report.conventions:
        rows += [(c.label, "adds", text) for text in c.formulas]
        rows += [(c.label, "leaves out", text) for text in c.excluded]
        rows += [(c.label, "source", text) for text in c.sources]
    columns = (Column("convention", "Convention"), Column("what", ""), Column("text", "Definition"))
    return Table("conventions", "Conventions", columns, tuple(rows))


def entries_table(estimates: Sequence[Estimate]) -> Table:
    """Every line of every estimate in long form: the table from which all sums can be made again."""
    rows = tuple(
        (
            e.convention,
            e.profile,
            e.subject,
            x.node,
            x.part,
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
            Column("part", "Part"),
            Column("what", "Operation in the network"),
            Column("operation", "Priced as"),
            Column("count_per_inference", "Count", "number"),
            Column("price_pJ", "Price", "energy"),
            Column("energy_pJ_per_inference", "Energy / inference", "energy"),
        ),
        rows,
    )
