"""Comparison of networks on the same recordings: accuracy, size, activity, energy; differences with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.price.convention import Convention
from tcja_deploy.energy.price.conventions import CONVENTIONS, AccountingOptions, ann_lines, snn_lines
from tcja_deploy.energy.price.estimate import counterparts, estimate
from tcja_deploy.energy.price.line import total_energies
from tcja_deploy.energy.price.statistics import Interval, Summary, bootstrap_ratio, summarise
from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.hardware_profiles import Profile

__all__ = ["Compared", "Difference", "NetworkComparison", "PricedNetwork", "compare_networks"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PricedNetwork:
    """Energy of one network under one convention and price list.

    Attributes:
        convention: Name and version of the convention.
        profile: Name and version of the price list.
        energy_pJ: Energy per inference over the recordings; `None` if nothing is priced.
        complete: Whether everything is priced; otherwise the energy is a lower bound.
        ann_pJ: Mean energy in pJ of the ANN with the same layers, one pass; `None` if the price list cannot price it.
    """

    convention: str
    profile: str
    energy_pJ: Summary | None  # noqa: N815 - the unit's own spelling
    complete: bool
    ann_pJ: float | None  # noqa: N815


@dataclass(frozen=True, slots=True)
class Compared:
    """One network of a comparison.

    Attributes:
        name: Its name in the comparison.
        accuracy: Share of correct predictions, over the recordings; `None` without labels.
        parameters: Number of stored weights.
        steps: Number of time steps in an inference, T.
        macs: Dense multiply-accumulates per inference (all T steps), without padding.
        synops: Exact synaptic operations per inference, over the recordings.
        rate: Spikes per neuron and step in all spiking layers together, over the recordings; `None` without neurons.
        priced: Energies, in the order of the comparison's conventions and price lists.
    """

    name: str
    accuracy: Summary | None
    parameters: int
    steps: int
    macs: int
    synops: Summary
    rate: Summary | None
    priced: tuple[PricedNetwork, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of a network from the first one, with a 95 % interval by paired bootstrap: both saw the same recordings.

    Attributes:
        name: The network.
        quantity: What is compared: `accuracy` (a difference of shares), `synops`, or a convention and price list (ratios).
        value: Difference, or ratio of the means.
        interval: 95 % interval; `None` for one recording, or if a ratio is undefined in some draw.
    """

    name: str
    quantity: str
    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class NetworkComparison:
    """Networks side by side.

    Attributes:
        recordings: Number of recordings, the same for all networks.
        networks: The networks in the order given.
        differences: Differences of the others from the first.
    """

    recordings: int
    networks: tuple[Compared, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, eq=False)
class _Columns:
    """The paired quantities, each with one value per recording."""

    right: Floats | None
    synops: Floats
    energies: dict[str, Floats]


def compare_networks(
    networks: Sequence[tuple[str, Measured]],
    conventions: Sequence[Convention] | None,
    profiles: Sequence[Profile],
    options: AccountingOptions | None = None,
) -> NetworkComparison:
    """Compare networks whose activity was measured on the same recordings.

    Args:
        networks: Names and activities; the others are compared with the first one.
        conventions: Conventions to compute; if `None`, all that the profiles can price.
        profiles: Price lists.
        options: Choices that the conventions leave open.

    Raises:
        DataError: If the networks saw different recordings.
        UsageError: If there are no networks, a name occurs twice, or no profile can price any of the conventions.
    """
    names = [name for name, _ in networks]
    if not names or len(set(names)) < len(names):
        raise UsageError("a comparison needs networks with different names", hint="give each of them once")
    _same_recordings(networks)
    if conventions is None:
        conventions = [c for c in CONVENTIONS.values() if any(p.kind in c.kinds for p in profiles)]
    pairs = [(c, p) for c in conventions for p in profiles if p.kind in c.kinds]
    if not pairs:
        raise UsageError("none of the conventions can use any of the profiles", hint="choose others")
    found = [_compared(name, m, pairs, options or AccountingOptions()) for name, m in networks]
    differences = [d for row, columns in found[1:] for d in _differences(row.name, columns, found[0][1])]
    return NetworkComparison(len(networks[0][1]), tuple(row for row, _ in found), tuple(differences))


def _same_recordings(networks: Sequence[tuple[str, Measured]]) -> None:
    name, first = networks[0]
    for other, m in networks[1:]:
        same = len(m) == len(first) and (
            m.predicted is None
            or first.predicted is None
            or m.predicted.labels is None
            or first.predicted.labels is None
            or np.array_equal(m.predicted.labels, first.predicted.labels)
        )
        if not same or m.activity.origin.get("data SHA-256") != first.activity.origin.get("data SHA-256"):
            raise DataError(
                f"{name} and {other} saw different recordings", hint="measure both on the same ones"
            )


def _compared(
    name: str, m: Measured, pairs: Sequence[tuple[Convention, Profile]], options: AccountingOptions
) -> tuple[Compared, _Columns]:
    graph, layers = m.inventory.graph, m.inventory.layers
    synops = sum((m.synops(x).per_recording() for x in layers), np.zeros(len(m)))
    right = None
    if m.predicted is not None and m.predicted.labels is not None:
        right = (m.predicted.classes == m.predicted.labels).astype(np.float64)
    neurons = [(m.rates(n.name), m.activity[n.name]) for n in graph.neurons]
    chances = sum(a.size * a.steps for _, a in neurons)
    rate = None
    if chances:
        rate = sum((r * (a.size * a.steps / chances) for r, a in neurons), np.zeros(len(m)))
    priced, energies = [], {}
    for c, p in pairs:
        lines = snn_lines(m, c, p, options)
        snn = estimate(m, "SNN", c, p, lines)
        total = total_energies((line.energies() for line in lines), len(m))
        if total is not None:
            energies[f"{snn.convention}, {snn.profile}"] = total
        priced.append(
            PricedNetwork(snn.convention, snn.profile, snn.energy_pJ, snn.complete, _ann(m, c, p, options))
        )
    row = Compared(
        name=name,
        accuracy=None if right is None else _summary(right),
        parameters=graph.parameters,
        steps=graph.T,
        macs=sum(x.macs.border_aware_per_inference for x in layers),
        synops=_summary(synops),
        rate=None if rate is None else _summary(rate),
        priced=tuple(priced),
    )
    return row, _Columns(right, synops, energies)


def _summary(values: Floats) -> Summary:
    return summarise(values[:, None])[0]


def _ann(m: Measured, c: Convention, p: Profile, options: AccountingOptions) -> float | None:
    """Mean energy of the ANN with the same layers, in pJ; `None` if the price list cannot price it."""
    others = counterparts(p, m.inventory.graph.T)
    if not others:
        return None
    lines = ann_lines(m, c, p.pricing, options, others[0])
    ann = estimate(m, others[0].name, c, p, lines, steps=1).energy_pJ
    return None if ann is None else ann.mean


def _differences(name: str, columns: _Columns, first: _Columns) -> list[Difference]:
    found = []
    if columns.right is not None and first.right is not None:
        change = _summary(columns.right - first.right)
        found.append(Difference(name, "accuracy", change.mean, change.interval))
    ratios = {"synops": (columns.synops, first.synops)}
    ratios |= {k: (v, first.energies[k]) for k, v in columns.energies.items() if k in first.energies}
    for quantity, (mine, base) in ratios.items():
        if base.sum() > 0:
            value = float(mine.sum() / base.sum())
            found.append(Difference(name, quantity, value, bootstrap_ratio(mine, base)))
    return found
