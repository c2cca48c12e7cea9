"""State dicts in the layout of the TCJA authors' training scripts: the architecture is read off keys and shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.ir import Graph
from tcja_deploy.zoo.architecture import (
    Architecture,
    Attention,
    ConvBN,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Pool,
    Spike,
    to_graph,
)
from tcja_deploy.zoo.networks import BUILDERS

__all__ = ["from_state", "infer_architecture"]

_SENSORS = {(34, 34): "N-MNIST", (128, 128): "DVS128", (180, 240): "N-Caltech101"}
"""Height and width of the event data sets whose networks come in this layout."""

State = Mapping[str, NDArray[Any]]


def from_state(
    state: State,
    *,
    arch: str | None = None,
    timesteps: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    source: dict[str, str] | None = None,
) -> Graph:
    """Graph of a state dict.

    Args:
        state: Weights by key; a leading ``module.`` (DataParallel) is dropped.
        arch: Name of a zoo network, to overrule what the keys say about input size and readout.
        timesteps: T; needed only if the network has no CLA weights to read it off.
        input_shape: ``(C, H, W)`` of a frame, to overrule the known sensors.
        source: Provenance for manifests.

    Raises:
        TraceError: If the keys are not in the authors' layout or the shapes do not fit together.
        UsageError: If an argument contradicts the weights.
    """
    state = {k.removeprefix("module."): v for k, v in state.items()}
    architecture, assumed = infer_architecture(state, arch=arch, timesteps=timesteps, input_shape=input_shape)
    return to_graph(architecture, state, {**(source or {}), "assumptions": "; ".join(assumed)})


def infer_architecture(
    state: State,
    *,
    arch: str | None = None,
    timesteps: int | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> tuple[Architecture, list[str]]:
    """Architecture of a state dict, and what was assumed because weights do not tell it. Arguments as ``from_state``."""
    if arch is not None and arch not in BUILDERS:
        raise UsageError(f"unknown architecture {arch!r}", hint=f"choose one of {', '.join(BUILDERS)}")
    conv, fc = _positions(state, "conv"), _positions(state, "fc")
    if not conv or not fc:
        raise TraceError(
            "these keys are not in the layout of the TCJA authors' scripts (conv.<i>.0.weight, fc.<i>.0.weight): "
            + ", ".join(sorted(state)[:4])
            + (", ..." if len(state) > 4 else ""),
            hint="load the model in Python instead and pass the module itself: tcja_deploy.load(module, input_shape=...)",
        )
    T = _timesteps(state, timesteps)
    spiking_head = len(fc) > 1
    pool = "max" if spiking_head else "avg"
    layers = _conv_layers(state, conv, pool)
    channels = next(layer.channels for layer in reversed(layers) if isinstance(layer, ConvBN))
    flat = state[f"fc.{min(fc)}.0.weight"].shape[1]
    if flat % channels:
        raise TraceError(
            f"{flat} inputs are no multiple of {channels} channels", where=f"fc.{min(fc)}.0.weight"
        )
    assumed = [
        "LIF: tau = 2, threshold 1, hard reset to 0, input decays (the published scripts)",
        f"pooling: {pool} of 2 x 2",
    ]
    shape, note = _input_shape(state, layers, flat // channels, input_shape, arch)
    assumed += note
    outputs = state[f"fc.{max(fc)}.0.weight"].shape[0]
    if arch is not None:
        defaults = BUILDERS[arch]()
        name, voters, static = arch, defaults.voters, defaults.static
    else:
        name = "cifar10dvs" if not spiking_head else _SENSOR_ARCH.get(shape[1:], "tcja")
        voters = 10 if spiking_head and name != "ncaltech101" and outputs % 10 == 0 else 0
        static = False
    readout = f"vote of {voters} over the time mean" if voters else "one output a time step"
    assumed.append(f"readout: {readout}")
    head: list[Layer] = [Flatten()]
    for i in sorted(fc):
        head += [Dropout()] * (i - len(head)) if spiking_head else []
        head.append(Dense(state[f"fc.{i}.0.weight"].shape[0], f"fc.{i}.0.bias" in state))
        head += [Spike()] if spiking_head else []
    return Architecture(name, shape, T, tuple(layers), tuple(head), voters, static), assumed


_SENSOR_ARCH = {(34, 34): "events34", (128, 128): "dvs128", (180, 240): "ncaltech101"}


def _positions(state: State, part: str) -> set[int]:
    pattern = re.compile(rf"{part}\.(\d+)\.(?:0\.weight|conv\.weight|conv_c\.weight)$")
    return {int(m.group(1)) for key in state if (m := pattern.match(key))}


def _timesteps(state: State, timesteps: int | None) -> int:
    found = {v.shape[0] for k, v in state.items() if re.match(r"conv\.\d+\.conv\.weight$", k)}
    if len(found) > 1:
        raise TraceError(f"the CLA weights disagree about T: {sorted(found)}", where="conv.*.conv.weight")
    if not found and timesteps is None:
        raise UsageError(
            "the weights do not tell the number of time steps (there is no CLA kernel)",
            hint="pass --timesteps",
        )
    if found and timesteps is not None and found != {timesteps}:
        raise UsageError(f"--timesteps {timesteps} contradicts the CLA weights, which have T = {found.pop()}")
    return found.pop() if found else int(timesteps or 0)


def _conv_layers(state: State, positions: set[int], pool: str) -> list[Layer]:
    """Layers by position. A convolution is followed by its neuron; any other gap is a pool; position 0 an adaptive pool."""
    layers: list[Layer] = []
    if 0 not in positions:
        layers.append(Pool("adaptive", 48))
    last = max(positions)
    while len(layers) <= last or not isinstance(layers[-1], Pool):
        i = len(layers)
        if f"conv.{i}.0.weight" in state:
            weight = state[f"conv.{i}.0.weight"]
            if weight.ndim != 4 or weight.shape[2:] != (3, 3):
                raise TraceError(
                    f"expected a 3x3 convolution, got shape {weight.shape}", where=f"conv.{i}.0.weight"
                )
            layers += [ConvBN(weight.shape[0], f"conv.{i}.0.bias" in state), Spike()]
        elif i in positions:
            kernel = lambda key: state[key].shape[2] if key in state else 0  # noqa: E731
            layers.append(Attention(kernel(f"conv.{i}.conv_c.weight"), kernel(f"conv.{i}.conv.weight")))
        else:
            layers.append(Pool(pool))
    return layers


def _input_shape(
    state: State, layers: list[Layer], area: int, given: tuple[int, ...] | None, arch: str | None
) -> tuple[tuple[int, int, int], list[str]]:
    """Input frame ``(C, H, W)`` from the area that reaches the first dense layer."""
    channels = int(state[f"conv.{min(_positions(state, 'conv'))}.0.weight"].shape[1])
    pools = sum(isinstance(layer, Pool) and layer.how != "adaptive" for layer in layers)
    if isinstance(layers[0], Pool):
        side = math.isqrt(area) << pools
        if math.isqrt(area) ** 2 != area:
            raise TraceError(
                f"an adaptive pool cannot lead to {area} positions before the first dense layer",
                where="conv.0",
            )
        layers[0] = Pool("adaptive", side)
        shape = given or (BUILDERS[arch]().input_shape if arch else (channels, 128, 128))
        return _three(shape), [f"input: {shape}, pooled to {side} x {side}"]
    if given is not None:
        return _three(given), []
    if arch is not None:
        return BUILDERS[arch]().input_shape, []
    fits = [s for s in _SENSORS if (s[0] >> pools) * (s[1] >> pools) == area]
    if fits:
        height, width = max(fits)
        return (channels, height, width), [f"input: {height} x {width}, the {_SENSORS[height, width]} sensor"]
    side = math.isqrt(area) << pools
    if math.isqrt(area) ** 2 != area:
        raise UsageError(
            f"{area} positions reach the first dense layer after {pools} pools; no known sensor has that size",
            hint="pass --input-shape C,H,W",
        )
    return (channels, side, side), [
        f"input: {side} x {side}, the square that {pools} pools bring to {area} positions"
    ]


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UsageError(f"an input frame has three axes C,H,W, got {shape}")
    return shape[0], shape[1], shape[2]
