"""Tables of firing rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tcja_deploy.energy.render.confusion_tables import accuracy_table
from tcja_deploy.energy.render.table import Column, Table, recordings_text, shape_text
from tcja_deploy.energy.report.rates import RateRow, Rates

__all__ = ["input_table", "neuron_table", "rate_summary", "rates_table", "step_table"]

_SPREAD = (
    Column("rate_mean", "Rate", "percent"),
    Column("rate_std", "Std", "percent"),
    Column("rate_min", "Min", "percent"),
    Column("rate_max", "Max", "percent"),
    Column("rate_ci95", "95 % interval", "percents"),
)


def _spread(row: RateRow) -> tuple[object, ...]:
    r = row.rate
    return r.mean, r.std, r.min, r.max, r.interval and (r.interval.low, r.interval.high)


def neuron_table(rates: Rates) -> Table:
    """The spiking layers."""
    rows = tuple(
        (r.name, r.op, shape_text(r.shape), r.elements, *_spread(r), r.silent, r.saturated, r.per_element)
        for r in rates.neurons
    )
    return Table(
        "rates",
        f"Firing rates of {recordings_text(rates.recordings)}, T = {rates.steps} steps",
        (
            Column("layer", "Layer"),
            Column("op", "Neuron"),
            Column("shape", "Shape"),
            Column("neurons", "Neurons", "int"),
            *_SPREAD,
            Column("silent", "Silent", "int"),
            Column("saturated", "Saturated", "int"),
            Column("spikes_per_neuron_per_inference", "Spikes / neuron / inference", "number"),
        ),
        rows,
        (
            "Rate: spikes per neuron and step; std, min, max over recordings, 95 % interval of the mean. "
            "Silent: never fired in any recording. Saturated: fired in every step of every recording.",
        ),
    )


def rate_summary(rates: Rates) -> list[Table]:
    """The same rates in tables that fit 80 columns, for the terminal."""
    neurons, inputs = neuron_table(rates), input_table(rates)
    spread = ("rate_mean", "rate_std", "rate_min", "rate_max", "rate_ci95")
    counts = ("shape", "neurons", "silent", "saturated", "spikes_per_neuron_per_inference")
    activity = replace(neurons.only("layer", *counts), title="Activity of single neurons", notes=())
    entering = inputs.only("layer", "value", "kind", "rate_mean", "rate_ci95")
    predictions = [] if rates.confusion is None else [accuracy_table(rates.confusion)]
    return [neurons.only("layer", *spread), activity, entering, *predictions]


def input_table(rates: Rates) -> Table:
    """What enters the layers with weights."""
    rows = tuple(
        (r.reader, r.name, r.kind, shape_text(r.shape), r.elements, *_spread(r)) for r in rates.inputs
    )
    return Table(
        "input_rates",
        "What enters the layers with weights (after pooling and gate)",
        (
            Column("layer", "Layer"),
            Column("value", "Reads"),
            Column("kind", "Kind"),
            Column("shape", "Shape"),
            Column("elements", "Elements", "int"),
            *_SPREAD,
        ),
        rows,
        ("Rate: share of non-zero elements; spread over recordings.",),
    )


def step_table(rates: Rates) -> Table:
    """Rates at each time step."""
    columns = [
        Column("layer", "Layer"),
        *(Column(f"rate_t{t}", f"t = {t}", "percent") for t in range(rates.steps)),
    ]
    return Table(
        "rates_per_step",
        "Firing rate at each time step",
        tuple(columns),
        tuple((r.name, *_padded(r.per_step, rates.steps)) for r in rates.neurons),
    )


def _padded(values: Sequence[float], steps: int) -> tuple[float | None, ...]:
    return (*values, *[None] * (steps - len(values)))


def rates_table(rates: Rates) -> Table:
    """All rates in one table, including those of each step, for CSV and data frames."""
    head = (
        Column("value", "Value"),
        Column("read_by", "Read by"),
        Column("op", "Op"),
        Column("kind", "Kind"),
        Column("shape", "Shape"),
        Column("elements", "Elements", "int"),
        *_SPREAD,
        Column("silent", "Silent", "int"),
        Column("saturated", "Saturated", "int"),
        Column("nonzero_steps_per_element", "Non-zero steps / element / inference", "number"),
    )
    steps = tuple(Column(f"rate_t{t}", f"t = {t}", "percent") for t in range(rates.steps))
    rows = tuple(
        (r.name, r.reader, r.op, r.kind, "x".join(map(str, r.shape)), r.elements, *_spread(r), r.silent, r.saturated,
         r.per_element, *_padded(r.per_step, rates.steps))
        for r in (*rates.neurons, *rates.inputs)
    )  # fmt: skip
    return Table("all_rates", f"Rates of {recordings_text(rates.recordings)}", (*head, *steps), rows)
