"""Tables of a report about chips: whether the network fits, and which limits are binding."""

from __future__ import annotations

from tcja_deploy.energy.place.placement import Fit
from tcja_deploy.energy.render.table import Column, Table, shape_text
from tcja_deploy.energy.report.record import Report

__all__ = ["additions_table", "fits_table", "populations_table"]


def fits_table(report: Report) -> Table:
    """Whether and how the network fits each chip."""
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


def additions_table(fit: Fit) -> Table:
    """What branches require on one chip."""
    rows = tuple(
        (a.addition.kind, a.addition.node, a.addition.source, a.addition.elements, a.addition.steps, a.where, a.cores)
        for a in fit.added
    )  # fmt: skip
    return Table(
        f"fit_{fit.profile}_added",
        f"Besides layers on {fit.profile}",
        (
            Column("kind", "Part"),
            Column("node", "At"),
            Column("source", "Value"),
            Column("elements", "Values / step", "int"),
            Column("steps", "Steps", "int"),
            Column("where", "Computed by"),
            Column("cores", "Cores", "int"),
        ),
        rows,
        ("Relays send sums of real numbers on; programs are attention; docs/energy.md, Placement.",),
    )
