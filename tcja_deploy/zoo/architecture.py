"""Networks as lists of layers, in the layout of the TCJA authors' code: two `nn.Sequential`, `conv` and `fc`.

A layer's position is its key in the state dict (`conv.3.0.weight`), so one description serves the loader of trained
checkpoints, the builder of graphs and the builder of SpikingJelly modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import TraceError
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import bullets

__all__ = [
    "Architecture",
    "Attention",
    "ConvBN",
    "Dropout",
    "FlattenLayer",
    "Layer",
    "LinearLayer",
    "Pool",
    "Spike",
    "StateDict",
    "check_state",
    "random_state",
    "to_graph",
]

StateDict = Mapping[str, NDArray[Any]]
"""Weights by key."""


@dataclass(frozen=True)
class ConvBN:
    """3 x 3 convolution with padding 1 and batch normalisation: keys `.0.*` and `.1.*`."""

    channels: int
    bias: bool = False


@dataclass(frozen=True)
class Spike:
    """LIF, tau = 2, threshold 1, hard reset to 0, the input decays too. No keys."""


@dataclass(frozen=True)
class Attention:
    """TCJA block; 0 leaves a part out. Keys `.conv_c.weight` (TLA, `k_t`) and `.conv.weight` (CLA, `k_c`).

    The names in the authors' code are easily mistaken: their `conv` mixes time steps and slides along channels.
    """

    k_t: int
    k_c: int


@dataclass(frozen=True)
class Pool:
    """Pooling: `max` or `avg` of `size` x `size`, or `adaptive` to that size. No keys."""

    how: str
    size: int = 2


@dataclass(frozen=True)
class FlattenLayer:
    """All features in one axis. No keys."""


@dataclass(frozen=True)
class Dropout:
    """Dropout, which does nothing at inference. No keys."""

    p: float = 0.5


@dataclass(frozen=True)
class LinearLayer:
    """Linear layer: key `.0.weight` and, with bias, `.0.bias`."""

    features: int
    bias: bool = False


Layer = ConvBN | Spike | Attention | Pool | FlattenLayer | Dropout | LinearLayer


@dataclass(frozen=True)
class Architecture:
    """A network.

    Attributes:
        name: Name in the zoo.
        input_shape: One frame, `[C, H, W]`.
        T: Time steps.
        conv: Layers of the first `nn.Sequential`.
        fc: Layers of the second one.
        voters: Outputs per class of the vote over the time mean; 0 for the spikes themselves, `[T, N, ...]`.
        static: Whether the input is an image repeated over time (real values) instead of event counts.
    """

    name: str
    input_shape: tuple[int, int, int]
    T: int
    conv: tuple[Layer, ...]
    fc: tuple[Layer, ...]
    voters: int = 0
    static: bool = False

    def layers(self) -> tuple[tuple[str, Layer], ...]:
        """All layers with their keys, in order."""
        return tuple(
            (f"{part}.{i}", layer) for part in ("conv", "fc") for i, layer in enumerate(getattr(self, part))
        )

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every entry of the state dict, except for counters."""
        shapes: dict[str, tuple[int, ...]] = {}
        c, h, w = self.input_shape
        features = 0
        for key, layer in self.layers():
            match layer:
                case ConvBN(channels, bias):
                    shapes[f"{key}.0.weight"] = (channels, c, 3, 3)
                    if bias:
                        shapes[f"{key}.0.bias"] = (channels,)
                    for name in ("weight", "bias", "running_mean", "running_var"):
                        shapes[f"{key}.1.{name}"] = (channels,)
                    c = channels
                case Attention(k_t, k_c):
                    if k_c:
                        shapes[f"{key}.conv.weight"] = (self.T, self.T, k_c)
                    if k_t:
                        shapes[f"{key}.conv_c.weight"] = (c, c, k_t)
                case Pool("adaptive", size):
                    h = w = size
                case Pool(_, size):
                    h, w = h // size, w // size
                case FlattenLayer():
                    features = c * h * w
                case LinearLayer(n, bias):
                    shapes[f"{key}.0.weight"] = (n, features)
                    if bias:
                        shapes[f"{key}.0.bias"] = (n,)
                    features = n
        return shapes


def to_graph(arch: Architecture, state: StateDict, source: dict[str, str] | None = None) -> Graph:
    """Graph of a network with a copy of given weights.

    Raises:
        TraceError: If weights are missing, left over or of another shape; lists all of them.
    """
    check_state(arch, state)
    b = GraphBuilder(arch.T)
    x = b.add("input", ir.Input(arch.input_shape, Kind.REAL if arch.static else Kind.COUNT))
    weights = {key: np.array(value, np.float32, order="C") for key, value in state.items()}
    for key, layer in arch.layers():
        match layer:
            case ConvBN():
                conv = ir.Conv2d(
                    weights[f"{key}.0.weight"], weights.get(f"{key}.0.bias"), padding=(1, 1, 1, 1)
                )
                x = b.add(f"{key}.0", conv, x)
                gamma, beta = weights[f"{key}.1.weight"], weights[f"{key}.1.bias"]
                mean, var = weights[f"{key}.1.running_mean"], weights[f"{key}.1.running_var"]
                x = b.add(f"{key}.1", ir.BatchNorm2d(gamma, beta, mean, var), x)
            case Spike():
                x = b.add(key, ir.LIF(), x)
            case Attention():
                tla, cla = weights.get(f"{key}.conv_c.weight"), weights.get(f"{key}.conv.weight")
                x = b.add(key, ir.TCJA(tla, cla), x)
            case Pool("max", k):
                x = b.add(key, ir.MaxPool2d((k, k), (k, k)), x)
            case Pool("avg", k):
                x = b.add(key, ir.AvgPool2d((k, k), (k, k)), x)
            case Pool(_, k):
                x = b.add(key, ir.AdaptiveAvgPool2d((k, k)), x)
            case FlattenLayer():
                x = b.add(key, ir.Flatten(), x)
            case LinearLayer():
                linear = ir.Linear(weights[f"{key}.0.weight"], weights.get(f"{key}.0.bias"))
                x = b.add(f"{key}.0", linear, x)
    if arch.voters:
        x = b.add("mean", ir.TimeMean(), x)
        x = b.add("vote", ir.Vote(arch.voters), x)
    return b.finish(x, {"architecture": arch.name, **(source or {})})


def check_state(arch: Architecture, state: StateDict) -> None:
    """Compare weights with what a network has.

    Raises:
        TraceError: If weights are missing, left over or of another shape; lists all of them.
    """
    want = arch.weight_shapes()
    found = [f"{k}: missing" for k in want if k not in state]
    found += [
        f"{k}: has no place in {arch.name}"
        for k in state
        if k not in want and not k.endswith("num_batches_tracked")
    ]
    found += [
        f"{k}: has shape {tuple(state[k].shape)}, {arch.name} expects {shape}"
        for k, shape in want.items()
        if k in state and tuple(state[k].shape) != shape
    ]
    if found:
        raise TraceError(
            f"the weights do not fit the {arch.name} network:{bullets(found)}",
            hint="check --arch, --timesteps and --input-shape, or load the model as a live module in Python",
        )


def random_state(arch: Architecture, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights that let spikes through every layer: uniform, with batch statistics as sparse input has them.

    That holds for the published widths; a layer of a few channels may stay silent by chance. For trying things out and for
    tests; the accuracy is meaningless.
    """
    rng = np.random.default_rng(seed)
    state = {}
    for key, shape in arch.weight_shapes().items():
        if len(shape) > 1:
            # A dense layer has no normalisation to lift sparse input to the threshold.
            gain = 8 if len(shape) == 2 else 1
            bound = gain / math.sqrt(math.prod(shape[1:]))
            value = rng.uniform(-bound, bound, shape)
        elif key.endswith("running_var"):
            value = rng.uniform(0.005, 0.02, shape)
        elif key.endswith(".1.weight"):
            value = rng.uniform(0.8, 1.2, shape)
        else:
            value = rng.normal(0, 0.1, shape)
        state[key] = value.astype(np.float32)
    return state
