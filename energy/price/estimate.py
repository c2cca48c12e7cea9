"""From counted work to energy: one estimate per network, convention and price list, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.price.convention import Convention
from tcja_deploy.energy.price.conventions import (
    CONVENTIONS,
    AccountingOptions,
    ann_lines,
    convention,
    snn_lines,
)
from tcja_deploy.energy.price.line import Counterpart, Line, total_energies
from tcja_deploy.energy.price.statistics import Interval, Summary, summarise
from tcja_deploy.errors import UsageError
from tcja_deploy.hardware_profiles import ChipKind, Precision, Profile, load_profile

__all__ = [
    "DEFAULT_PRICES",
    "EnergyEstimate",
    "Entry",
    "Unpriced",
    "counterparts",
    "estimate",
    "estimates",
    "select",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an estimate, averaged over the recordings.

    Attributes:
        node: Name of the node.
        purpose: What the operations are for.
        what: Name of the operation in the network.
        operation: Name of the priced operation.
        count: Mean number of operations per inference.
        price_pJ: Price of one operation in pJ; `None` if unpriced.
        energy_pJ: Mean energy per inference in pJ; `None` if unpriced.
    """

    node: str
    purpose: str
    what: str
    operation: str
    count: float
    price_pJ: float | None  # noqa: N815 - the unit's own spelling
    energy_pJ: float | None  # noqa: N815


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Operations without a published price: their number per inference, and why there is no price."""

    purpose: str
    what: str
    operation: str
    count: float
    reason: str


@dataclass(frozen=True, slots=True)
class EnergyEstimate:
    """Energy of one network under one convention and price list, per inference (all T steps).

    Attributes:
        subject: `SNN`, or the counterpart it is compared with.
        convention: Name and version of the convention.
        profile: Name, price list and version of the profile.
        energy_pJ: Energy over the recordings, in pJ; `None` if nothing is priced.
        prices_pJ: The mean at the lowest and at the highest published prices, in pJ; `None` likewise.
        steps: Number of time steps in the inference.
        entries: Every priced and unpriced line.
        by_purpose: Mean energy by purpose, in pJ.
        nodes: Mean energy by node in the order of the network, in pJ; work that belongs to no node comes last.
        unpriced: Work without a price; if there is any, the energy is a lower bound.
        assumptions: What had to be assumed to use the prices.
        sources: Sources of the prices.
    """

    subject: str
    convention: str
    profile: str
    energy_pJ: Summary | None  # noqa: N815 - the unit's own spelling
    prices_pJ: Interval | None  # noqa: N815
    steps: int
    entries: tuple[Entry, ...]
    by_purpose: tuple[tuple[str, float], ...]
    nodes: tuple[tuple[str, float], ...]
    unpriced: tuple[Unpriced, ...]
    assumptions: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def per_step_pJ(self) -> float | None:  # noqa: N802 - the unit's own spelling
        """Mean energy per time step, in pJ."""
        return None if self.energy_pJ is None else self.energy_pJ.mean / self.steps

    @property
    def complete(self) -> bool:
        """Whether everything is priced."""
        return not self.unpriced


def counterparts(profile: Profile, T: int) -> tuple[Counterpart, ...]:
    """The networks with which an SNN is compared on a profile: the ANN and, for 8-bit arithmetic, the bit-matched QNN."""
    if profile.kind is ChipKind.NEUROMORPHIC:
        return ()
    plain = Counterpart(f"ANN {profile.pricing.precision.value}")
    if profile.pricing.precision is Precision.INT8:
        return (plain, Counterpart.bit_matched(T))
    return (plain,)


DEFAULT_PRICES = ("asic45", "asic45-int8")
"""Default price lists: 45 nm, as in the papers."""


def select(names: Sequence[str], prices: Sequence[str]) -> tuple[list[Convention] | None, list[Profile]]:
    """Conventions and price lists by name; the default price lists are added if a technology node is needed and none given.

    Args:
        names: Names of conventions; empty for all that the price lists can price.
        prices: Names of built-in profiles, or paths of files.

    Returns:
        The conventions, `None` for all, and the profiles.

    Raises:
        ProfileError: If there is no such profile, or one breaks the schema.
        UsageError: If there is no such convention.
    """
    chosen = [convention(name) for name in dict.fromkeys(names)]
    profiles = [load_profile(name) for name in prices]
    needs_technology = not chosen or any(ChipKind.ASIC in c.kinds for c in chosen)
    if needs_technology and not any(p.kind is ChipKind.ASIC for p in profiles):
        profiles = [*map(load_profile, DEFAULT_PRICES), *profiles]
    return chosen or None, profiles


def estimates(
    m: Measured, conventions: Sequence[Convention], profiles: Sequence[Profile], options: AccountingOptions
) -> tuple[EnergyEstimate, ...]:
    """Estimates of the network and its counterparts, for each convention and every profile that can price it.

    Raises:
        UsageError: If no profile can price a convention, or no convention uses a profile.
    """
    done = []
    pairs = [(c, p) for c in conventions for p in profiles if p.kind in c.kinds]
    for c in conventions:
        if not any(c is used for used, _ in pairs):
            raise UsageError(
                f"the convention {c.name!r} needs a profile of kind {' or '.join(k.value for k in c.kinds)}",
                hint="add one with --profile; 'tcja-deploy profiles list' shows them",
            )
    for p in profiles:
        if not any(p is used for _, used in pairs):
            raise UsageError(
                f"no chosen convention can use the {p.kind.value} profile {p.name!r}",
                hint=f"it prices --convention {' or '.join(c.name for c in CONVENTIONS.values() if p.kind in c.kinds)}",
            )
    for c, p in pairs:
        done.append(estimate(m, "SNN", c, p, snn_lines(m, c, p, options)))
        for counterpart in counterparts(p, m.inventory.graph.T):
            done.append(
                estimate(m, counterpart.name, c, p, ann_lines(m, c, p.pricing, options, counterpart), steps=1)
            )
    return tuple(done)


def estimate(
    m: Measured,
    subject: str,
    convention: Convention,
    profile: Profile,
    lines: Sequence[Line],
    *,
    steps: int | None = None,
) -> EnergyEstimate:
    """Add up lines to an estimate; `steps` is T unless given."""
    energies = [line.energies() for line in lines]
    total = total_energies(energies, len(m))
    by_purpose: dict[str, float] = defaultdict(float)
    nodes: dict[str, float] = defaultdict(float)
    entries = []
    for line, energy in zip(lines, energies, strict=True):
        mean = None if energy is None else float(energy.mean())
        if mean is not None:
            by_purpose[line.purpose.value] += mean
            nodes[line.node] += mean
        price = None if line.price.pJ is None else line.price.pJ.value
        entries.append(
            Entry(line.node, line.purpose.value, line.what, line.price.name, line.ops.mean, price, mean)
        )
    place = {n.name: i for i, n in enumerate(m.inventory.graph)}
    prices = None
    if total is not None:
        ends = [
            sum(float(e.mean()) for line in lines if (e := line.energies(b)) is not None)
            for b in ("low", "high")
        ]
        prices = Interval(*ends)
    return EnergyEstimate(
        subject=subject,
        convention=convention.label,
        profile=f"{profile.label} {profile.version}",
        energy_pJ=None if total is None else summarise(total[:, None])[0],
        prices_pJ=prices,
        steps=m.inventory.graph.T if steps is None else steps,
        entries=tuple(entries),
        by_purpose=tuple(by_purpose.items()),
        nodes=tuple(sorted(nodes.items(), key=lambda item: place.get(item[0], len(place)))),
        unpriced=_unpriced(lines),
        assumptions=tuple(dict.fromkeys(x.price.assumption for x in lines if x.price.assumption)),
        sources=tuple(dict.fromkeys(x.price.source for x in lines if x.price.source)),
    )


def _unpriced(lines: Sequence[Line]) -> tuple[Unpriced, ...]:
    """Work without a price that actually occurs, summed over nodes."""
    counts: dict[tuple[str, str, str, str], float] = defaultdict(float)
    for line in lines:
        if line.price.pJ is None and line.ops.mean > 0:
            counts[line.purpose.value, line.what, line.price.name, line.price.reason] += line.ops.mean
    return tuple(Unpriced(purpose, what, name, n, why) for (purpose, what, name, why), n in counts.items())
