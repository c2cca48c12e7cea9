"""Tables and the plot of a comparison of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcja_deploy.energy.price.statistics import Interval, Summary
from tcja_deploy.energy.render.plots import Plot, energy_scale
from tcja_deploy.energy.render.table import Column, Table, recordings_text
from tcja_deploy.energy.report.comparison import NetworkComparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["comparison_plots", "comparison_tables"]


def _ends(interval: Interval | None, scale: float) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (scale * interval.low, scale * interval.high)


def _value(summary: Summary | None) -> float | None:
    return None if summary is None else summary.mean


def _networks_table(found: NetworkComparison) -> Table:
    columns = [
        Column("model", "Model"),
        Column("accuracy", "Accuracy", "percent"),
        Column("parameters", "Parameters", "int"),
        Column("timesteps", "T", "int"),
        Column("macs", "MACs", "int"),
        Column("synops", "SOPs", "int"),
        Column("rate", "Rate", "percent"),
    ]
    first = found.networks[0].priced
    several = len({p.profile for p in first}) > 1
    for i, p in enumerate(first):
        label = p.convention.partition(" ")[0] + (f" {p.profile.partition(' ')[0]}" if several else "")
        columns += [
            Column(f"energy_{i}_pJ", f"Energy ({label})", "energy", 3),
            Column(f"energy_{i}_to_first", "to first", "number", 3),
            Column(f"energy_{i}_to_ann", "to ANN", "number", 3),
        ]
    rows = []
    for n in found.networks:
        row: list[object] = [
            n.name,
            _value(n.accuracy),
            n.parameters,
            n.steps,
            n.macs,
            n.synops.mean,
            _value(n.rate),
        ]
        for mine, base in zip(n.priced, first, strict=True):
            energy, whole = _value(mine.energy_pJ), _value(base.energy_pJ)
            row += [energy, energy / whole if energy is not None and whole else None]
            row.append(energy / mine.ann_pJ if energy is not None and mine.ann_pJ else None)
        rows.append(tuple(row))
    notes = [
        "Per inference, all T steps. MACs: dense, padding left out; SOPs: exact synaptic operations; rate: spikes per neuron "
        "and step. To ANN: against one pass of the network of the same shape with dense multiply-accumulates."
    ]
    lower = [f"{n.name}, {p.convention}" for n in found.networks for p in n.priced if not p.complete]
    if lower:
        notes.append(f"Lower bounds, since some work has no published price: {'; '.join(lower)}.")
    notes.append("; ".join(f"energy {i}: {p.convention}, {p.profile}" for i, p in enumerate(first)))
    title = f"{len(found.networks)} networks on {recordings_text(found.recordings)}"
    return Table("comparison", title, tuple(columns), tuple(rows), tuple(notes))


def _intervals_table(found: NetworkComparison) -> Table:
    rows: list[tuple[object, ...]] = []
    for n in found.networks:
        values = {"accuracy / %": (n.accuracy, 100.0), "SOPs": (n.synops, 1.0), "rate / %": (n.rate, 100.0)}
        for p in n.priced:
            values[f"energy / pJ, {p.convention}, {p.profile}"] = (p.energy_pJ, 1.0)
        for what, (summary, scale) in values.items():
            if summary is not None:
                ends = summary.interval
                rows.append(
                    (
                        n.name,
                        what,
                        scale * summary.mean,
                        *((None, None) if ends is None else (scale * ends.low, scale * ends.high)),
                    )
                )
    columns = (
        Column("model", "Model"),
        Column("quantity", "Quantity"),
        Column("value", "Mean", "number"),
        Column("ci95_low", "95 % from", "number"),
        Column("ci95_high", "to", "number"),
    )
    return Table("intervals", "Intervals of the means over the recordings", columns, tuple(rows))


def _differences_table(found: NetworkComparison) -> Table:
    rows: list[tuple[object, ...]] = []
    for d in found.differences:
        accuracy = d.quantity == "accuracy"
        scale = 100.0 if accuracy else 1.0
        what = (
            "accuracy, difference / points" if accuracy else f"{d.quantity.replace('synops', 'SOPs')}, ratio"
        )
        rows.append((d.name, what, scale * d.value, *_ends(d.interval, scale)))
    columns = (
        Column("model", "Model"),
        Column("quantity", "Against the first", "text"),
        Column("value", "Value", "number"),
        Column("ci95_low", "95 % from", "number"),
        Column("ci95_high", "to", "number"),
    )
    note = "Paired bootstrap: every draw takes the same recordings for both networks."
    return Table("differences", f"Against {found.networks[0].name}", columns, tuple(rows), (note,))


def comparison_tables(found: NetworkComparison) -> list[Table]:
    """Tables of the networks side by side, of differences from the first, and of intervals of the means."""
    tables = [_networks_table(found), _differences_table(found), _intervals_table(found)]
    return [t for t in tables if t.rows]


def comparison_plots(found: NetworkComparison) -> Sequence[Plot]:
    """Plot of accuracy against energy under the first convention and price list."""
    points = [
        (n.name, n.accuracy, n.priced[0].energy_pJ)
        for n in found.networks
        if n.accuracy is not None and n.priced[0].energy_pJ is not None
    ]
    if not points:
        return []
    unit, size = energy_scale([energy.mean for _, _, energy in points])

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for index, (name, accuracy, energy) in enumerate(points):
            x, y = energy.mean / size, 100 * accuracy.mean
            colour = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")[index % 6]
            if energy.interval is not None and accuracy.interval is not None:
                axes.plot(
                    [energy.interval.low / size, energy.interval.high / size], [y, y], color=colour, lw=1
                )
                axes.plot(
                    [x, x], [100 * accuracy.interval.low, 100 * accuracy.interval.high], color=colour, lw=1
                )
            axes.plot([x], [y], "os^Dv"[index // 6 % 5], color=colour, label=name)
        axes.grid(color="#e3e6ea")
        axes.set_xlabel(f"energy per inference / {unit}")
        axes.set_ylabel("accuracy / %")
        axes.set_xlim(left=0)
        axes.margins(x=0.2, y=0.2)
        axes.legend(fontsize=8, frameon=False)  # names next to points would overlap

    first = found.networks[0].priced[0]
    caption = (
        f"Accuracy against energy, {first.convention}, {first.profile}, {recordings_text(found.recordings)}. Lines: 95 % "
        "intervals of the means."
    )
    return [Plot("accuracy_against_energy", caption, (6.4, 4.0), paint)]
