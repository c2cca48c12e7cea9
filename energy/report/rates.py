"""Firing rates of every spiking layer, and of the input of every layer with weights (after pooling and gate)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.price.statistics import Summary, summarise
from tcja_deploy.energy.report.confusion import Confusion, confusion

__all__ = ["BINS", "RateRow", "Rates", "rates"]

BINS = np.linspace(0.0, 1.0, 51)
"""Bin edges of the histograms of single neurons' rates."""


@dataclass(frozen=True, slots=True)
class RateRow:
    """Activity of one value.

    Attributes:
        name: Name of the value.
        op: Op that computes it.
        kind: Signal kind.
        shape: Shape of one frame of one recording.
        elements: Number of elements in a frame; the neurons of a spiking layer.
        rate: Share of non-zero elements, over the recordings.
        per_step: The same at each time step, mean over the recordings.
        silent: Number of elements that were zero in every step of every recording.
        saturated: Number of elements that were non-zero in every step of every recording.
        per_element: Mean number of non-zero steps per element and inference: spikes per neuron and inference.
        histogram: Numbers of elements by their own rate over all recordings, in the bins `BINS`.
        reader: The layer with weights that reads it; empty for a spiking layer's own output.
    """

    name: str
    op: str
    kind: str
    shape: tuple[int, ...]
    elements: int
    rate: Summary
    per_step: tuple[float, ...]
    silent: int
    saturated: int
    per_element: float
    histogram: tuple[int, ...]
    reader: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of a network over a data set.

    Attributes:
        recordings: Number of recordings.
        steps: Time steps of an inference.
        neurons: The spiking layers, in order.
        inputs: Input of each layer with weights, in order; dense inputs have no rate and are left out.
        confusion: Predictions against labels; `None` where they are unknown.
    """

    recordings: int
    steps: int
    neurons: tuple[RateRow, ...]
    inputs: tuple[RateRow, ...]
    confusion: Confusion | None = None


def rates(m: Measured) -> Rates:
    """Compute rates from recorded activity."""
    neurons = [(n.name, "") for n in m.inventory.graph.neurons]
    inputs = [(layer.source, layer.node) for layer in m.inventory.layers if layer.kind.sparse]
    names = list(dict.fromkeys(name for name, _ in neurons + inputs))
    summaries = summarise(np.stack([m.rates(name) for name in names], axis=1)) if names else []
    by_name = dict(zip(names, summaries, strict=True))
    rows = [[_row(m, name, reader, by_name[name]) for name, reader in group] for group in (neurons, inputs)]
    return Rates(len(m), m.inventory.graph.T, tuple(rows[0]), tuple(rows[1]), confusion(m.predicted))


def _row(m: Measured, name: str, reader: str, rate: Summary) -> RateRow:
    node, activity = m.inventory.graph[name], m.activity[name]
    chances = len(m) * activity.steps
    per_step = activity.counts().sum(0) / (len(m) * activity.size)
    return RateRow(
        name=name,
        op=type(node.op).__name__,
        kind=node.signal.kind.value,
        shape=activity.features,
        elements=activity.size,
        rate=rate,
        per_step=tuple(float(r) for r in per_step),
        silent=int((activity.neurons == 0).sum()),
        saturated=int((activity.neurons == chances).sum()),
        per_element=float(activity.neurons.sum() / (len(m) * activity.size)),
        histogram=tuple(int(n) for n in np.histogram(activity.neurons / chances, BINS)[0]),
        reader=reader,
    )
