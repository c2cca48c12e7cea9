"""Whether a network fits a chip: placement by channel and spatial splitting, and the binding limits.

The rules of placement:

* The outputs of each layer with weights form a population. A core holds `s` channels of an `h` x `w` tile of
  one population; all cores of a population have slices of the same size, except at the edges. The slice that needs the
  fewest cores is taken.
* Convolution weights are shared inside a core: a core stores the kernels of its channels once. For chips that store every
  synapse separately, this is a lower bound.
* A core receives every input element in the receptive field of its tile on one axon each (dense layers and
  one-dimensional convolutions: the whole input). A neuron sends one axon to each channel slice of each
  population that reads it (copies for overlapping tiles are not counted).
* A relay (a sum of real numbers that is sent on) is the population of a layer whose sums arrive there. A relay without
  such a layer, or logic of spikes, is a population without weights, which takes as many cores as its neurons need.
* Delays are on axons and need no core; attention is a program of the chip's embedded processors or of the host
  (`energy.count.additions`).
* Pooling and read-out happen in transit and need no core. Weights take 8 bits, or the chip's widest
  if that is less.
* A chip that states a number of layers runs one population on one core, without splitting.

Limits that a profile does not state are not checked, but listed; so is what the network asks of a chip's neurons beyond
binary spikes and a reset to a value, which the verdict repeats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tcja_deploy.energy.count.additions import Addition, additions
from tcja_deploy.energy.count.inventory import Inventory, SynapticLayer
from tcja_deploy.energy.count.quantities import Ints
from tcja_deploy.energy.place.matching import one_each
from tcja_deploy.energy.place.receptive import field, synapses
from tcja_deploy.hardware_profiles import ChipLimits, Profile, Quantity
from tcja_deploy.ir import Graph

__all__ = ["Fit", "Placed", "PlacedAddition", "place"]

_BITS = 8


@dataclass(frozen=True, slots=True)
class Placed:
    """One population on a chip.

    Attributes:
        node: The layer with weights whose outputs it is.
        neurons: Number of its neurons.
        slice: Channels, rows and columns in one core; `None` if no core can hold any slice.
        slices: Number of slices into which channels, rows and columns are cut; `None` likewise.
        cores: Number of cores needed; `None` likewise, or if the profile states no limit of a core.
        binding: The limit that alone would need the most cores; of several such limits, the one that a single core would
            exceed by the largest factor.
        alone: Number of cores that each limit alone would need; `None` if it cannot be met.
        violations: Limits that no splitting can meet.
    """

    node: str
    neurons: int
    slice: tuple[int, int, int] | None
    slices: tuple[int, int, int] | None
    cores: int | None
    binding: str
    alone: tuple[tuple[str, int | None], ...]
    violations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlacedAddition:
    """A part of a network with branches that is not a layer with weights, on a chip.

    Attributes:
        addition: The part.
        where: The part of the chip that computes it.
        cores: Number of cores that its neurons need; 0 if it needs none, `None` if no limit of a core is published.
    """

    addition: Addition
    where: str
    cores: int | None


@dataclass(frozen=True, slots=True)
class Fit:
    """A network on a chip.

    Attributes:
        profile: Name of the chip's profile.
        populations: One per layer with weights.
        cores: Number of cores needed; `None` if some population cannot be placed, or no limit of a core is published.
        cores_per_chip: Number of cores of one chip; `None` if not published.
        chips: Number of chips needed; `None` if it cannot be determined.
        violations: Why the network does not fit, however many chips there are.
        unchecked: Limits that the profile does not state, and abilities that the network asks for likewise.
        weight_bit: Bits per weight.
        added: Relays, logic, delays and programs.
    """

    profile: str
    populations: tuple[Placed, ...]
    cores: int | None
    cores_per_chip: int | None
    chips: int | None
    violations: tuple[str, ...]
    unchecked: tuple[str, ...]
    weight_bit: int
    added: tuple[PlacedAddition, ...] = ()

    @property
    def verdict(self) -> str:
        """Whether the network fits, in one line."""
        if self.violations:
            more = f" (and {len(self.violations) - 1} more limits)" if len(self.violations) > 1 else ""
            return f"does not fit: {self.violations[0]}{more}"
        if self.chips is None:
            return "cannot be determined: the profile does not state the chip's capacity"
        chips = f"{self.chips} chip{'s' if self.chips > 1 else ''}"
        if self.cores is None:
            return f"needs at least {chips}: only chip-wide limits are published"
        asked = " and ".join(name for name in _ABILITIES if name in self.unchecked)
        more = f"; it needs {asked}, which the profile does not state" * bool(asked)
        return f"fits on {chips}, as far as limits are published{more}"

    def placed(self, node: str) -> Placed:
        """The population of a layer."""
        return next(p for p in self.populations if p.node == node)


_GRADED, _SUBTRACTION = _ABILITIES = ("graded spikes", "neurons that reset by subtraction")

_CHECKED = (
    "cores", "neurons_per_core", "synaptic_memory_per_core", "axons_in_per_core", "axons_out_per_core", "fan_in",
    "neurons", "memory", "feature_map_side", "input_side", "layers",
)  # fmt: skip


def place(inventory: Inventory, profile: Profile) -> Fit:
    """Place a network on a chip."""
    limits = profile.limits
    widest = _value(limits.weight)
    bits = min(_BITS, widest) if widest else _BITS
    unchecked = tuple(name for name in _CHECKED if _value(getattr(limits, name)) is None)
    trunk = inventory.trunk
    violations = _whole_network(inventory, limits)
    if _value(limits.layers) is not None:
        populations, more = _one_core_each(trunk, limits, bits)
        violations += more
    else:
        populations = _split(inventory, limits, bits)
        violations += [f"{p.node}: {v}" for p in populations for v in p.violations]
    per_chip = _value(limits.cores)
    added = tuple(_place_addition(a, limits) for a in additions(inventory.graph))
    unchecked += _unstated_abilities(inventory.graph, added, limits)
    each = [*(p.cores for p in populations), *(a.cores for a in added)]
    cores = None if None in each else sum(n or 0 for n in each)
    counts = _chips_by_size(trunk, limits, bits)
    if cores is not None and per_chip:
        counts.append(-(-cores // per_chip))
    chips = max(counts) if counts and not violations else None
    return Fit(
        profile.name, tuple(populations), cores, per_chip, chips, tuple(violations), unchecked, bits, added
    )


def _unstated_abilities(graph: Graph, added: Sequence[PlacedAddition], limits: ChipLimits) -> tuple[str, ...]:
    """What the neurons have to be able to, and the profile does not say that they are."""
    graded = any(a.addition.kind in ("relay", "program") for a in added)  # a gate scales what it meets
    found = (_GRADED,) if graded and _value(limits.payload) is None else ()
    subtracted = any(node.op.spiking and getattr(node.op, "v_reset", 0.0) is None for node in graph)
    return (*found, _SUBTRACTION) if subtracted else found


def _place_addition(addition: Addition, limits: ChipLimits) -> PlacedAddition:
    """Place a part without weights."""
    if addition.kind == "program":
        return PlacedAddition(addition, "embedded processors or the host", 0)
    if addition.kind == "delay":
        return PlacedAddition(addition, "axons, if they can delay spikes that long", 0)
    most = _value(limits.neurons_per_core)
    where = "neurons of threshold logic"
    if addition.kind == "relay":
        graded = _value(limits.payload)
        width = f"up to {graded} bits" if graded else "which the profile does not state"
        own = f"the neurons of {addition.layer}" if addition.layer else "neurons"
        where = f"{own} without a threshold, sending graded spikes ({width})"
        if addition.layer:
            return PlacedAddition(addition, where, 0)
    return PlacedAddition(addition, where, -(-addition.elements // most) if most else None)


def _value(quantity: Quantity | None) -> int | None:
    return None if quantity is None or quantity.value is None else int(quantity.value)


def _whole_network(inventory: Inventory, limits: ChipLimits) -> list[str]:
    found = []
    side, need = _value(limits.input_side), max(inventory.graph.input_shape[-2:], default=0)
    if side is not None and need > side:
        found.append(f"the input is {need} px wide or high, the chip takes {side}")
    side = _value(limits.feature_map_side)
    for layer in inventory.trunk:
        need = max(_shape(layer)[1:])
        if side is not None and need > side:
            found.append(f"{layer.node}: the map is {need} px wide or high, the chip holds {side}")
    most = _value(limits.layers)
    if most is not None and len(inventory.trunk) > most:
        found.append(f"{len(inventory.trunk)} layers with weights, the chip runs {most}")
    return found


def _chips_by_size(trunk: Sequence[SynapticLayer], limits: ChipLimits, bits: int) -> list[int]:
    weights = sum(layer.parameters for layer in trunk)
    need = {
        "neurons": sum(math.prod(layer.shape_out) for layer in trunk),
        "synapses": weights,
        "memory": -(-weights * bits // 8192),
    }
    have = {name: _value(getattr(limits, name)) for name in need}
    return [-(-need[name] // most) for name, most in have.items() if most]


def _shape(layer: SynapticLayer) -> tuple[int, int, int]:
    """Channels, rows and columns of the output; axes before the channels count as rows."""
    trailing = 2 - layer.map_axes  # axes that a map has and the result does not
    *lead, c, h, w = (*layer.shape_out, *(1,) * max(trailing, 3 - len(layer.shape_out)))
    return c, math.prod(lead) * h, w


@dataclass(frozen=True, slots=True)
class _Slices:
    """All ways to cut a population: channels, rows and columns per core, and the number of cores for each way."""

    s: Ints
    h: Ints
    w: Ints
    cores: Ints

    @staticmethod
    def of(shape: tuple[int, int, int]) -> _Slices:
        axes = [np.unique([-(-n // ways) for ways in range(1, n + 1)]).astype(np.int64) for n in shape]
        s, h, w = (a.reshape(-1) for a in np.meshgrid(*axes, indexing="ij"))
        cores = (-(-shape[0] // s)) * (-(-shape[1] // h)) * (-(-shape[2] // w))
        return _Slices(s, h, w, cores)


def _split(inventory: Inventory, limits: ChipLimits, bits: int) -> list[Placed]:
    """Place populations from last to first, because a core's output axons depend on its readers' slices."""
    placed: dict[str, Placed] = {}
    readers = _readers(inventory)
    for layer in reversed(inventory.trunk):
        messages = sum((placed[r].slices or (1,))[0] for r in readers[layer.node])
        placed[layer.node] = _place_one(inventory, layer, limits, bits, messages)
    return [placed[layer.node] for layer in inventory.trunk]


def _place_one(
    inventory: Inventory, layer: SynapticLayer, limits: ChipLimits, bits: int, messages: int
) -> Placed:
    shape = _shape(layer)
    cuts = _Slices.of(shape)
    op = inventory.graph[layer.node].op
    stored = -(-op.constants()["weight"].size // shape[0])  # weights per output channel
    reads, fan_in = field(op, layer.shape_in, (cuts.s, cuts.h, cuts.w), shape[0]), synapses(op)
    memory = limits.synaptic_memory_per_core or limits.memory_per_core
    need = {
        "neurons": (cuts.s * cuts.h * cuts.w, _value(limits.neurons_per_core)),
        "synaptic memory": (cuts.s * stored * bits, None if memory is None else (_value(memory) or 0) * 8192),
        "axons in": (reads, _value(limits.axons_in_per_core)),
        "axons out": (cuts.s * cuts.h * cuts.w * messages, _value(limits.axons_out_per_core)),
    }
    violations = []
    most = _value(limits.fan_in)
    if most is not None and fan_in > most:
        violations.append(f"{fan_in:,} synapses into a neuron, the chip takes {most:,}")
    allowed = np.ones(len(cuts.cores), bool)
    alone: list[tuple[str, int | None]] = []
    for name, (used, most) in need.items():
        if most is None:
            continue
        fits = used <= most
        alone.append((name, int(cuts.cores[fits].min()) if fits.any() else None))
        if not fits.any():
            violations.append(f"{name}: at least {int(used.min()):,}, a core has {most:,}")
        allowed &= fits
    whole = int(np.argmin(cuts.cores))  # among limits that need equally many cores: the most exceeded one
    fullness = {name: used[whole] / most for name, (used, most) in need.items() if most}
    order = {name: (math.inf if n is None else n, fullness[name]) for name, n in alone}
    binding = max(order, key=lambda name: order[name]) if order else "none stated"
    neurons = math.prod(shape)
    if not allowed.any() or not alone:
        return Placed(layer.node, neurons, None, None, None, binding, tuple(alone), tuple(violations))
    best = int(
        np.lexsort((-cuts.s, cuts.cores + ~allowed * cuts.cores.max()))[0]
    )  # few cores, then few slices
    tile = (int(cuts.s[best]), int(cuts.h[best]), int(cuts.w[best]))
    slices = (-(-shape[0] // tile[0]), -(-shape[1] // tile[1]), -(-shape[2] // tile[2]))
    cores = int(cuts.cores[best])
    return Placed(layer.node, neurons, tile, slices, cores, binding, tuple(alone), tuple(violations))


def _readers(inventory: Inventory) -> dict[str, list[str]]:
    """For each layer with weights, the layers with weights that come next."""
    trunk = {layer.node for layer in inventory.trunk}
    before: dict[str, set[str]] = {}
    readers: dict[str, list[str]] = {name: [] for name in trunk}
    for node in inventory.graph:
        sources: set[str] = set()
        for name in node.inputs:
            sources |= {name} if name in trunk else before[name]
        before[node.name] = sources
        if node.name in trunk:
            for name in sources:
                readers[name].append(node.name)
    return readers


def _one_core_each(
    trunk: Sequence[SynapticLayer], limits: ChipLimits, bits: int
) -> tuple[list[Placed], list[str]]:
    """Chips whose cores differ and run one layer each: find a core for every layer."""
    count = _value(limits.cores) or 0

    def per_core(quantity: Quantity | None, scale: int) -> list[float]:
        if quantity is None or quantity.value is None:
            return [math.inf] * count
        return [n * scale for n in quantity.per_core or (quantity.value,) * count]

    neurons = per_core(limits.neurons_per_core, 1)
    memory = per_core(limits.synaptic_memory_per_core or limits.memory_per_core, 8192)
    populations, options, violations = [], [], []
    for layer in trunk:
        size, stored = math.prod(layer.shape_out), layer.parameters * bits
        fitting = [i for i in range(count) if size <= neurons[i] and stored <= memory[i]]
        reasons = []
        if size > max(neurons, default=0):
            reasons.append(f"{size:,} neurons, the largest core holds {max(neurons, default=0):,.0f}")
        if stored > max(memory, default=0):
            reasons.append(
                f"{stored // 8192:,} KiB of weights, the largest core has {max(memory) / 8192:,.0f}"
            )
        binding = "neurons" if size / max(neurons) >= stored / max(memory) else "synaptic memory"
        tile = _shape(layer) if fitting else None
        populations.append(
            Placed(
                layer.node,
                size,
                tile,
                tile and (1, 1, 1),
                1 if fitting else None,
                binding,
                (),
                tuple(reasons),
            )
        )
        violations += [f"{layer.node}: {reason}" for reason in reasons]
        options.append(fitting)
    if not violations and one_each(options) is None:
        violations.append("the layers fit the cores one by one, but not all of them at once")
    return populations, violations
