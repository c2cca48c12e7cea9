"""Attention blocks as users write them: relatives of TCJA that tcja-deploy translates without knowing their names.

All take spikes `[T, N, C, H, W]` and return them gated. `examples/deploy_families.py` deploys networks with them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CrossConvolution", "HeadedAttention", "JointAttention", "StepwiseAttention"]


class JointAttention(nn.Module):
    """TCJA with either part left out, or with the two maps added: `sigmoid(Tm)`, `sigmoid(Cm)`, `sigmoid(Tm + Cm)`.

    Other names and other orders of axes than in the authors' code.

    Args:
        timesteps: T.
        channels: C.
        along_time: Kernel of the map along time, 0 for none.
        along_channels: Kernel of the map along channels, 0 for none.
        add: Add the maps instead of multiplying them.
    """

    def __init__(
        self, timesteps: int, channels: int, *, along_time: int = 2, along_channels: int = 2, add: bool = False
    ) -> None:  # fmt: skip
        super().__init__()
        self.temporal = _conv(channels, along_time) if along_time else None
        self.channel = _conv(timesteps, along_channels) if along_channels else None
        self.add = add

    def forward(self, spikes: Tensor) -> Tensor:
        """Gate one factor per step, sample and channel."""
        squeezed = spikes.flatten(3).mean(-1)  # [T, N, C]
        score = None
        if self.temporal is not None:
            score = self.temporal(squeezed.permute(1, 2, 0)).permute(2, 0, 1)
        if self.channel is not None:
            other = self.channel(squeezed.transpose(0, 1)).transpose(0, 1)
            score = other if score is None else score + other if self.add else score * other
        return spikes * torch.sigmoid(score).unsqueeze(-1).unsqueeze(-1)


class HeadedAttention(nn.Module):
    """TCJA with several heads: each mixes its own share of the channels along time, and has its own map along channels.

    The heads' gates are averaged where they overlap: `sigmoid(Tm) * mean_h sigmoid(Cm_h)`.

    Args:
        timesteps: T.
        channels: C, divisible by the number of heads.
        heads: Number of heads.
    """

    def __init__(self, timesteps: int, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.temporal = nn.Conv1d(channels, channels, 3, padding=1, groups=heads, bias=False)
        self.channel = nn.ModuleList(_conv(timesteps, 2 + head) for head in range(heads))

    def forward(self, spikes: Tensor) -> Tensor:
        """Gate one factor per step, sample and channel."""
        z = spikes.mean((3, 4))
        gate = torch.sigmoid(self.temporal(z.permute(1, 2, 0))).permute(2, 0, 1)
        heads = torch.stack([torch.sigmoid(head(z.permute(1, 0, 2))) for head in self.channel]).mean(0)
        return spikes * (gate * heads.permute(1, 0, 2))[..., None, None]


class CrossConvolution(nn.Module):
    """A block that keeps space, with a gate per step, channel and place.

    The mean over channels and the mean over time are added, and a 2-D convolution over the plane of steps and channels,
    the same at every place, gives the gate.

    Args:
        kernel: Size of the convolution, odd.
    """

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, spikes: Tensor) -> Tensor:
        """Gate one factor per step, sample, channel and place."""
        steps, samples, channels, height, width = spikes.shape
        plane = spikes.mean(2, keepdim=True) + spikes.mean(0, keepdim=True)
        plane = plane.permute(1, 3, 4, 0, 2).reshape(samples * height * width, 1, steps, channels)
        gate = torch.sigmoid(self.conv(plane))
        return spikes * gate.reshape(samples, height, width, steps, channels).permute(3, 0, 4, 1, 2)


class StepwiseAttention(nn.Module):
    """Channel and spatial attention of each step by itself (MA-SNN without the temporal part), which needs no later frame.

    Args:
        channels: C.
        reduction: Divisor of the bottleneck.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction, bias=False)
        self.excite = nn.Linear(channels // reduction, channels, bias=False)
        self.place = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def _score(self, z: Tensor) -> Tensor:
        score: Tensor = self.excite(torch.relu(self.squeeze(z)))
        return score

    def forward(self, spikes: Tensor) -> Tensor:
        """Gate one factor per channel, then one per place, in every step."""
        x = spikes.flatten(0, 1)
        channel = self._score(x.mean((2, 3))) + self._score(x.amax((2, 3)))
        x = x * torch.sigmoid(channel)[:, :, None, None]
        maps = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        x = x * torch.sigmoid(self.place(maps))
        return x.unflatten(0, spikes.shape[:2])


def _conv(channels: int, kernel: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, padding="same", bias=False)
