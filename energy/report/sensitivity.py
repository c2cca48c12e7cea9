"""How much each choice moves the result: one bar a choice, everything else as in the base estimate
(tornado)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from tcja_deploy.energy.count.inventory import Measured, Part, Primitive
from tcja_deploy.energy.price.conventions import CONVENTIONS, CountsAs, MemoryModel, Options
from tcja_deploy.energy.price.estimate import snn_lines
from tcja_deploy.energy.price.lines import Line
from tcja_deploy.energy.price.prices import arithmetic
from tcja_deploy.hardware_profiles import Profile
from tcja_deploy.ir import Kind

__all__ = ["Bar", "Tornado", "tornado"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One choice.

    Attributes:
        name: What is varied.
        low_pJ: Energy at its lower end, in pJ.
        high_pJ: Energy at its upper end, in pJ.
        low: What the lower end is.
        high: What the upper end is.
    """

    name: str
    low_pJ: float  # noqa: N815 - the unit's own spelling
    high_pJ: float  # noqa: N815
    low: str
    high: str

    @property
    def swing(self) -> float:
        """Distance of the ends, in pJ."""
        return self.high_pJ - self.low_pJ


@dataclass(frozen=True, slots=True)
class Tornado:
    """All bars around one base, by falling swing.

    Attributes:
        base: Convention and profile of the base.
        base_pJ: Energy of the base per inference, in pJ.
        bars: One a choice.
    """

    base: str
    base_pJ: float  # noqa: N815
    bars: tuple[Bar, ...]


Against = Callable[[str, float, str, str], None]
"""Files a bar between the base and another value: name, that value, what it is, what the base is."""


def _total(lines: Iterable[Line], bound: str = "value") -> float:
    return float(sum(float(e.mean()) for line in lines if (e := line.energies(bound)) is not None))


def tornado(m: Measured, convention: str, profile: Profile, options: Options) -> Tornado:
    """Vary every choice of `strict` or `memory` on a technology profile."""
    chosen = CONVENTIONS[convention]
    lines = snn_lines(m, chosen, profile, options)
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
    parts = {
        Part.NEURON: "neuron updates",
        Part.ATTENTION: "attention",
        Part.POOLING: "pooling",
        Part.BIAS: "bias",
        Part.STATE: "membrane traffic",
        Part.TRAFFIC: "spike traffic",
    }
    serving = _serving(m)
    for part, name in parts.items():
        rest = [x for x in lines if x.part is not part and serving.get((x.node, x.what)) is not part]
        if len(rest) < len(lines):
            against(name, _total(rest), "left out", "counted")
    repeated = snn_lines(m, chosen, profile, replace(options, counts_as=CountsAs.REPEAT))
    if options.counts_as is CountsAs.MAC:
        against("event counts", _total(repeated), "repeated accumulations", "one MAC each")
    against("graded spikes", _total(_as_accumulations(m, lines, profile)), "accumulations", "MACs")
    against("borders", base + _border_difference(m, lines), "rate x T x dense MACs", "exact fan-out")
    if convention == "memory":
        _vary_memory(m, profile, options, against)
    bars = [Bar(name, low[0], high[0], low[1], high[1]) for name, low, high in ends]
    moving = [bar for bar in bars if bar.swing > 0]
    return Tornado(
        f"{chosen.label}, {profile.label}", base, tuple(sorted(moving, key=lambda bar: -bar.swing))
    )


def _serving(m: Measured) -> dict[tuple[str, str], Part]:
    """Memory traffic, by node and name, that serves work of another part and is left out with it."""
    serving = {(w.node, f"weight read: {w.what}"): w.part for w in m.inventory.works}
    names = ("weight read", "weight fetch", "events", "values", "accumulator read and write")
    serving |= {(x.node, name): Part.ATTENTION for x in m.inventory.layers if x.attention for name in names}
    blocks = {w.node for w in m.inventory.works if w.part is Part.ATTENTION}
    return serving | {(node, "weight fetch"): Part.ATTENTION for node in blocks}


def _as_accumulations(m: Measured, lines: list[Line], profile: Profile) -> list[Line]:
    graded = {x.node for x in m.inventory.trunk if x.kind is Kind.GRADED and x.event_driven}
    ac = arithmetic(Primitive.ADD, profile.pricing)
    return [replace(x, price=ac) if x.part is Part.SYNAPSES and x.node in graded else x for x in lines]


_PER_SYNOP = {
    (Part.WEIGHTS, "weight read"),
    (Part.STATE, "accumulator read and write"),
}
"""Traffic that comes with every synaptic operation."""


def _border_difference(m: Measured, lines: list[Line]) -> float:
    """What the mean dense fan-out adds to whatever comes with a synaptic operation."""
    extra = 0.0
    layers = {x.node: x for x in m.inventory.trunk}
    for line in lines:
        layer = layers.get(line.node)
        wanted = line.part is Part.SYNAPSES or (line.part, line.what) in _PER_SYNOP
        if wanted and layer is not None and line.price.pJ is not None:
            exact = m.synops(layer).mean
            if exact:
                extra += line.ops.mean * (m.synops_by_rate(layer).mean / exact - 1) * line.price.pJ.value
    return extra


def _vary_memory(m: Measured, profile: Profile, options: Options, against: Against) -> None:
    memory = options.memory

    def total(varied: MemoryModel) -> float:
        return _total(snn_lines(m, CONVENTIONS["memory"], profile, replace(options, memory=varied)))

    much = 64 * memory.reuse
    against("weight reuse", total(replace(memory, reuse=much)), f"x {much}", f"x {memory.reuse}")
    on = {True: "with", False: "without"}
    dram = total(replace(memory, dram=not memory.dram))
    against("DRAM fetch of the weights", dram, on[not memory.dram], on[memory.dram])
    sums = total(replace(memory, partial_sums=not memory.partial_sums))
    against("accumulators in memory", sums, on[not memory.partial_sums], on[memory.partial_sums])
