"""Batch statistics for networks that nobody trained, so that the examples and tests have spikes to look at."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

__all__ = ["settle"]


def settle(net: nn.Module, frames: Tensor, passes: int = 2) -> nn.Module:
    """Give batch normalisation the statistics of its input, as training would; the network is in evaluation mode afterwards."""
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
            nn.init.uniform_(norm.weight, 0.8, 1.2)
            nn.init.normal_(norm.bias, 0.2, 0.2)
    net.train()
    with torch.no_grad():
        for _ in range(passes):
            net(frames)
            functional.reset_net(net)
    return net.eval()
