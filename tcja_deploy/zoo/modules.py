"""The zoo's networks as SpikingJelly modules whose state dicts have the authors' keys: for training and as a test oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import layer as sj
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

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
    check_state,
)

__all__ = ["Network", "TCJABlock", "to_module"]


class TCJABlock(nn.Module):
    """TCJA with the parameter names of the authors' code: `conv` mixes time steps (CLA), `conv_c` channels (TLA)."""

    def __init__(self, k_t: int, k_c: int, T: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(T, T, k_c, padding="same", bias=False) if k_c else None
        self.conv_c = nn.Conv1d(channels, channels, k_t, padding="same", bias=False) if k_t else None

    def forward(self, x: Tensor) -> Tensor:
        """Gate `x = [T, N, C, H, W]`."""
        z = x.permute(1, 0, 2, 3, 4).mean((3, 4))
        maps = []
        if self.conv_c is not None:
            maps.append(self.conv_c(z.permute(0, 2, 1)).permute(2, 0, 1))
        if self.conv is not None:
            maps.append(self.conv(z).permute(1, 0, 2))
        gate = maps[0] if len(maps) == 1 else maps[0] * maps[1]
        return x * torch.sigmoid(gate)[:, :, :, None, None]


class Network(nn.Module):
    """A network of the zoo, multi-step: `[T, N, C, H, W]` in, spikes `[T, N, K]` or votes `[N, classes]` out."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        shapes = arch.weight_shapes()
        modules = {key: _module(arch, key, layer, shapes) for key, layer in arch.layers()}
        self.conv = nn.Sequential(*[m for key, m in modules.items() if key.startswith("conv.")])
        self.fc = nn.Sequential(*[m for key, m in modules.items() if key.startswith("fc.")])
        self.vote: nn.Module | None = sj.VotingLayer(arch.voters) if arch.voters else None

    def forward(self, x: Tensor) -> Tensor:
        """Run a window. Reset the state with `functional.reset_net` before the next one."""
        spikes: Tensor = self.fc(self.conv(x))
        return spikes if self.vote is None else self.vote(spikes.mean(0))


def _module(arch: Architecture, key: str, layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    module: nn.Module
    match layer:
        case ConvBN(channels, bias):
            conv = nn.Conv2d(shapes[f"{key}.0.weight"][1], channels, 3, padding=1, bias=bias)
            module = sj.SeqToANNContainer(conv, nn.BatchNorm2d(channels))
        case Spike():
            module = neuron.LIFNode(
                tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m"
            )
        case Attention(k_t, k_c):
            channels = shapes[f"{key}.conv_c.weight"][0] if k_t else 1
            module = TCJABlock(k_t, k_c, arch.T, channels)
        case Pool("max", k):
            module = sj.SeqToANNContainer(nn.MaxPool2d(k, k))
        case Pool("avg", k):
            module = sj.SeqToANNContainer(nn.AvgPool2d(k, k))
        case Pool(_, k):
            module = sj.SeqToANNContainer(nn.AdaptiveAvgPool2d(k))
        case FlattenLayer():
            module = nn.Flatten(2)
        case Dropout(p):
            module = sj.Dropout(p, step_mode="m")
        case LinearLayer(features, bias):
            module = sj.SeqToANNContainer(nn.Linear(shapes[f"{key}.0.weight"][1], features, bias=bias))
    return module


def to_module(arch: Architecture, state: Mapping[str, NDArray[Any]] | None = None) -> Network:
    """A network in evaluation mode, with given weights or PyTorch's initial ones.

    Raises:
        TraceError: If weights are missing, left over or of another shape; lists all of them.
    """
    net = Network(arch)
    if state is not None:
        check_state(arch, state)
        net.load_state_dict({k: torch.as_tensor(v) for k, v in state.items()}, strict=False)
    return net.eval()
