"""How much each choice changes the result: one bar per choice, all else as in the base estimate (tornado)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from tcja_deploy.energy.count.inventory import Measured, Primitive, Purpose
from tcja_deploy.energy.price.convention import Convention
from tcja_deploy.energy.price.conventions import ACCOUNTINGS, AccountingOptions, snn_lines
from tcja_deploy.energy.price.line import Line
from tcja_deploy.energy.price.memory import PER_SYNOP, serving
from tcja_deploy.energy.price.prices import arithmetic
from tcja_deploy.hardware_profiles import Profile
from tcja_deploy.ir import Kind

__all__ = ["Tornado", "TornadoBar", "tornado"]


@dataclass(frozen=True, slots=True)
class TornadoBar:
    """One choice.

    Attributes:
        name: What is varied.
        low_pJ: Energy at its lower end, in pJ.
        high_pJ: Energy at its upper end, in pJ.
        low: The choice at the lower end.
        high: The choice at the upper end.
    """

    name: str
    low_pJ: float  # noqa: N815 - the unit's own spelling
    high_pJ: float  # noqa: N815
    low: str
    high: str

    @property
    def swing(self) -> float:
        """Distance between the ends, in pJ."""
        return self.high_pJ - self.low_pJ


@dataclass(frozen=True, slots=True)
class Tornado:
    """All bars around one base, in order of decreasing swing.

    Attributes:
        base: Convention and profile of the base.
        base_pJ: Energy of the base per inference, in pJ.
        bars: One bar per choice.
    """

    base: str
    base_pJ: float  # noqa: N815
    bars: tuple[TornadoBar, ...]


def _total(lines: Iterable[Line], bound: str = "value") -> float:
    return float(sum(float(e.mean()) for line in lines if (e := line.energies(bound)) is not None))


def tornado(
    m: Measured, convention: Convention, profile: Profile, options: AccountingOptions
) -> Tornado | None:
    """Vary every choice of a convention on a technology profile; `None` if the convention has no alternatives."""
    alternatives = ACCOUNTINGS[convention].alternatives
    if alternatives is None:
        return None
    lines = snn_lines(m, convention, profile, options)
    base = _total(lines)
    ends: list[tuple[str, tuple[float, str], tuple[float, str]]] = []

    def against(name: str, value: float, there: str, here: str) -> None:
        low, high = sorted([(value, there), (base, here)])
        ends.append((name, low, high))

    spread = sum((e for line in lines if (e := line.energies()) is not None), np.zeros(len(m)))
    if len(m) > 1:
        low, high = (float(q) for q in np.quantile(spread, [0.025, 0.975]))
        ends.append(("recording", (low, "2.5 % quietest"), (high, "2.5 % busiest")))
    ends.append(("published prices", (_total(lines, "low"), "lowest"), (_total(lines, "high"), "highest")))
    purposes = {
        Purpose.NEURON: "neuron updates",
        Purpose.ATTENTION: "attention",
        Purpose.POOLING: "pooling",
        Purpose.BIAS: "bias",
        Purpose.STATE: "membrane traffic",
        Purpose.TRAFFIC: "spike traffic",
    }
    serves = serving(m)
    for purpose, name in purposes.items():
        rest = [x for x in lines if x.purpose is not purpose and serves.get((x.node, x.what)) is not purpose]
        if len(rest) < len(lines):
            against(name, _total(rest), "left out", "counted")
    for other in alternatives(options):
        against(other.name, _total(snn_lines(m, convention, profile, other.options)), other.there, other.here)
    against("graded spikes", _total(_as_accumulations(m, lines, profile)), "accumulations", "MACs")
    against("borders", base + _border_difference(m, lines), "rate x T x dense MACs", "exact fan-out")
    bars = [TornadoBar(name, low[0], high[0], low[1], high[1]) for name, low, high in ends]
    moving = [bar for bar in bars if bar.swing > 0]
    return Tornado(
        f"{convention.label}, {profile.label}", base, tuple(sorted(moving, key=lambda bar: -bar.swing))
    )


def _as_accumulations(m: Measured, lines: list[Line], profile: Profile) -> list[Line]:
    graded = {x.node for x in m.inventory.trunk if x.kind is Kind.GRADED and x.event_driven}
    ac = arithmetic(Primitive.ADD, profile.pricing)
    return [replace(x, price=ac) if x.purpose is Purpose.SYNAPSES and x.node in graded else x for x in lines]


def _border_difference(m: Measured, lines: list[Line]) -> float:
    """Energy in pJ that the mean dense fan-out would add to everything that comes with a synaptic operation."""
    extra = 0.0
    layers = {x.node: x for x in m.inventory.trunk}
    for line in lines:
        layer = layers.get(line.node)
        wanted = line.purpose is Purpose.SYNAPSES or (line.purpose, line.what) in PER_SYNOP
        if wanted and layer is not None and line.price.pJ is not None:
            exact = m.synops(layer).mean
            if exact:
                extra += line.ops.mean * (m.synops_by_rate(layer).mean / exact - 1) * line.price.pJ.value
    return extra
