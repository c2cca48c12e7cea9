"""Small live networks to trace: a body whose layers all spike, and a way to give it any `forward`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.ir import Graph

T, N, CHANNELS, SIDE = 4, 3, 6, 8
SHAPE = (2, SIDE, SIDE)


def lif(step_mode: str = "m", **options: Any) -> neuron.LIFNode:
    return neuron.LIFNode(
        surrogate_function=surrogate.ATan(), detach_reset=True, step_mode=step_mode, **options
    )


def lively(net: nn.Module, gain: float = 3.0) -> nn.Module:
    """Weights large enough that spikes reach every layer, statistics that are not the initial ones; evaluation mode."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
                bound = gain / module.weight[0].numel() ** 0.5
                for p in module.parameters():
                    p.uniform_(-bound, bound, generator=generator)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.2, 0.8, generator=generator)  # type: ignore[union-attr]
                if module.weight is not None:
                    module.weight.uniform_(0.8, 1.4, generator=generator)
                    module.bias.normal_(0.2, 0.2, generator=generator)
    return net.eval()


class Body(nn.Module):
    """Convolution, BN, LIF, dense, LIF in step mode 'm'; `forward` is up to the test."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layer.Conv2d(2, CHANNELS, 3, padding=1, step_mode="m")
        self.bn = layer.BatchNorm2d(CHANNELS, step_mode="m")
        self.lif = lif()
        self.fc = layer.Linear(CHANNELS * SIDE * SIDE, 20, step_mode="m")
        self.out = lif()

    def spikes(self, x: Tensor) -> Tensor:
        """`[T, N, C, H, W]` of the first layer."""
        result: Tensor = self.lif(self.bn(self.conv(x)))
        return result

    def head(self, spikes: Tensor) -> Tensor:
        """`[T, N, 20]` from the spikes of the first layer."""
        result: Tensor = self.out(self.fc(spikes.flatten(2)))
        return result


def body(forward: Callable[[Any, Tensor], Any], **modules: nn.Module) -> nn.Module:
    """A `Body` with this forward and further modules."""
    net = type("Net", (Body,), {"forward": forward})()
    for name, module in modules.items():
        setattr(net, name, module)
    return lively(net)


def counts(seed: int = 0, shape: tuple[int, ...] = SHAPE, steps: int = T) -> Tensor:
    """Event frames `[T, N, ...]`."""
    return torch.poisson(torch.full((steps, N, *shape), 0.8), generator=torch.Generator().manual_seed(seed))


def convolved(net: Any, folded: Tensor) -> Tensor:
    """The body's convolution as a function."""
    return F.conv2d(folded, net.conv.weight, net.conv.bias, padding=1)


def traced(net: nn.Module, **options: Any) -> Graph:
    """The graph of a network on these frames."""
    return td.load(net, **{"input_shape": SHAPE, "timesteps": T, **options})
