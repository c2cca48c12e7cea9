"""A small TCJA-SNN for 34 x 34 event recordings, laid out like the TCJA authors' network for DVS128 Gesture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

__all__ = ["TCJA", "TCJANet34"]


class TCJA(nn.Module):
    """Temporal-channel joint attention (Zhu et al., arXiv 2206.10177, equations 5 to 8).

    Parameters are named as in the authors' code: `conv` slides along channels (the paper's CLA) with the size
    `kernel_size_t`, `conv_c` slides along time (the paper's TLA) with the size `kernel_size_c`.

    Args:
        kernel_size_t: K_C of the paper.
        kernel_size_c: K_T of the paper.
        timesteps: T.
        channels: C.
    """

    def __init__(self, kernel_size_t: int, kernel_size_c: int, timesteps: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(timesteps, timesteps, kernel_size_t, padding="same", bias=False)
        self.conv_c = nn.Conv1d(channels, channels, kernel_size_c, padding="same", bias=False)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Gate spikes `[T, N, C, H, W]` by one factor in (0, 1) per step, sample and channel."""
        squeezed = spikes.mean(dim=(3, 4)).transpose(0, 1)  # [N, T, C]
        along_channels = self.conv(squeezed)
        along_time = self.conv_c(squeezed.transpose(1, 2)).transpose(1, 2)
        gate = torch.sigmoid(along_channels * along_time).transpose(0, 1)
        return spikes * gate[:, :, :, None, None]


class TCJANet34(nn.Module):
    """Three convolutional blocks (the last two gated), two linear layers, votes of ten neurons per class.

    Args:
        timesteps: T.
        channels: Channels of the three blocks.
        hidden: Neurons of the hidden linear layer.
        classes: Number of classes.
        attention: Whether the last two blocks are gated; if not, nothing takes the place of the gates.
    """

    VOTERS = 10

    def __init__(
        self,
        *,
        timesteps: int = 10,
        channels: tuple[int, int, int] = (32, 64, 64),
        hidden: int = 128,
        classes: int = 10,
        attention: bool = True,
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.conv = nn.Sequential(
            _conv(2, first),
            _lif(),
            _pool(),
            _conv(first, second),
            _lif(),
            *([TCJA(4, 4, timesteps, second)] if attention else []),
            _pool(),
            _conv(second, third),
            _lif(),
            *([TCJA(2, 4, timesteps, third)] if attention else []),
            _pool(),
        )
        self.fc = nn.Sequential(
            nn.Flatten(2),
            layer.Dropout(0.25, step_mode="m"),
            layer.SeqToANNContainer(nn.Linear(third * 4 * 4, hidden, bias=False)),
            _lif(),
            layer.Dropout(0.25, step_mode="m"),
            layer.SeqToANNContainer(nn.Linear(hidden, classes * self.VOTERS, bias=False)),
            _lif(),
        )
        self.vote = layer.VotingLayer(self.VOTERS, step_mode="m")

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """From event counts `[T, N, 2, 34, 34]` to firing rates `[N, classes]`."""
        return self.vote(self.fc(self.conv(frames))).mean(dim=0)


def _conv(inputs: int, outputs: int) -> nn.Module:
    return layer.SeqToANNContainer(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


def _pool() -> nn.Module:
    return layer.SeqToANNContainer(nn.MaxPool2d(2, 2))


def _lif() -> nn.Module:
    spike: Callable[[torch.Tensor], torch.Tensor] = surrogate.ATan()
    return neuron.LIFNode(tau=2.0, surrogate_function=spike, detach_reset=True, step_mode="m")
