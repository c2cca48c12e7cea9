"""The `hardware` convention: the energy by one chip's published prices, and what they leave open."""

from __future__ import annotations

import math

from tcja_deploy.energy.count.additions import additions
from tcja_deploy.energy.count.inventory import Drive, Measured, Primitive, Purpose, SynapticLayer
from tcja_deploy.energy.count.quantities import Ops
from tcja_deploy.energy.place.placement import Fit, place
from tcja_deploy.energy.price.convention import Convention
from tcja_deploy.energy.price.line import Line
from tcja_deploy.energy.price.prices import Price, arithmetic, chip_price
from tcja_deploy.hardware_profiles import (
    Availability,
    Bound,
    Bounds,
    ChipKind,
    OpClass,
    OpGroup,
    Pricing,
    Profile,
    Quantity,
    Unit,
)
from tcja_deploy.hardware_profiles.vocabulary import OP_CLASSES
from tcja_deploy.ir import Kind

__all__ = ["HARDWARE", "ann_lines", "latency_ns", "snn_lines"]

HARDWARE = Convention(
    "hardware",
    "1",
    "Published prices of one chip, as far as they go",
    (
        "E = SOP E_synop + graded SOP E_synop_graded + updates E_neuron + spikes E_spike + messages E_axon "
        "+ static power x chips x latency",
        "event counts enter as graded spikes where the chip prices them, else as repeated binary spikes; fractions "
        "among them, and numbers other than 1 where the network declares spikes, as graded spikes",
        "messages: one for each spike and channel slice of the layer that reads it (see Placement)",
        "latency: T steps of the chip's time step; else, with the chip's operation times, T times the busiest "
        "layer's share per core plus the barrier: an estimate, perfect balance makes it short and operation times "
        "published as maxima make it long",
        "CPU and GPU: dense MACs of all T steps; their published prices do not profit from zeros",
        "a price that is all-in stands alone",
    ),
    (
        "terms without a published price: listed, never zero",
        "attention and dense layers on spiking chips: the chips have no such operation; listed",
        "relays' graded spikes, logic of spikes and delays of branches: counted, no chip publishes a price; listed",
        "pooling, bias, residual sums, read-out: done on the way by the chip's own means",
        "host, input and output, DRAM: no published price available",
    ),
    ("the profile's own sources, printed with each price",),
    (ChipKind.NEUROMORPHIC, ChipKind.PROCESSOR),
)


def snn_lines(m: Measured, profile: Profile) -> list[Line]:
    """Lines of the spiking network: its priced and its unpriced work on a chip or processor."""
    if profile.kind is ChipKind.PROCESSOR:
        return _processor(m, profile.pricing)
    fit = place(m.inventory, profile)
    lines = [line for layer in m.inventory.layers for line in _synapses(m, layer, profile.pricing)]
    lines += _neurons(m, profile.pricing) + _messages(m, profile.pricing, fit) + _elsewhere(m)
    lines += _added(m)
    lines += _static(m, profile, fit)
    return lines


def _processor(m: Measured, pricing: Pricing) -> list[Line]:
    mac = arithmetic(Primitive.MAC, pricing)
    lines = [
        Line(x.node, Purpose.SYNAPSES, "dense MACs", Ops.constant(x.macs.dense_per_inference, len(m)), mac)
        for x in m.inventory.layers
    ]
    return lines + [
        Line(w.node, w.purpose, w.what, Ops.constant(w.dense, len(m)), arithmetic(w.primitive, pricing))
        for w in m.inventory.operations
    ]


def ann_lines(m: Measured, pricing: Pricing) -> list[Line]:
    """Lines of the counterpart, which runs on processors: one pass of dense MACs."""
    mac = arithmetic(Primitive.MAC, pricing)
    return [
        Line(x.node, Purpose.SYNAPSES, "dense MACs", Ops.constant(x.macs.dense, len(m)), mac)
        for x in m.inventory.trunk
    ]


def _skipped(op: OpClass, pricing: Pricing) -> bool:
    """Whether a list includes an operation in another price, or does not mention it and need not."""
    availability = pricing.availability(op)
    asked = OP_CLASSES[op].group in (OpGroup.SYNAPTIC, OpGroup.NEURON, OpGroup.STATIC)
    return availability is Availability.INCLUDED or (availability is Availability.ABSENT and not asked)


def _synapses(m: Measured, layer: SynapticLayer, pricing: Pricing) -> list[Line]:
    if not layer.event_driven:
        purpose = Purpose.ATTENTION if layer.attention else Purpose.SYNAPSES
        nothing = Price("mac", None, reason="the chip has no dense layers: has to be computed elsewhere")
        return [Line(layer.node, purpose, "dense MACs", m.synops(layer), nothing)]
    repeat = _repeats(layer, pricing)
    if layer.kind is not Kind.BINARY and not repeat:
        return _priced(layer, "graded spikes", m.synops(layer), OpClass.SYNOP_GRADED, pricing)
    what = "event counts, as repeated spikes" if repeat else "binary spikes"
    lines = _priced(layer, what, m.as_accumulations(layer), OpClass.SYNOP, pricing)
    if (rest := m.beyond_accumulations(layer)) is not None:
        lines += _priced(layer, "inputs that are not such spikes", rest, OpClass.SYNOP_GRADED, pricing)
    return lines


def _priced(layer: SynapticLayer, what: str, ops: Ops, op: OpClass, pricing: Pricing) -> list[Line]:
    """Synaptic operations at the price of their class, unless the list includes them elsewhere."""
    if _skipped(op, pricing):
        return []
    return [Line(layer.node, Purpose.SYNAPSES, what, ops, chip_price(op, pricing))]


def _repeats(layer: SynapticLayer, pricing: Pricing) -> bool:
    """Whether an event count is sent as that many spikes, because the chip has no price for graded spikes."""
    return layer.kind is Kind.COUNT and pricing.availability(OpClass.SYNOP_GRADED) is not Availability.PRICED


def _neurons(m: Measured, pricing: Pricing) -> list[Line]:
    lines = []
    graph = m.inventory.graph
    for node in m.inventory.membranes:
        # A leaky integrator before a neuron is that neuron's synaptic current, part of the same update.
        inside = not node.op.spiking and any(r.op.spiking for r in graph.readers(node.name))
        if not inside and not _skipped(OpClass.NEURON_UPDATE, pricing):
            updates = Ops.constant(node.signal.size * graph.T, len(m))
            lines.append(Line(node.name, Purpose.NEURON, "updates", updates, _update_price(pricing)))
        if node.op.spiking and not _skipped(OpClass.SPIKE_OUT, pricing):
            price = chip_price(OpClass.SPIKE_OUT, pricing)
            lines.append(Line(node.name, Purpose.NEURON, "spikes", Ops(m.events(Drive(node.name))), price))
    return lines


def _update_price(pricing: Pricing) -> Price:
    """Price of an update with all neurons active; the lower bound is the price of inactive neurons, if that is published."""
    price = chip_price(OpClass.NEURON_UPDATE, pricing)
    inactive = pricing.neuron_update(active=False)
    idle = None if inactive is None else inactive.price
    if price.pJ is None or idle is None or idle.low >= price.pJ.low:
        return price
    bounds = Bounds(low=idle.low, value=price.pJ.value, high=price.pJ.high)
    return Price(
        price.name, bounds, price.source, "every neuron is active in every step; the low end: none is"
    )


def _messages(m: Measured, pricing: Pricing, fit: Fit) -> list[Line]:
    lines = []
    for op, what in ((OpClass.AXON_OUT, "messages"), (OpClass.SPIKE_IN_TILE, "deliveries")):
        if _skipped(op, pricing):
            continue
        for layer in m.inventory.trunk:
            if layer.event_driven and not layer.first:
                ways = (fit.placed(layer.node).slices or (1,))[0]
                events = m.events(Drive(layer.source)) * ways
                lines.append(Line(layer.node, Purpose.TRAFFIC, what, Ops(events), chip_price(op, pricing)))
    if not _skipped(OpClass.HOP, pricing) and pricing.get(OpClass.HOP) is not None:
        total = sum(m.events(Drive(x.source)) for x in m.inventory.trunk if x.event_driven and not x.first)
        price = Price(
            "hop",
            None,
            reason="the number of hops depends on where the cores lie; at least this many messages",
        )
        if not isinstance(total, int):
            lines.append(Line("(network)", Purpose.TRAFFIC, "hops", Ops(total), price))
    return lines


def _elsewhere(m: Measured) -> list[Line]:
    """Work that spiking chips cannot do, by purpose."""
    lines = []
    outside = (Purpose.ATTENTION, Purpose.OTHER, Purpose.NORM)
    price = Price("elsewhere", None, reason="the chip has no such operation: has to be computed elsewhere")
    for work in m.inventory.operations:
        if work.purpose in outside:
            lines.append(Line(work.node, work.purpose, work.what, m.work(work), price))
    return lines


_UNPRICED = {
    "relay": ("graded spikes of a relay", "graded spike", "no price of sending a graded spike is published"),
    "logic": (
        "updates of threshold logic",
        "logic update",
        "no price of a neuron without memory is published",
    ),
    "delay": ("values held back, times steps", "delayed value", "no price of an axon's delay is published"),
}
"""By kind of addition: what is counted, its name, and why it has no price; programs are in the lines of attention."""


def _added(m: Measured) -> list[Line]:
    """What branches add: messages of relays (at most one per value and step, which is counted), logic and delays."""
    lines = []
    for added in additions(m.inventory.graph):
        if added.kind in _UNPRICED:
            what, name, reason = _UNPRICED[added.kind]
            count = added.elements * m.inventory.graph.T * max(added.steps, 1)
            node = added.node if added.source == added.node else f"{added.source} to {added.node}"
            price = Price(name, None, reason=reason)
            lines.append(Line(node, Purpose.TRAFFIC, what, Ops.constant(count, len(m)), price))
    return lines


def _static(m: Measured, profile: Profile, fit: Fit) -> list[Line]:
    """Static power and clock over the latency; one unpriced operation per inference if that cannot be determined."""
    pricing = profile.pricing
    span = latency_ns(m, profile, fit)
    clock = None if profile.timing.clock is None else profile.timing.clock.bounds(Unit.MHZ)
    lines = []
    for op, what in ((OpClass.STATIC, "static power"), (OpClass.CLOCK_CYCLE, "clock")):
        if _skipped(op, pricing) or pricing.get(op) is None:
            continue
        price = chip_price(op, pricing)
        if (
            price.pJ is None
            or span is None
            or fit.chips is None
            or (op is OpClass.CLOCK_CYCLE and clock is None)
        ):
            unknown = "the latency" if span is None else "the number of chips"
            reason = price.reason or f"priced, but {unknown} cannot be determined"
            nothing = Price(f"{what} of one inference", None, reason=reason)
            lines.append(Line("(chip)", Purpose.STATIC, what, Ops.constant(1, len(m)), nothing))
            continue
        ns, how = span
        ns *= fit.chips
        if op is OpClass.STATIC:  # 1 mW is 1 pJ per nanosecond
            name, count = "nanosecond of one chip", ns
        else:
            name, count = "clock cycle", round(ns * (0.0 if clock is None else clock.value) / 1000)
        unit = Price(name, price.pJ, price.source, "; ".join(filter(None, (price.assumption, how))))
        lines.append(Line("(chip)", Purpose.STATIC, what, Ops.constant(count, len(m)), unit))
    return lines


def latency_ns(m: Measured, profile: Profile, fit: Fit) -> tuple[int, str] | None:
    """Duration of one inference in ns and how it was determined; `None` if the profile does not state enough."""
    timing, T = profile.timing, m.inventory.graph.T

    def ns(quantity: Quantity | None) -> float | None:
        bounds = None if quantity is None else quantity.bounds(Unit.NS)
        return None if bounds is None else bounds.value

    step = ns(timing.step)
    if step is not None:
        return round(T * step), f"{T} steps of the chip's time step"
    synop, update = ns(timing.synop), ns(timing.neuron_update)
    if synop is None or update is None or fit.cores is None:
        return None
    busiest = 0.0
    for layer in m.inventory.trunk:
        placed = fit.placed(layer.node)
        ops = m.as_accumulations(layer) if _repeats(layer, profile.pricing) else m.synops(layer)
        per_core = ops.mean / T / (placed.cores or 1)
        neurons = math.prod(placed.slice or (0,))
        busiest = max(busiest, per_core * synop + neurons * update)
    barrier = ns(timing.barrier_sync) or 0.0
    why = "latency of the busiest layer at perfect balance, without message traffic"
    if any(q is not None and q.bound is Bound.UPPER for q in (timing.synop, timing.neuron_update)):
        why += "; the published operation times are maxima"
    return round(T * (busiest + barrier)), why
