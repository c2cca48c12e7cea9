"""Plots of reports as SVG text, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tcja_deploy.energy.count.inventory import Purpose
from tcja_deploy.energy.price.conventions import ACCOUNTINGS
from tcja_deploy.energy.price.estimate import EnergyEstimate
from tcja_deploy.energy.render.table import energy_text, recordings_text
from tcja_deploy.energy.report.rates import BINS, RateRow, Rates
from tcja_deploy.energy.report.record import Report
from tcja_deploy.energy.report.sensitivity import Tornado

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["RATE_PLOTS", "Plot", "bar_plot", "energy_scale", "line_plot", "rate_plots", "report_plots"]

RATE_PLOTS = ("rates", "rates_over_time", "rate_histogram")
"""Keys of the plots of firing rates."""

# Okabe and Ito's palette, whose colours readers with any colour vision can distinguish.
_COLOURS = {
    Purpose.SYNAPSES.value: "#0072B2",
    Purpose.ATTENTION.value: "#D55E00",
    Purpose.NEURON.value: "#009E73",
    Purpose.BIAS.value: "#999999",
    Purpose.NORM.value: "#666666",
    Purpose.POOLING.value: "#F0E442",
    Purpose.RESIDUAL.value: "#332288",
    Purpose.READOUT.value: "#AA4499",
    Purpose.OTHER.value: "#BBBBBB",
    Purpose.WEIGHTS.value: "#56B4E9",
    Purpose.STATE.value: "#CC79A7",
    Purpose.TRAFFIC.value: "#E69F00",
    Purpose.STATIC.value: "#444444",
}
_INK, _GRID, _BLUE, _GREY = "#1b1f24", "#e3e6ea", "#0072B2", "#8a949e"


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot.

    Attributes:
        key: Machine-readable name.
        caption: What it shows.
        size: Width and height in inches.
        paint: Draws the plot on a figure.
    """

    key: str
    caption: str
    size: tuple[float, float]
    paint: Callable[[Figure], None]

    @property
    def svg(self) -> str:
        """An SVG document, drawn without a display and with our settings alone: no global settings are changed."""
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": self.key}):
            figure = Figure(figsize=self.size, layout="constrained")
            FigureCanvasSVG(figure)
            self.paint(figure)
            stream = io.StringIO()
            figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
        text = stream.getvalue()
        return text[text.index("<svg") :]


_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"],
    "font.size": 9,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.parse_math": False,  # names of layers may contain dollar signs
    "svg.fonttype": "none",
}


def report_plots(report: Report) -> list[Plot]:
    """All plots of an energy report."""
    plots = []
    for i, convention in enumerate(dict.fromkeys(e.convention for e in report.estimates)):
        group = [e for e in report.estimates if e.convention == convention and e.energy_pJ is not None]
        if group:
            plots.append(_totals(f"energy_{i}", convention, group))
    by_node = {c.label for c in report.conventions if ACCOUNTINGS[c].by_node}
    layered = [e for e in report.estimates if e.subject == "SNN" and e.convention in by_node]
    plots += [_layers(e) for e in layered[:1] if e.energy_pJ is not None and e.energy_pJ.mean]
    plots += [_tornado(f"sensitivity_{i}", t) for i, t in enumerate(report.tornados) if t.bars]
    return plots + rate_plots(report.rates)


def rate_plots(rates: Rates) -> list[Plot]:
    """Plots of the rate of each layer, of the rates over time, and of single neurons."""
    if not rates.neurons:
        return []
    return [_rate_bars(rates), _rate_over_time(rates), _rate_histogram(rates.neurons)]


def energy_scale(values: Sequence[float]) -> tuple[str, float]:
    """Unit for an axis of energies in pJ."""
    text = energy_text(max(values, default=1.0))
    unit = text.rpartition(" ")[2]
    return unit, {"J": 1e12, "mJ": 1e9, "µJ": 1e6, "nJ": 1e3, "pJ": 1.0}[unit]


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="x", color=_GRID)
    axes.tick_params(axis="y", length=0)


def _totals(key: str, convention: str, group: Sequence[EnergyEstimate]) -> Plot:
    unit, size = energy_scale([e.energy_pJ.mean for e in group if e.energy_pJ is not None])

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        used: list[str] = []
        for y, e in enumerate(group):
            left = 0.0
            for purpose, energy in e.by_purpose:
                colour = _COLOURS.get(purpose, _GREY)
                axes.barh(y, energy / size, left=left / size, color=colour, height=0.62)
                used.append(purpose)
                left += energy
            end = left
            ci = None if e.energy_pJ is None else e.energy_pJ.interval
            if ci is not None and ci.low < ci.high:
                axes.plot([ci.low / size, ci.high / size], [y, y], color=_INK, lw=1, marker="|", ms=7)
                end = max(left, ci.high)
            text = f"{'' if e.complete else '≥ '}{energy_text(left)}"
            axes.annotate(text, (end / size, y), (7, 0), textcoords="offset points", va="center", fontsize=8)
        _rows(axes, [f"{e.subject}\n{e.profile.rpartition(' ')[0]}" for e in group])
        axes.set_xlabel(f"energy per inference / {unit}")
        axes.margins(x=0.16)
        axes.set_xlim(left=0)
        handles = [_patch(_COLOURS.get(p, _GREY), p) for p in dict.fromkeys(used)]
        figure.legend(handles=handles, loc="outside upper left", ncols=5, frameon=False, fontsize=8)

    caption = f"Energy per inference by what it is for, convention {convention}. Whiskers: 95 % interval of the mean."
    if not all(e.complete for e in group):
        caption += " ≥: some work has no published price and is left out."
    return Plot(key, caption, (6.4, 1.3 + 0.52 * len(group)), paint)


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _layers(e: EnergyEstimate) -> Plot:
    unit, size = energy_scale([energy for _, energy in e.nodes])
    least = 0.005 * sum(energy for _, energy in e.nodes)
    nodes = [name for name, energy in e.nodes if energy > least]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        used: list[str] = []
        for y, name in enumerate(nodes):
            left = 0.0
            for purpose in dict(e.by_purpose):
                energy = sum(x.energy_pJ or 0.0 for x in e.entries if x.node == name and x.purpose == purpose)
                if energy:
                    axes.barh(
                        y, energy / size, left=left / size, color=_COLOURS.get(purpose, _GREY), height=0.7
                    )
                    used.append(purpose)
                left += energy
        _rows(axes, nodes)
        axes.set_xlabel(f"energy per inference / {unit}")
        handles = [_patch(_COLOURS.get(p, _GREY), p) for p in dict.fromkeys(used)]
        figure.legend(handles=handles, loc="outside upper left", ncols=5, frameon=False, fontsize=8)

    return Plot(
        "energy_by_node",
        f"Energy per inference by node, {e.convention}, {e.profile}. Nodes below 0.5 % of the total are left out.",
        (6.4, 1.2 + 0.24 * len(nodes)),
        paint,
    )


def _tornado(key: str, t: Tornado) -> Plot:
    unit, size = energy_scale([t.base_pJ, *(b.high_pJ for b in t.bars)])

    bars = [b for b in t.bars if b.swing > 0.002 * t.base_pJ] or list(t.bars)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for y, bar in enumerate(bars):
            axes.barh(y, (bar.high_pJ - bar.low_pJ) / size, left=bar.low_pJ / size, color=_BLUE, height=0.6)
            right = bar.high_pJ > t.base_pJ * 1.001
            left = bar.low_pJ < t.base_pJ * 0.999
            ends = (left, bar.low_pJ, bar.low, -6, "right"), (right, bar.high_pJ, bar.high, 6, "left")
            for shown, at, text, shift, side in ends:
                if shown:
                    axes.annotate(
                        text,
                        (at / size, y),
                        (shift, 0),
                        textcoords="offset points",
                        va="center",
                        ha=side,
                        fontsize=7.5,
                    )
        axes.axvline(t.base_pJ / size, color=_INK, lw=1)
        _rows(axes, [b.name for b in bars])
        axes.set_xlabel(f"energy per inference / {unit}")
        reach = [x / size for b in bars for x in (b.low_pJ, b.high_pJ)]
        room = 0.32 * (max(reach) - min(reach))
        axes.set_xlim(min(reach) - room, max(reach) + room)
        axes.set_xticks([x for x in axes.get_xticks() if 0 <= x <= max(reach) + room])

    caption = (
        f"Sensitivity of {t.base}: one choice at a time; the line is the base, {energy_text(t.base_pJ)} per inference. "
        "Choices that move it by less than 0.2 % are in the table alone."
    )
    return Plot(key, caption, (6.4, 0.9 + 0.3 * len(bars)), paint)


def _rate_bars(rates: Rates) -> Plot:
    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for y, row in enumerate(rates.neurons):
            axes.barh(y, 100 * row.rate.mean, color=_BLUE, height=0.6)
            axes.plot(
                [100 * row.rate.min, 100 * row.rate.max], [y, y], color=_GREY, lw=1, marker="|", zorder=3
            )
            ci = row.rate.interval
            if ci is not None:
                axes.plot(
                    [100 * ci.low, 100 * ci.high], [y, y], color=_INK, lw=3, solid_capstyle="butt", zorder=4
                )
        _rows(axes, [r.name for r in rates.neurons])
        axes.set_xlabel("spikes per neuron and step / %")
        axes.set_xlim(left=0)

    caption = (
        f"Firing rate of each layer, mean of {recordings_text(rates.recordings)}. Thick: 95 % interval of the mean; thin: "
        "least and most active recording."
    )
    return Plot(RATE_PLOTS[0], caption, (6.4, 0.8 + 0.34 * len(rates.neurons)), paint)


def _rate_over_time(rates: Rates) -> Plot:
    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        shades = _shades(len(rates.neurons))
        for row, colour in zip(rates.neurons, shades, strict=True):
            axes.plot([100 * r for r in row.per_step], color=colour, marker="o", ms=3, lw=1.4, label=row.name)
        axes.grid(color=_GRID)
        axes.set_xlabel("time step")
        axes.set_ylabel("spikes per neuron / %")
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="x", integer=True, nbins=10, min_n_ticks=1)
        axes.set_xlim(-0.5, rates.steps - 0.5)
        figure.legend(loc="outside right center", frameon=False, fontsize=8)

    size = (6.4, max(3.0, 0.5 + 0.17 * len(rates.neurons)))
    return Plot(RATE_PLOTS[1], "Firing rate at each time step, mean over recordings.", size, paint)


def _rate_histogram(rows: Sequence[RateRow]) -> Plot:
    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        top = int(np.flatnonzero(np.sum([r.histogram for r in rows], axis=0)).max()) + 1
        for row, axes, colour in zip(rows, panels, _shades(len(rows)), strict=True):
            share = 100 * np.array(row.histogram) / row.elements
            axes.stairs(share, 100 * BINS, fill=True, color=colour)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.grid(axis="y", color=_GRID)
            axes.set_title(row.name, loc="right", fontsize=8, pad=2)
        panels[-1].set_xlim(0, 100 * BINS[top])
        panels[-1].set_ylim(top=100)
        panels[-1].set_xlabel("a neuron's own rate over all recordings and steps / %")
        figure.supylabel("share of the layer's neurons / %", fontsize=9)

    caption = "How the rates of single neurons spread inside each layer (logarithmic shares)."
    return Plot(RATE_PLOTS[2], caption, (6.4, 0.9 + 0.75 * len(rows)), paint)


def _shades(n: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](x) for x in np.linspace(0.0, 0.88, max(n, 1))]


def line_plot(key: str, caption: str, values: Sequence[float], x: str, y: str) -> Plot:
    """A quantity at each step; `x` and `y` label the axes."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(values, color=_BLUE, marker="o", ms=3, lw=1.4)
        axes.grid(color=_GRID)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="x", integer=True, nbins=10, min_n_ticks=1)

    return Plot(key, caption, (6.4, 3.0), paint)


def bar_plot(
    key: str,
    caption: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    x: str,
    *,
    log: bool = False,
) -> Plot:
    """A horizontal bar for each label, from top to bottom; with a legend if there are several series.

    Args:
        key: Name of the plot.
        caption: What it shows.
        labels: Labels of the bars.
        series: Values of the bars, by name of the series.
        x: Label of the axis.
        log: Whether the axis is logarithmic.
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        height = 0.8 / len(series)
        colours = (_BLUE, _GREY, _INK)
        for i, (name, values) in enumerate(series.items()):
            places = [row - 0.4 + height * (i + 0.5) for row in range(len(labels))]
            axes.barh(places, values, height, color=colours[i % len(colours)], label=name)
        _rows(axes, labels)
        axes.set_xlabel(x)
        if log:
            axes.set_xscale("log")
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8)

    return Plot(key, caption, (6.4, 1.2 + 0.3 * len(labels)), paint)
