"""The energy report: everything a reader needs to check it, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tcja_deploy.energy.count.inventory import Coverage, Measured, SynapticLayer, Work
from tcja_deploy.energy.count.quantities import Macs
from tcja_deploy.energy.place.placement import Fit, place
from tcja_deploy.energy.price.convention import Convention
from tcja_deploy.energy.price.conventions import CONVENTIONS, AccountingOptions, snn_lines
from tcja_deploy.energy.price.estimate import EnergyEstimate, estimates
from tcja_deploy.energy.price.line import total_energies
from tcja_deploy.energy.price.paper import PAPER, FirstLayer
from tcja_deploy.energy.price.statistics import Summary, summarise
from tcja_deploy.energy.report.rates import Rates, rates
from tcja_deploy.energy.report.sensitivity import Tornado, tornado
from tcja_deploy.energy.report.thresholds import RATE, THRESHOLDS, Verdict
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.hardware_profiles import ChipKind, Profile
from tcja_deploy.runtime.activity.measures import Measure
from tcja_deploy.unsupported import bullets

__all__ = ["FirstLayerRow", "LayerRow", "Report", "WorkRow", "make_report"]


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer with weights.

    Attributes:
        node: Name.
        op: Name of its op.
        source: The value it reads.
        kind: Signal kind of its input.
        shape_in: Shape of one frame of the input.
        shape_out: Shape of one frame of the result.
        parameters: Number of stored weights.
        first: Whether it reads the network's input.
        attention: Whether it belongs to an attention branch.
        macs: Multiply-accumulates.
        rate: Share of non-zero inputs, over the recordings; `None` for dense inputs.
        synops: Exact synaptic operations per inference, over the recordings.
        synops_by_rate: Mean number of synaptic operations by the formula rate x T x dense MACs.
        unit: Share of the synaptic operations caused by an input of 1 or -1; `None` for dense inputs.
        integer: Share caused by other whole numbers; `None` likewise.
        real: Share caused by fractions; `None` likewise.
    """

    node: str
    op: str
    source: str
    kind: str
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    parameters: int
    first: bool
    attention: bool
    macs: Macs
    rate: Summary | None
    synops: Summary
    synops_by_rate: float
    unit: float | None
    integer: float | None
    real: float | None


@dataclass(frozen=True, slots=True)
class WorkRow:
    """Operations besides synaptic ones: the dense number, and the mean number that actually occurred per inference."""

    node: str
    purpose: str
    what: str
    operation: str
    dense: int
    counted: float


@dataclass(frozen=True, slots=True)
class FirstLayerRow:
    """Energy under the `paper` convention for one treatment of the first layer, in pJ per inference."""

    treatment: FirstLayer
    snn: Summary


@dataclass(frozen=True, slots=True)
class Report:
    """An energy report.

    Attributes:
        model: Facts about the network, as text.
        steps: Number of time steps in one inference, T.
        recordings: Number of recordings measured.
        options: Choices that the conventions leave open.
        conventions: Definitions of the conventions used.
        layers: Layers with weights.
        operations: All other operations.
        coverage: How each node was covered.
        rates: Firing rates.
        estimates: Energies.
        first_layer: The `paper` energy under each treatment of the first layer; empty if `paper` was not requested.
        first_layer_profile: Price list of `first_layer`.
        spikes_per_synapse: Synaptic operations per inference divided by the connections of the layers with sparse input;
            `None` if there are none.
        verdicts: Spikes per synapse and the mean rate against published break-even points; empty likewise.
        fits: Placement on each chip.
        tornados: Sensitivity.
        provenance: Versions, hashes, command; as text.
    """

    model: Mapping[str, str]
    steps: int
    recordings: int
    options: AccountingOptions
    conventions: tuple[Convention, ...]
    layers: tuple[LayerRow, ...]
    operations: tuple[WorkRow, ...]
    coverage: tuple[Coverage, ...]
    rates: Rates
    estimates: tuple[EnergyEstimate, ...]
    first_layer: tuple[FirstLayerRow, ...]
    first_layer_profile: str
    spikes_per_synapse: float | None
    verdicts: tuple[Verdict, ...]
    fits: tuple[Fit, ...]
    tornados: tuple[Tornado, ...]
    provenance: Mapping[str, str]

    @property
    def unsupported(self) -> tuple[Coverage, ...]:
        """Nodes without a counting rule; the energies leave them out."""
        return tuple(c for c in self.coverage if c.status == "unsupported")


def make_report(
    m: Measured,
    profiles: Sequence[Profile],
    conventions: Sequence[Convention] | None = None,
    options: AccountingOptions | None = None,
    *,
    provenance: Mapping[str, str] | None = None,
    allow_unsupported: bool = False,
) -> Report:
    """Account for the energy of a network whose activity was measured.

    Args:
        m: The measured activity, from `measure`.
        profiles: Technology nodes and chips.
        conventions: Conventions to compute; if not given, all that the profiles can price.
        options: Choices that the conventions leave open.
        provenance: Facts about the origin of model and data.
        allow_unsupported: Report ops without a counting rule instead of refusing them.

    Raises:
        UnsupportedError: If an op has no counting rule.
        UsageError: If no profile can price a convention, or no convention uses a profile.
    """
    unsupported = m.inventory.unsupported
    if unsupported and not allow_unsupported:
        listed = bullets(f"{c.node}: {c.reason}" for c in unsupported)
        raise UnsupportedError(
            f"these nodes cannot be counted:{listed}",
            hint="--allow-uncounted reports them and leaves them out",
        )
    options = options or AccountingOptions()
    if conventions is None:
        conventions = [c for c in CONVENTIONS.values() if any(p.kind in c.kinds for p in profiles)]
    technologies = [p for p in profiles if p.kind is ChipKind.ASIC]
    paper = technologies[0] if technologies and PAPER in conventions else None
    sparseness = _sparseness(m)
    spikes, rate = sparseness or (None, None)
    return Report(
        model=_model(m),
        steps=m.inventory.graph.T,
        recordings=len(m),
        options=options,
        conventions=tuple(conventions),
        layers=_layers(m),
        operations=tuple(_work(m, w) for w in m.inventory.operations),
        coverage=m.inventory.coverage,
        rates=rates(m),
        estimates=estimates(m, conventions, profiles, options),
        first_layer=() if paper is None else first_layers(m, paper, options),
        first_layer_profile="" if paper is None else paper.label,
        spikes_per_synapse=spikes,
        verdicts=tuple(
            Verdict(t, v, t.judge(v))
            for t in THRESHOLDS
            if (v := rate if t.quantity == RATE else spikes) is not None
        ),
        fits=tuple(place(m.inventory, p) for p in profiles if p.kind is ChipKind.NEUROMORPHIC),
        tornados=tuple(
            found
            for c in conventions
            if technologies and (found := tornado(m, c, technologies[0], options)) is not None
        ),
        provenance=dict(provenance or {}),
    )


def first_layers(m: Measured, profile: Profile, options: AccountingOptions) -> tuple[FirstLayerRow, ...]:
    """The `paper` energy of the network under each treatment of the first layer."""
    columns = []
    for treatment in FirstLayer:
        lines = snn_lines(m, PAPER, profile, replace(options, first_layer=treatment))
        total = total_energies((line.energies() for line in lines), len(m))
        columns.append(np.zeros(len(m)) if total is None else total)
    summaries = summarise(np.stack(columns, axis=1))
    return tuple(FirstLayerRow(t, s) for t, s in zip(FirstLayer, summaries, strict=True))


def _model(m: Measured) -> dict[str, str]:
    graph = m.inventory.graph
    return {
        "architecture": graph.source.get("architecture", "custom"),
        "input": "x".join(map(str, graph.input_shape)),
        "time steps": str(graph.T),
        "parameters": f"{graph.parameters:,}",
        "neurons": f"{sum(n.signal.size for n in graph.neurons):,}",
        "graph hash": graph.hash,
    }


def _layers(m: Measured) -> tuple[LayerRow, ...]:
    layers = m.inventory.layers
    if not layers:
        return ()
    sparse = [x for x in layers if x.kind.sparse]
    spread = summarise(np.stack([m.rates(x.source) for x in sparse], axis=1)) if sparse else []
    rate = {x.node: r for x, r in zip(sparse, spread, strict=True)}
    synops = summarise(np.stack([m.synops(x).per_recording() for x in layers], axis=1))
    return tuple(
        LayerRow(
            node=layer.node,
            op=layer.op,
            source=layer.source,
            kind=layer.kind.value,
            shape_in=layer.shape_in,
            shape_out=layer.shape_out,
            parameters=layer.parameters,
            first=layer.first,
            attention=layer.attention,
            macs=layer.macs,
            rate=rate.get(layer.node),
            synops=s,
            synops_by_rate=m.synops_by_rate(layer).mean,
            **_classes(m, layer),
        )
        for layer, s in zip(layers, synops, strict=True)
    )


def _classes(m: Measured, layer: SynapticLayer) -> dict[str, float | None]:
    """Shares of a layer's synaptic operations caused by ones, other whole numbers and fractions."""
    if not layer.kind.sparse:
        return {"unit": None, "integer": None, "real": None}
    measures = (Measure.NONZERO, Measure.UNIT, Measure.INTEGER)
    nonzero, unit, integer = (int(m.events(layer.drive, k).sum()) for k in measures)
    counts = {"unit": unit, "integer": integer - unit, "real": nonzero - integer}
    return {name: n / nonzero if nonzero else 0.0 for name, n in counts.items()}


def _work(m: Measured, w: Work) -> WorkRow:
    return WorkRow(w.node, w.purpose.value, w.what, w.primitive.value, w.dense, m.work(w).mean)


def _sparseness(m: Measured) -> tuple[float, float] | None:
    """Spikes per synapse and inference, and the mean input rate weighted by dense MACs, of layers with sparse input.

    `None` if there are no such layers, or no neurons that spike.
    """
    if not m.inventory.graph.neurons:
        return None
    sparse = [x for x in m.inventory.trunk if x.event_driven]
    connections = sum(x.macs.border_aware for x in sparse)
    possible = sum(x.macs.dense_per_inference for x in sparse)
    if not connections:
        return None
    exact = sum((m.synops(x).total for x in sparse), Fraction(0)) / len(m)
    by_rate = sum((m.synops_by_rate(x).total for x in sparse), Fraction(0)) / len(m)
    return float(exact / connections), float(by_rate / possible)
