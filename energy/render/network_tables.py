"""Tables of a report about the network: layers, synaptic operations, all other work, coverage, break-even points."""

from __future__ import annotations

from tcja_deploy.energy.count.inventory import Status
from tcja_deploy.energy.render.table import Column, Table, shape_text
from tcja_deploy.energy.report.record import Report

__all__ = ["coverage_table", "layers_table", "synops_table", "thresholds_table", "works_table"]


def layers_table(report: Report) -> Table:
    """Layers with weights: their shapes and sizes."""
    rows = tuple(
        (
            x.node, x.op, "attention" if x.attention else "first" if x.first else "", shape_text(x.shape_in),
            shape_text(x.shape_out), x.kind, x.parameters, x.macs.passes, x.macs.dense, x.macs.border_aware,
        )
        for x in report.layers
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
            Column("passes", "Passes / inference", "int"),
            Column("macs_dense", "MACs / pass, dense", "int"),
            Column("macs_border_aware", "MACs / pass, border-aware", "int"),
        ),
        rows,
    )


def synops_table(report: Report) -> Table:
    """Layers with weights: their synaptic operations."""
    rows = []
    for x in report.layers:
        rate, exact, so = x.rate, x.synops.mean, x.synops.interval
        ci = rate and rate.interval
        rows.append(
            (
                x.node, x.kind, rate and rate.mean, ci and (ci.low, ci.high), exact, so and (so.low, so.high),
                x.synops_by_rate, x.synops_by_rate / exact if exact else None, x.unit, x.integer, x.real,
            )
        )  # fmt: skip
    return Table(
        "synops",
        "Synaptic operations (SOPs) per inference",
        (
            Column("layer", "Layer"),
            Column("input_kind", "Input kind"),
            Column("rate", "Input rate", "percent"),
            Column("rate_ci95", "95 % interval", "percents"),
            Column("synops_exact", "SOPs, exact", "int"),
            Column("synops_ci95", "95 % interval", "counts"),
            Column("synops_by_rate", "SOPs, rate × T × MACs", "int"),
            Column("ratio", "formula ÷ exact", "number"),
            Column("share_unit", "by 1", "percent"),
            Column("share_integer", "by other whole", "percent"),
            Column("share_real", "by fraction", "percent"),
        ),
        tuple(rows),
        (
            "Input rate: non-zero elements of what the layer reads, after pooling and gate. SOPs: weights met by non-zero "
            "inputs, counted exactly; a dense input meets every weight.",
            "By 1, by other whole, by fraction: share of the SOPs that such inputs cause.",
        ),
    )


def works_table(report: Report) -> Table:
    """All operations besides synapses."""
    rows = tuple((w.node, w.purpose, w.what, w.operation, w.dense, w.counted) for w in report.operations)
    return Table(
        "operations",
        "Operations besides synapses, per inference",
        (
            Column("node", "Node"),
            Column("purpose", "Purpose"),
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
        ("Derived for other networks and hardware, Yan et al. for T = 5: a hint, not a result.",),
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
