"""Tables of the paper's comparison."""

from __future__ import annotations

from tcja_deploy.energy.render.table import Column, Table, energy_text, recordings_text
from tcja_deploy.energy.report.reproduce import Comparison, Reproduction

__all__ = ["reproduction_summary", "reproduction_tables"]


def reproduction_tables(found: Reproduction) -> list[Table]:
    """Networks, implied rates, and the measured comparison if there is one."""
    tables = [_networks(found), _implied(found)]
    return tables if found.measured is None else [*tables, _measured(found.measured, found.profile)]


def reproduction_summary(found: Reproduction) -> list[Table]:
    """The same tables with fewer columns, for a terminal of 80 characters."""
    networks, implied, *measured = reproduction_tables(found)
    return [
        networks.only("network", "steps", "macs", "ann_pJ", "one_digit", "implied_rate"),
        implied.only("treatment", "meaning", "first_pJ", "rate", "rate_interval"),
        *measured,
    ]


def _networks(found: Reproduction) -> Table:
    rows = tuple(
        (
            n.name,
            n.steps,
            n.macs,
            n.ann_J * 1e12,
            "yes" if n.one_digit else "no",
            "yes" if n.two_decimals else "no",
            n.implied,
        )
        for n in found.networks
    )
    return Table(
        "networks",
        f"ANN: one dense pass x 4.6 pJ ({found.profile}); the paper prints {found.published.ann_J:g} J",
        (
            Column("network", "Network"),
            Column("steps", "T", "int"),
            Column("macs", "MACs of one pass", "int"),
            Column("ann_pJ", "ANN energy / inference", "energy", 5),
            Column("one_digit", "0.01 J to one digit"),
            Column("two_decimals", "0.01 J to two decimals"),
            Column("implied_rate", "Input rate for 0.0019 J", "percent"),
        ),
        rows,
        (
            f"Inference: the comparison is about {found.chosen}, because",
            *(f"- {reason}" for reason in found.reasons),
        ),
    )


def _implied(found: Reproduction) -> Table:
    rows = tuple(
        (i.treatment.value, i.treatment.meaning, i.first_J * 1e12, i.rate, i.interval and (i.interval.low, i.interval.high),
         "possible" if i.rate is not None else "impossible")
        for i in found.implied
    )  # fmt: skip
    low, high = found.published.snn_rounding.low, found.published.snn_rounding.high
    return Table(
        "implied",
        f"Mean input rate of {found.chosen} that {found.published.snn_J:g} J means, by treatment of the first layer",
        (
            Column("treatment", "First layer"),
            Column("meaning", "Meaning"),
            Column("first_pJ", "First layer at any rate", "energy"),
            Column("rate", "Implied rate", "percent"),
            Column("rate_interval", f"for {low:g} – {high:g} J", "percents"),
            Column("verdict", "Verdict"),
        ),
        rows,
        (
            "MAC-weighted mean rate over the T steps of the layers that are not fixed; mac-nnz: the same rate in all layers. "
            "No rate: impossible, the first layer alone costs more. Arithmetic on published numbers, not a measurement; no "
            "rate is tuned anywhere.",
        ),
    )


def _measured(m: Comparison, profile: str) -> Table:
    rows = tuple(
        (row.treatment.value, row.snn.mean, row.snn.interval and (row.snn.interval.low, row.snn.interval.high),
         m.ann_J * 1e12 / row.snn.mean if row.snn.mean else None, verdict)
        for row, verdict in zip(m.rows, m.verdicts, strict=True)
    )  # fmt: skip
    notes = [f"ANN: {m.macs:,} MACs of one pass, {energy_text(m.ann_J * 1e12)}."]
    if m.rate is not None:
        notes.append(f"Measured mean input rate {100 * m.rate:.2f} % (weighted by MACs).")
    if not m.same_network:
        notes.append(
            "The published 0.0019 J is about another network (its MACs differ), so there is no verdict on it."
        )
    return Table(
        "measured",
        f"Measured: {m.name}, T = {m.steps}, {recordings_text(m.recordings)}, convention 'paper', {profile}",
        (
            Column("treatment", "First layer"),
            Column("snn_pJ", "SNN energy / inference", "energy"),
            Column("snn_ci95_pJ", "95 % interval", "energies"),
            Column("ratio", "ANN ÷ SNN", "number", 3),
            Column("verdict", "0.0019 J"),
        ),
        rows,
        tuple(notes),
    )
