"""The paper's comparison, 0.0019 J against 0.01 J: which network it is about, and which rate it implies.

No rate is tuned here. The implied rate follows from published numbers by arithmetic; whether a network has it has to be
measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tcja_deploy.energy.count.inventory import Inventory, Measured, Primitive
from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.energy.price.conventions import AccountingOptions
from tcja_deploy.energy.price.paper import FirstLayer
from tcja_deploy.energy.price.prices import arithmetic
from tcja_deploy.energy.price.statistics import Interval
from tcja_deploy.energy.report.record import FirstLayerRow, first_layers
from tcja_deploy.hardware_profiles import Profile
from tcja_deploy.ir import Graph

__all__ = [
    "NETWORKS",
    "PRICES",
    "PUBLISHED",
    "Comparison",
    "Implied",
    "NetworkRow",
    "Published",
    "Reproduction",
    "compare",
    "reproduce",
]


NETWORKS = ("ncaltech101", "dvs128", "cifar10dvs")
"""The paper's networks, by their names in the zoo."""

PRICES = "asic45"
"""The price list with the paper's prices: 45 nm, fp32."""


@dataclass(frozen=True, slots=True)
class Published:
    """The paper's printed energies, each with the interval of energies that round to it.

    Attributes:
        snn_J: Energy of the spiking network, in J.
        snn_rounding: Energies that print as `snn_J`, in J.
        ann_J: Energy of the ordinary network, in J.
        ann_one_digit: Energies that print as `ann_J` with one significant digit, in J.
        ann_two_decimals: Energies that print as `ann_J` with two decimals, in J.
        source: Publication.
    """

    snn_J: float  # noqa: N815 - the unit's own spelling
    snn_rounding: Interval
    ann_J: float  # noqa: N815
    ann_one_digit: Interval
    ann_two_decimals: Interval
    source: str


PUBLISHED = Published(
    snn_J=0.0019,
    snn_rounding=Interval(0.00185, 0.00195),
    ann_J=0.01,
    ann_one_digit=Interval(0.0095, 0.015),
    ann_two_decimals=Interval(0.005, 0.015),
    source="Zhu et al., TCJA-SNN, TNNLS 2024, arXiv:2206.10177, section on energy",
)


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A network of the paper, without any activity.

    Attributes:
        name: Name in the zoo.
        steps: Number of time steps, T.
        macs: Dense multiply-accumulates of one pass.
        first_macs: Dense multiply-accumulates of the first layer.
        ann_J: Energy of one pass, in J.
        one_digit: Whether `ann_J` prints as the published ANN energy with one significant digit.
        two_decimals: Whether it does with two decimals.
        implied: Mean input rate that the published SNN energy implies for this network, with all layers as accumulations.
    """

    name: str
    steps: int
    macs: int
    first_macs: int
    ann_J: float  # noqa: N815
    one_digit: bool
    two_decimals: bool
    implied: float


@dataclass(frozen=True, slots=True)
class Implied:
    """The mean input rate that the published SNN energy implies under one treatment of the first layer.

    Attributes:
        treatment: Treatment of the first layer.
        rate: Rate for the printed energy; `None` if the first layer alone exceeds it.
        interval: Rates for the energies that round to it; `None` likewise.
        first_J: Energy of the first layer that does not depend on any rate, in J.
    """

    treatment: FirstLayer
    rate: float | None
    interval: Interval | None
    first_J: float  # noqa: N815


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same comparison on a network whose activity was measured.

    Attributes:
        name: Name of the architecture.
        steps: Number of time steps, T.
        recordings: Number of recordings measured.
        macs: Dense multiply-accumulates of one pass.
        ann_J: Energy of one pass, in J.
        rate: Mean input rate weighted by MACs; `None` if no layer has sparse input.
        same_network: Whether it is the network that the published energy is about, judged by its MACs.
        rows: Energy of the spiking network under each treatment of the first layer, in pJ.
        verdicts: `consistent` or `not consistent` with the published number for each row, `undecided` for a
            single recording; `None` for another network.
    """

    name: str
    steps: int
    recordings: int
    macs: int
    ann_J: float  # noqa: N815
    rate: float | None
    same_network: bool
    rows: tuple[FirstLayerRow, ...]
    verdicts: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """Analysis of the paper's comparison.

    Attributes:
        published: The paper's printed energies.
        profile: Price list.
        networks: The zoo's networks of the paper.
        chosen: The network that the comparison must be about, by inference.
        reasons: The reasons for this inference, and its limits.
        implied: The rates that the published SNN energy implies for it.
        measured: The comparison on a measured network, or `None`.
    """

    published: Published
    profile: str
    networks: tuple[NetworkRow, ...]
    chosen: str
    reasons: tuple[str, ...]
    implied: tuple[Implied, ...]
    measured: Comparison | None = None


def reproduce(
    graphs: Sequence[tuple[str, Graph]], profile: Profile, measured: Measured | None = None
) -> Reproduction:
    """Analyse the published comparison.

    Args:
        graphs: The paper's networks by name.
        profile: Technology with the paper's prices (45 nm, fp32).
        measured: A network with measured activity, to compare with.
    """
    ac, mac = _prices(profile)
    inventories = [(name, take_inventory(graph)) for name, graph in graphs]
    rows = tuple(_network(name, inventory, ac, mac) for name, inventory in inventories)
    chosen = max(rows, key=lambda row: (row.one_digit, row.two_decimals, row.macs))
    return Reproduction(
        PUBLISHED,
        profile.label,
        rows,
        chosen.name,
        _reasons(rows, chosen),
        tuple(_implied(t, chosen, ac, mac) for t in FirstLayer),
        None if measured is None else compare(measured, profile, chosen.macs),
    )


def _prices(profile: Profile) -> tuple[float, float]:
    """Prices of an accumulation and a multiply-accumulate, in J."""
    found = [arithmetic(p, profile.pricing).pJ for p in (Primitive.ADD, Primitive.MAC)]
    ac, mac = (float("nan") if p is None else p.value * 1e-12 for p in found)
    return ac, mac


def _macs(inventory: Inventory) -> tuple[int, int]:
    """Dense MACs of one pass: those of all layers, and those of the first layer."""
    trunk = inventory.trunk
    return sum(x.macs.dense for x in trunk), sum(x.macs.dense for x in trunk if x.first)


def _network(name: str, inventory: Inventory, ac: float, mac: float) -> NetworkRow:
    macs, first = _macs(inventory)
    energy, T = macs * mac, inventory.graph.T
    return NetworkRow(
        name=name,
        steps=T,
        macs=macs,
        first_macs=first,
        ann_J=energy,
        one_digit=_within(energy, PUBLISHED.ann_one_digit),
        two_decimals=_within(energy, PUBLISHED.ann_two_decimals),
        implied=PUBLISHED.snn_J / (macs * T * ac),
    )


def _within(value: float, interval: Interval) -> bool:
    return interval.low <= value < interval.high


def _reasons(rows: Sequence[NetworkRow], chosen: NetworkRow) -> tuple[str, ...]:
    others = [r for r in rows if r.name != chosen.name]
    listed = ", ".join(f"{r.name} {1e3 * r.ann_J:.2f} mJ" for r in others)
    least = min(r.ann_J * r.steps for r in rows)
    loose = [r.name for r in others if r.two_decimals]
    reasons = [
        f"one dense pass of {chosen.name} is {chosen.macs:,} MACs x 4.6 pJ = {1e3 * chosen.ann_J:.3f} mJ, which prints as "
        f"0.01 J; the others: {listed}",
        f"with T passes every network is at {1e3 * least:.1f} mJ or more, so the published ANN is one pass, not T",
        "the published factor 5.26 is 0.01 / 0.0019, a ratio of the two rounded numbers: it adds no evidence",
        "this is an inference from shapes: the available material does not name the network",
    ]
    if loose:
        reasons.insert(
            1,
            f"if 0.01 J is rounded to two decimals instead of one digit, {' and '.join(loose)} could be meant as well",
        )
    return tuple(reasons)


def _implied(treatment: FirstLayer, row: NetworkRow, ac: float, mac: float) -> Implied:
    rest = row.macs - row.first_macs
    fixed, per_rate = {
        FirstLayer.AC: (0.0, row.steps * ac * row.macs),
        FirstLayer.MAC_ONCE: (mac * row.first_macs, row.steps * ac * rest),
        FirstLayer.MAC_NNZ: (0.0, row.steps * (mac * row.first_macs + ac * rest)),
        FirstLayer.MAC_DENSE: (row.steps * mac * row.first_macs, row.steps * ac * rest),
    }[treatment]
    rates = [
        max(0.0, (e - fixed) / per_rate)
        for e in (PUBLISHED.snn_J, PUBLISHED.snn_rounding.low, PUBLISHED.snn_rounding.high)
    ]
    if not rates[2]:
        return Implied(treatment, None, None, fixed)
    return Implied(treatment, rates[0], Interval(rates[1], rates[2]), fixed)


def compare(m: Measured, profile: Profile, published_macs: int) -> Comparison:
    """Make the paper's comparison with measured rates."""
    _, mac = _prices(profile)
    macs, _ = _macs(m.inventory)
    sparse = [x for x in m.inventory.trunk if x.event_driven]
    operations = sum((m.synops_by_rate(x).total for x in sparse), Fraction(0)) / len(m)
    possible = sum(x.macs.dense_per_inference for x in sparse)
    rows = first_layers(m, profile, AccountingOptions())
    return Comparison(
        name=m.inventory.graph.source.get("architecture", "custom"),
        steps=m.inventory.graph.T,
        recordings=len(m),
        macs=macs,
        ann_J=macs * mac,
        rate=float(operations / possible) if possible else None,
        same_network=macs == published_macs,
        rows=rows,
        verdicts=tuple(_verdict(row) if macs == published_macs else None for row in rows),
    )


def _verdict(row: FirstLayerRow) -> str:
    """Whether the interval of the mean overlaps the energies that print as the published one."""
    interval = row.snn.interval
    if interval is None:
        return "undecided: one recording has no interval"
    printed = PUBLISHED.snn_rounding
    overlaps = interval.low * 1e-12 < printed.high and interval.high * 1e-12 >= printed.low
    return "consistent" if overlaps else "not consistent"
