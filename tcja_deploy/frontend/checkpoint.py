"""State dicts in the layout of the TCJA authors' training scripts: the architecture is read off keys and shapes.

What weights cannot tell (neuron constants, pooling, readout) is taken from the published scripts, and listed as assumed in the
graph's `source`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.frontend import tet
from tcja_deploy.frontend.tet import BY_CODE
from tcja_deploy.ir import Graph
from tcja_deploy.zoo.architecture import (
    Architecture,
    Attention,
    ConvBN,
    Dropout,
    FlattenLayer,
    Layer,
    LinearLayer,
    Pool,
    Spike,
    StateDict,
    to_graph,
)
from tcja_deploy.zoo.networks import BUILDERS, ncaltech101

__all__ = ["ARCHITECTURES", "from_state", "infer_architecture"]


def _ncaltech101_tet() -> Architecture:
    """N-Caltech101 as trained with TET: the last layer passes on its membrane input, without a neuron."""
    spiking = ncaltech101()
    return replace(spiking, name="ncaltech101_tet", fc=spiking.fc[:-1])


ARCHITECTURES = {**BUILDERS, "ncaltech101_tet": _ncaltech101_tet}
"""What `arch` may name: the zoo, and a variant whose readout alone differs, with the same keys."""

_SENSORS = {(34, 34): "events34", (128, 128): "dvs128", (180, 240): "ncaltech101"}
"""Networks by height and width of the frames that their sensors give."""


_CONV = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
_GATE = ("conv.weight", "conv_c.weight")


def from_state(
    state: StateDict,
    *,
    arch: str | None = None,
    timesteps: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    source: dict[str, str] | None = None,
) -> Graph:
    """Graph of a state dict.

    Args:
        state: Weights by key, without what trainers and wrappers add in front (`weights.authors_keys`).
        arch: Name in `ARCHITECTURES`, to overrule what is assumed of pooling, neurons, readout and input size.
        timesteps: T; needed only if the network has no CLA weights to read it off.
        input_shape: `[C, H, W]` of a frame, to overrule the known sensors.
        source: Provenance for manifests.

    Raises:
        TraceError: If the keys are not in the authors' layout, or weights are missing, left over or misshapen; lists all.
        UsageError: If an argument is needed, unknown, or contradicts the weights.
    """
    if tet.matches(state):
        if arch is not None:
            raise UsageError(f"--arch {arch} does not apply: the keys are those of the authors' TET networks")
        return tet.from_tet_state(state, timesteps=timesteps, input_shape=input_shape, source=source)
    architecture, assumed = infer_architecture(state, arch=arch, timesteps=timesteps, input_shape=input_shape)
    return to_graph(architecture, state, {**(source or {}), "assumptions": "; ".join(assumed)})


def infer_architecture(
    state: StateDict,
    *,
    arch: str | None = None,
    timesteps: int | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> tuple[Architecture, list[str]]:
    """Architecture of a state dict, and what was assumed because weights do not tell it. Arguments as `from_state`."""
    if arch is not None and arch not in ARCHITECTURES:
        raise UsageError(
            f"unknown architecture {arch!r}", hint=f"choose one of {', '.join(sorted(ARCHITECTURES))}"
        )
    conv, fc = _positions(state, "conv", (*_CONV, *_GATE)), _positions(state, "fc", ("0.weight", "0.bias"))
    if all(_is_gate(state, i) for i in conv) or not fc:
        raise TraceError(
            "these keys are not in a layout of the TCJA authors' scripts (conv.<i>.0.weight with fc.<i>.0.weight, or "
            "features.<i>.fwd.module.0.weight): "
            + ", ".join(sorted(state)[:4])
            + (", ..." if len(state) > 4 else ""),
            hint=BY_CODE,
        )
    if arch is None and len(fc) == 1 and 0 in conv:
        raise UsageError(
            f"only one dense layer (fc.{fc[0]}) and no adaptive pool before the convolutions: no published network has that, "
            "or a dense layer is missing",
            hint=f"pass --arch with the network that is meant: {', '.join(sorted(ARCHITECTURES))}",
        )
    T = _timesteps(state, conv, timesteps)
    named = None if arch is None else ARCHITECTURES[arch]()
    habits = _habits(named, several_dense=len(fc) > 1)
    layers = _conv_layers(state, conv, habits.pool)
    head = _head(state, fc, habits)
    inputs = _inputs(state, conv)
    channels = next(layer.channels for layer in reversed(layers) if isinstance(layer, ConvBN))
    first = f"fc.{fc[0]}.0.weight"
    if first not in state or state[first].ndim != 2:
        raise TraceError("missing, or not of two axes: it gives the size of a frame", where=first)
    area, rest = divmod(state[first].shape[1], max(1, channels))
    if rest:
        raise TraceError(
            f"{area * channels + rest} inputs are not a multiple of {channels} channels", where=f"fc.{fc[0]}"
        )
    given = input_shape if named is None or input_shape is not None else named.input_shape
    shape, note = _input_shape(layers, inputs, area, given)
    outputs = next(layer.features for layer in reversed(head) if isinstance(layer, LinearLayer))
    if named is not None:
        name, voters, static = named.name, named.voters, named.static
    else:
        name = _SENSORS.get(shape[1:], "tcja") if len(fc) > 1 else "cifar10dvs"
        votes = isinstance(head[-1], Spike) and name != "ncaltech101" and outputs % 10 == 0
        voters, static = 10 if votes else 0, inputs != 2
    assumed = [
        "LIF: tau = 2, threshold 1, hard reset to 0, input decays (the published scripts)",
        f"pooling: {habits.pool} of 2 x 2",
        note,
        "frames: " + ("one image, repeated" if static else "event counts of two polarities"),
        f"readout: {f'vote of {voters} over the time mean' if voters else 'one output per time step'}, "
        + ("of spikes" if isinstance(head[-1], Spike) else "of membrane inputs"),
    ]
    return Architecture(name, shape, T, tuple(layers), tuple(head), voters, static), assumed


@dataclass(frozen=True)
class _Habits:
    """What a network does that has no weights.

    Attributes:
        pool: `max` or `avg`.
        spikes_between: Whether a neuron follows each dense layer but the last.
        spikes_last: Whether one follows the last.
    """

    pool: str
    spikes_between: bool
    spikes_last: bool


def _habits(named: Architecture | None, *, several_dense: bool) -> _Habits:
    """Of a named network, or of the published one with as many dense layers."""
    like = named if named is not None else ARCHITECTURES["dvs128" if several_dense else "cifar10dvs"]()
    pool = next(layer.how for layer in like.conv if isinstance(layer, Pool) and layer.how != "adaptive")
    return _Habits(pool, any(isinstance(layer, Spike) for layer in like.fc), isinstance(like.fc[-1], Spike))


def _positions(state: StateDict, part: str, parameters: tuple[str, ...]) -> list[int]:
    """Positions of the layers with weights in a `Sequential`, in order."""
    keys = (re.match(rf"{part}\.(\d{{1,4}})\.(.+)$", key) for key in state)
    return sorted({int(m.group(1)) for m in keys if m and m.group(2) in parameters})


def _widths(state: StateDict, layers: list[str]) -> dict[str, int]:
    """Outputs of each layer, also where its weight is missing or misshapen: the comparison with all shapes tells that later."""
    widths = {}
    for layer in layers:
        sized = [v.shape[0] for k, v in state.items() if k.startswith(f"{layer}.") and v.ndim]
        weight = state.get(f"{layer}.0.weight")
        widths[layer] = weight.shape[0] if weight is not None and weight.ndim else (sized or [0])[0]
    return widths


def _inputs(state: StateDict, conv: list[int]) -> int:
    """Channels of a frame: what the first convolution takes, or the two polarities of events if no weight tells."""
    first = state.get(f"conv.{next(i for i in conv if not _is_gate(state, i))}.0.weight")
    return int(first.shape[1]) if first is not None and first.ndim == 4 else 2


def _is_gate(state: StateDict, i: int) -> bool:
    return any(f"conv.{i}.{k}" in state for k in _GATE)


def _timesteps(state: StateDict, conv: list[int], timesteps: int | None) -> int:
    """T, the length of both mixing axes of a CLA weight."""
    weights = {k: state[k] for k in (f"conv.{i}.conv.weight" for i in conv) if k in state}
    found = sorted({v.shape[0] for v in weights.values() if v.ndim == 3})
    if len(found) > 1:
        each = ", ".join(f"{k}: {v.shape[0]}" for k, v in weights.items() if v.ndim == 3)
        raise TraceError(f"the CLA weights disagree about the number of time steps ({each})")
    if not found and timesteps is None:
        raise UsageError(
            "the weights do not give the number of time steps (there is no CLA kernel)",
            hint="pass --timesteps",
        )
    if found and timesteps is not None and found != [timesteps]:
        raise UsageError(f"--timesteps {timesteps} contradicts the CLA weights, which have T = {found[0]}")
    return found[0] if found else int(timesteps or 0)


def _conv_layers(state: StateDict, positions: list[int], pool: str) -> list[Layer]:
    """Layers by position. A convolution is followed by its neuron; any other gap is a pool; position 0 an adaptive pool."""
    widths = _widths(state, [f"conv.{i}" for i in positions])
    layers: list[Layer] = [] if 0 in positions else [Pool("adaptive", 48)]
    while len(layers) <= positions[-1] or not isinstance(layers[-1], Pool):
        i = len(layers)
        if i in positions and _is_gate(state, i):
            cla, tla = (state.get(f"conv.{i}.{k}") for k in _GATE)
            layers.append(Attention(_kernel(tla), _kernel(cla)))
        elif i in positions:
            layers += [ConvBN(widths[f"conv.{i}"], f"conv.{i}.0.bias" in state), Spike()]
        elif layers and isinstance(layers[-1], Pool):
            raise TraceError(
                f"conv.{i - 1} and conv.{i} have no weights: a layer is missing, or two pools follow each other",
                hint=BY_CODE,
            )
        else:
            layers.append(Pool(pool))
    return layers


def _kernel(weight: NDArray[Any] | None) -> int:
    return int(weight.shape[-1]) if weight is not None and weight.ndim else 0


def _head(state: StateDict, fc: list[int], habits: _Habits) -> list[Layer]:
    """Flatten and the dense layers; gaps are dropout."""
    widths = _widths(state, [f"fc.{i}" for i in fc])
    head: list[Layer] = [FlattenLayer()]
    for i in fc:
        if i > len(head) + 1:
            raise TraceError(
                f"fc.{len(head)} to fc.{i - 1} have no weights: a layer is missing", hint=BY_CODE
            )
        head += [Dropout()] * (i - len(head))
        head.append(LinearLayer(widths[f"fc.{i}"], f"fc.{i}.0.bias" in state))
        if habits.spikes_last if i == fc[-1] else habits.spikes_between:
            head.append(Spike())
    return head


def _input_shape(
    layers: list[Layer], channels: int, area: int, given: tuple[int, ...] | None
) -> tuple[tuple[int, int, int], str]:
    """Input frame `[C, H, W]` from the area that reaches the first dense layer; the size of an adaptive pool is settled."""
    pools = sum(isinstance(layer, Pool) and layer.how != "adaptive" for layer in layers)
    side = math.isqrt(area) << pools
    square = math.isqrt(area) ** 2 == area
    if isinstance(layers[0], Pool):
        if not square:
            raise TraceError(
                f"an adaptive pool cannot lead to {area} positions before the first dense layer",
                where="conv.0",
            )
        layers[0] = Pool("adaptive", side)
        shape = _three(given or (channels, 128, 128))
        return shape, f"input: {shape}, pooled to {side} x {side}"
    if given is not None:
        return _three(given), f"input: {_three(given)}, as given"
    fits = [s for s in _SENSORS if (s[0] >> pools) * (s[1] >> pools) == area]
    if fits:
        height, width = max(fits)
        return (
            channels,
            height,
            width,
        ), f"input: {height} x {width}, the sensor of {_SENSORS[height, width]}"
    if not square:
        raise UsageError(
            f"{area} positions reach the first dense layer after {pools} pools; no known sensor has that size",
            hint="pass --input-shape C,H,W",
        )
    return (
        channels,
        side,
        side,
    ), f"input: {side} x {side}, the square that {pools} pools bring to {area} positions"


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UsageError(f"an input frame has three axes C,H,W, got {shape}")
    return shape[0], shape[1], shape[2]
