"""All conventions. Each is defined, with its description, options and rules, in the file with its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.price import hardware, memory, paper, strict
from tcja_deploy.energy.price.convention import Convention
from tcja_deploy.energy.price.hardware import HARDWARE
from tcja_deploy.energy.price.line import Counterpart, Line
from tcja_deploy.energy.price.memory import MEMORY, MemoryModel
from tcja_deploy.energy.price.paper import PAPER, FirstLayer
from tcja_deploy.energy.price.strict import STRICT, CountsAs
from tcja_deploy.errors import UsageError
from tcja_deploy.hardware_profiles import Pricing, Profile

__all__ = [
    "ACCOUNTINGS",
    "CONVENTIONS",
    "Accounting",
    "AccountingOptions",
    "Alternative",
    "ann_lines",
    "convention",
    "snn_lines",
]


@dataclass(frozen=True, slots=True)
class AccountingOptions:
    """Choices that the conventions leave open; every report prints them.

    Attributes:
        first_layer: Treatment of the first layer in `paper`.
        counts_as: Treatment of event counts in `strict`, and in `memory`, which builds on it.
        memory: Assumptions of `memory`.
    """

    first_layer: FirstLayer = FirstLayer.AC
    counts_as: CountsAs = CountsAs.MAC
    memory: MemoryModel = field(default_factory=MemoryModel)

    @property
    def facts(self) -> dict[str, str]:
        """The choices as text."""
        return paper.facts(self.first_layer) | strict.facts(self.counts_as) | memory.facts(self.memory)


@dataclass(frozen=True, slots=True)
class Alternative:
    """A variant of the options that differs in one choice.

    Attributes:
        name: What is chosen.
        options: All choices, with this one changed.
        there: The changed choice.
        here: The present choice.
    """

    name: str
    options: AccountingOptions
    there: str
    here: str


@dataclass(frozen=True, slots=True)
class Accounting:
    """How a convention is computed.

    Attributes:
        snn: Lines of the spiking network.
        ann: Lines of the counterpart that it is compared with.
        alternatives: Variants of the options for a sensitivity analysis; `None` if there is none for this convention.
        by_node: Whether a report shows the energy node by node, because the convention counts every operation and nothing
            else.
        choices: Explanation of its options: a title, and each value with its meaning.
    """

    snn: Callable[[Measured, Profile, AccountingOptions], list[Line]]
    ann: Callable[[Measured, Pricing, AccountingOptions, Counterpart], list[Line]]
    alternatives: Callable[[AccountingOptions], list[Alternative]] | None = None
    by_node: bool = False
    choices: tuple[str, tuple[tuple[str, str], ...]] | None = None


def _of_strict(o: AccountingOptions) -> list[Alternative]:
    return [
        Alternative(name, replace(o, counts_as=value), there, here)
        for name, value, there, here in strict.alternatives(o.counts_as)
    ]


def _of_memory(o: AccountingOptions) -> list[Alternative]:
    return _of_strict(o) + [
        Alternative(name, replace(o, memory=value), there, here)
        for name, value, there, here in memory.alternatives(o.memory)
    ]


ACCOUNTINGS = {
    PAPER: Accounting(
        snn=lambda m, profile, o: paper.snn_lines(m, profile.pricing, o.first_layer),
        ann=lambda m, pricing, o, counterpart: paper.ann_lines(m, pricing, counterpart),
        choices=("Treatments of the first layer", tuple((t.value, t.meaning) for t in FirstLayer)),
    ),
    STRICT: Accounting(
        snn=lambda m, profile, o: strict.snn_lines(m, profile.pricing, o.counts_as),
        ann=lambda m, pricing, o, counterpart: strict.ann_lines(m, pricing, counterpart),
        alternatives=_of_strict,
        by_node=True,
    ),
    MEMORY: Accounting(
        snn=lambda m, profile, o: memory.snn_lines(m, profile.pricing, o.counts_as, o.memory),
        ann=lambda m, pricing, o, counterpart: memory.ann_lines(m, pricing, counterpart, o.memory),
        alternatives=_of_memory,
    ),
    HARDWARE: Accounting(
        snn=lambda m, profile, o: hardware.snn_lines(m, profile),
        ann=lambda m, pricing, o, counterpart: hardware.ann_lines(m, pricing),
    ),
}
"""How each convention is computed, in the order of reports. A new convention needs a file and an entry here."""

CONVENTIONS = {c.name: c for c in ACCOUNTINGS}
"""All conventions, by name."""


def snn_lines(
    m: Measured, convention: Convention, profile: Profile, options: AccountingOptions
) -> list[Line]:
    """All lines of the spiking network."""
    return ACCOUNTINGS[convention].snn(m, profile, options)


def ann_lines(
    m: Measured,
    convention: Convention,
    pricing: Pricing,
    options: AccountingOptions,
    counterpart: Counterpart,
) -> list[Line]:
    """All lines of the ANN counterpart, which spiking chips do not run."""
    return ACCOUNTINGS[convention].ann(m, pricing, options, counterpart)


def convention(name: str) -> Convention:
    """A convention by name.

    Raises:
        UsageError: If there is no such convention.
    """
    try:
        return CONVENTIONS[name]
    except KeyError:
        raise UsageError(
            f"there is no convention {name!r}", hint=f"choose from {', '.join(CONVENTIONS)}"
        ) from None
