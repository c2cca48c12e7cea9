"""From a graph to the steps of the engine: which nodes run together, and with which tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.events.values import has_places
from tcja_deploy.runtime.events.vectors import LANES, WIDTHS

__all__ = [
    "Charge",
    "EventPlan",
    "FusedLayer",
    "compile_graph",
    "fitting_block",
    "for_columns",
    "in_blocks",
    "meeting_taps",
    "neuron_constants",
    "plain_kernel",
]

_WIDEST = WIDTHS[-1] * LANES
"""Most outputs whose sums fit the registers."""
_FAST_CACHE = 32768
"""Bytes of weights that stay in the first-level cache."""
_NARROWEST = 2 * LANES
"""Fewest outputs of a slice of weights: with fewer, it takes longer to find its rows than to add them."""


class Charge(IntEnum):
    """How a neuron's membrane is charged; each form rounds as the sequence runtime does."""

    SUM = 0  #: `v + x`
    DECAY_INPUT = 1  #: `v + (x - (v - rest)) leak`
    DECAY_INPUT_DIVIDED = 2  #: `v + (x - (v - rest)) / leak`
    DECAY = 3  #: `v - (v - rest) leak + x`
    DECAY_DIVIDED = 4  #: `v - (v - rest) / leak + x`
    AFFINE = 5  #: `((v leak) + drift) + (x gain)`


@dataclass(frozen=True, eq=False)
class FusedLayer:
    """Weights, with or without the neurons after them.

    Attributes:
        name: Name of the neurons, or of the weights if they stand alone.
        source: Name of the value it reads.
        space: Height, width and channels of the input.
        size: Height and width of the output.
        outputs: Channels of the output.
        columns: Columns of the kernel.
        weights: `[blocks, taps x channels x block]`, 64-byte aligned.
        bias: `[blocks x block]`; NaN where a block is longer than the outputs, which never fires.
        taps: See `layer_kernels.spiking_layer`.
        neuron: See `neuron_constants`; `None` without neurons.
        quiet: Whether its neurons never fire without input.
        spatial: Whether the output has height and width as axes.
    """

    name: str
    source: str
    space: tuple[int, int, int]
    size: tuple[int, int]
    outputs: int
    columns: int
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    taps: tuple[NDArray[np.int64], NDArray[np.int64]]
    neuron: tuple[Any, ...] | None
    quiet: bool
    spatial: bool


@dataclass(frozen=True, eq=False)
class EventPlan:
    """A graph, ready to run.

    Attributes:
        graph: The network.
        layers: The layer of each node with weights, by its name.
        fused: For neurons that run together with the weights before them, the name of those weights.
        neurons: For neurons that run by themselves, their constants, see `neuron_constants`; those without go to torch.
        readout: Names of the nodes without weights that follow the last neurons: votes, means over time.
    """

    graph: Graph
    layers: dict[str, FusedLayer]
    fused: dict[str, str]
    neurons: dict[str, tuple[Any, ...]]
    readout: frozenset[str]


def compile_graph(graph: Graph, *, keep: Collection[str] = ()) -> EventPlan:
    """Compile a graph into the engine's steps.

    Args:
        graph: The network; fold its batch normalisation before.
        keep: Names of values that have to appear although only a neuron reads them.
    """
    layers: dict[str, FusedLayer] = {}
    fused: dict[str, str] = {}
    for node in graph:
        if not node.op.synaptic:
            continue
        readers = graph.readers(node.name)
        alone = len(readers) == 1 and node.name != graph.output and node.name not in keep
        behind = readers[0] if alone and isinstance(readers[0].op, ir.Neuron) else None
        layer = _layer(graph, node, behind)
        if layer is not None:
            layers[node.name] = layer
            if behind is not None and layer.neuron is not None:
                fused[behind.name] = node.name
    neurons = {
        node.name: constants
        for node in graph
        if node.name not in fused and (constants := _alone(node)) is not None
    }
    return EventPlan(graph, layers, fused, neurons, _readout(graph))


def _alone(node: Node) -> tuple[Any, ...] | None:
    """The constants of neurons on values by place; `None` for other nodes and neurons, which torch computes."""
    placed = isinstance(node.op, ir.Neuron) and has_places(node.signal)
    return neuron_constants(node.op) if placed else None


def _readout(graph: Graph) -> frozenset[str]:
    before: set[str] = set()  # what a neuron depends on
    for node in reversed(graph.nodes):
        if node.op.spiking or node.name in before:
            before.update(node.inputs)
    found = (node for node in graph if node.name not in before and not node.op.synaptic)
    return frozenset(node.name for node in found if node.inputs and not node.op.spiking)


def _layer(graph: Graph, node: Node, behind: Node | None) -> FusedLayer | None:
    """The layer of a node; `None` if torch should compute it."""
    (signal,) = graph.signals_in(node)
    if signal.dims[:2] != ("T", "N") or not signal.kind.sparse or "T" in node.signal.dims[2:]:
        return None
    op, source = node.op, node.inputs[0]
    if isinstance(op, ir.Linear):
        if len(signal.dims) != 3:
            return None
        before = graph[source]
        shape: tuple[int, ...] = (signal.size, 1, 1)
        if isinstance(before.op, ir.Flatten):
            origin = graph.signals_in(before)[0]
            if len(origin.features) == 3:
                shape = origin.features
        op = ir.Conv2d(op.weight.reshape(-1, *shape), op.bias)
    else:
        if len(signal.dims) != 5 or not isinstance(op, ir.Conv2d | ir.ConvTranspose2d):
            return None
        shape = signal.features
    C, H, W = shape
    kernel = plain_kernel(op)
    bias = np.zeros(kernel.shape[3], np.float32) if op.bias is None else op.bias
    height, columns = node.signal.features[1:] or (1, 1)
    size = (height, columns)
    taps = meeting_taps(op, (H, W), size)
    weights = in_blocks(kernel, _block(kernel))
    biases = for_columns(bias, weights, kernel[..., 0].size, np.nan)
    if max(C, graph.T) > np.iinfo(np.uint16).max or weights[0].size > np.iinfo(np.int32).max:
        return None
    neuron = None if behind is None else neuron_constants(behind.op)
    name = node.name if behind is None or neuron is None else behind.name
    return FusedLayer(
        name,
        source,
        (H, W, C),
        size,
        kernel.shape[3],
        kernel.shape[1],
        weights,
        biases,
        taps,
        neuron,
        neuron is not None and _never_fires(neuron, bias),
        len(node.signal.features) == 3,
    )


def plain_kernel(op: ir.Conv2d | ir.ConvTranspose2d) -> NDArray[np.float32]:
    """Weights `[kH, kW, C, O]` without groups, with zeros between different groups."""
    w = (
        op.weight if isinstance(op, ir.Conv2d) else op.weight.swapaxes(0, 1)
    )  # [O (or O / groups), C / groups (or C), ...]
    if op.groups > 1:
        outputs, inputs = (len(op.weight), op.weight.shape[1] * op.groups)
        if isinstance(op, ir.ConvTranspose2d):
            outputs, inputs = op.weight.shape[1] * op.groups, len(op.weight)
        full = np.zeros((outputs, inputs, *w.shape[2:]), np.float32)
        o, c = outputs // op.groups, inputs // op.groups
        for g in range(op.groups):
            part = w[g * o : (g + 1) * o] if isinstance(op, ir.Conv2d) else w[:, g * c : (g + 1) * c]
            full[g * o : (g + 1) * o, g * c : (g + 1) * c] = part
        w = full
    return w.transpose(2, 3, 1, 0)


def meeting_taps(
    op: ir.Conv2d | ir.ConvTranspose2d, source: tuple[int, int], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For the rows and the columns of the output, which input place meets which kernel place, `[size, taps, 2]`."""
    found = []
    for axis in (0, 1):
        k, s, d, p = op.weight.shape[2 + axis], op.stride[axis], op.dilation[axis], op.padding[axis]
        table = np.full((size[axis], k, 2), -1, np.int64)
        for i in range(size[axis]):
            if isinstance(op, ir.Conv2d):
                pairs = [(i * s - p + m * d, m) for m in range(k)]
            else:
                pairs = [((i + p - m * d) // s, m) for m in range(k) if (i + p - m * d) % s == 0]
            pairs = [(place, m) for place, m in pairs if 0 <= place < source[axis]]
            table[i, : len(pairs)] = np.array(pairs, np.int64).reshape(-1, 2)
        found.append(table)
    return found[0], found[1]


def fitting_block(outputs: int, most: int = _WIDEST) -> int:
    """How many outputs are summed side by side in registers, for few blocks and little padding of the last one."""
    blocks = [LANES * vectors for vectors in WIDTHS if LANES * vectors <= most]
    return min(reversed(blocks), key=lambda b: -(-outputs // b) * (b // LANES + 1))


def _block(kernel: NDArray[np.float32]) -> int:
    """Outputs per block for weights `[kH, kW, C, O]`: one tap should fit the first-level cache, unless that is too narrow."""
    outputs, fits = kernel.shape[3], _FAST_CACHE // (kernel.shape[2] * kernel.itemsize)
    return fitting_block(outputs, fits if fits >= _NARROWEST else _WIDEST)


def in_blocks(kernel: NDArray[Any], block: int, kind: type[Any] = np.float32) -> NDArray[Any]:
    """Weights `[kH, kW, C, O]` as `[blocks, taps x channels x block]`, in blocks of outputs that fit the registers."""
    outputs = kernel.shape[3]
    blocks = -(-outputs // block)
    flat = kernel.reshape(-1, outputs)
    padded = np.zeros((len(flat), blocks * block), kind)
    padded[:, :outputs] = flat
    weights = _aligned((blocks, len(flat) * block), kind)
    weights[:] = padded.reshape(len(flat), blocks, block).swapaxes(0, 1).reshape(blocks, -1)
    return weights


def for_columns(values: NDArray[Any], weights: NDArray[Any], taps: int, rest: Any) -> NDArray[Any]:
    """Values per output, filled up with `rest` to the blocks of `weights`, which have `taps` taps x channels."""
    padded = np.full(weights.size // taps, rest, values.dtype)
    padded[: len(values)] = values
    return padded


def _aligned(shape: tuple[int, ...], kind: type[Any]) -> NDArray[Any]:
    """An array that begins at a cache line, because a vector that crosses two is read at half the speed."""
    size, line = int(np.prod(shape)) * np.dtype(kind).itemsize, 64
    raw = np.empty(size + line, np.uint8)
    start = -raw.ctypes.data % line
    aligned: NDArray[Any] = raw[start : start + size].view(kind).reshape(shape)
    return aligned


def neuron_constants(op: Any) -> tuple[Any, ...] | None:
    """The constants of neurons as kernels take them; `None` for neurons that no kernel knows.

    In order: form (`Charge`), initial membrane, leak, gain and drift of the charge; the limit, above which a neuron fires;
    what a spike subtracts or resets to; whether the reset is soft.
    """
    f, soft = np.float32, op.v_reset is None
    limit = f(op.v_threshold) if op.strict else np.nextafter(f(op.v_threshold), f(-np.inf))
    fire = (limit, f(op.lowered_by if soft else op.v_reset), soft)
    if isinstance(op, ir.AffineNeuron):
        constants = (op.leak, op.gain, op.offset)
        if op.floor is not None or any((c != c.flat[0]).any() for c in constants):
            return None
        return int(Charge.AFFINE), f(op.v_rest), *(f(c.flat[0]) for c in constants), *fire
    if isinstance(op, ir.IF):
        return int(Charge.SUM), f(op.v_rest), f(0), f(1), f(0), *fire
    if isinstance(op, ir.PLIF):
        form = Charge.DECAY_INPUT if op.decay_input else Charge.DECAY
        return int(form), f(op.v_rest), f(op.decay), f(1), f(0), *fire
    if isinstance(op, ir.LIF):
        form = Charge.DECAY_INPUT_DIVIDED if op.decay_input else Charge.DECAY_DIVIDED
        leak = f(op.tau)
        if np.frexp(leak)[0] == 0.5:  # a power of two: its inverse is exact, and multiplying is faster
            form, leak = Charge(form - 1), f(1) / leak
        return int(form), f(op.v_rest), leak, f(1), f(0), *fire
    return None


def _never_fires(neuron: tuple[Any, ...], bias: NDArray[np.float32]) -> bool:
    """Whether neurons that start below the threshold and receive only their bias stay there, however sums are rounded.

    The membrane approaches a resting point without passing it, so it is enough that this is below the threshold by a margin:
    the rounding of a step, if a step near the threshold is not certain to go down.
    """
    form, rest, leak, gain, drift, threshold, reset, soft = neuron
    if soft or not max(rest, reset) < threshold:
        return False
    x, share = bias.astype(np.float64), float(leak)
    if form == Charge.SUM:
        return bool((x <= 0).all())
    if form in (Charge.DECAY_INPUT_DIVIDED, Charge.DECAY_DIVIDED):
        share = 1 / share
    if form == Charge.AFFINE:
        share = 1 - share
    if not 0 < share <= 1:
        return False
    if form == Charge.AFFINE:
        point = (float(drift) + x * float(gain)) / share
    else:
        point = rest + (x if form in (Charge.DECAY_INPUT, Charge.DECAY_INPUT_DIVIDED) else x / share)
    margin = 1e-4 * (abs(point) + abs(rest) + abs(threshold)) / share
    return bool((point < threshold - margin).all())
