"""A fully spiking variational autoencoder with TCJA, as SpikingJelly modules: encoder, decoder, and the sampling between.

After Kamata et al., "Fully Spiking Variational Autoencoder", AAAI 2022, arXiv 2110.00375: the encoder answers with `k`
spikes per latent variable and step, of which one is drawn at random; the latent is Bernoulli with the mean of the `k` as its
rate. As in the TCJA paper (Zhu et al., TNNLS 2024) attention gates the spikes of encoder and decoder, and the decoder's
picture is a mean over time. Sizes are not published there and are arguments.

Unlike Kamata et al., steps of the latent are drawn independently of each other (there: by an autoregressive network), and the
prior is a mixture of Bernoulli rates that is fitted to the encoder's answers after training.

Drawing is not part of either network: random numbers are an input; `draw` and `Prior` run on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from tcja_deploy.errors import UsageError
from tcja_deploy.zoo.modules import TCJABlock

__all__ = ["Decoder", "Encoder", "Prior", "Sizes", "draw"]


@dataclass(frozen=True)
class Sizes:
    """What encoder and decoder share.

    Attributes:
        T: Time steps.
        image: `[C, H, W]`; height and width are halved once per entry of `channels`, so they must be divisible.
        channels: Channels of the encoder's convolutions, in order; the decoder has them in reverse.
        latent: Latent variables.
        k: Spikes of the encoder per latent variable and step.
        kernels: TCJA kernels `(k_t, k_c)`.
    """

    T: int = 8
    image: tuple[int, int, int] = (1, 8, 8)
    channels: Sequence[int] = (16, 32)
    latent: int = 16
    k: int = 8
    kernels: tuple[int, int] = (2, 2)

    def __post_init__(self) -> None:
        halvings = 2 ** len(self.channels)
        if not self.channels or self.image[1] % halvings or self.image[2] % halvings:
            raise UsageError(f"an image of {self.image[1:]} cannot be halved {len(self.channels)} times")

    @property
    def smallest(self) -> tuple[int, int, int]:
        """The map between convolutions and linear layers."""
        halvings = 2 ** len(self.channels)
        return self.channels[-1], self.image[1] // halvings, self.image[2] // halvings


def _lif() -> nn.Module:
    lif: nn.Module = neuron.LIFNode(
        tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m"
    )
    return lif


def _normalised(linear: nn.Linear) -> nn.Module:
    both: nn.Module = layer.SeqToANNContainer(linear, nn.BatchNorm1d(linear.out_features))
    return both


def _grow(inputs: int, outputs: int, *, bias: bool = False) -> nn.Module:
    """A layer that doubles height and width."""
    conv: nn.Module = layer.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias, step_mode="m")
    return conv


class Encoder(nn.Module):
    """Pictures `[T, N, C, H, W]` (one picture T times, in [0, 1]) to spikes `[T, N, latent k]`."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = sizes.image[0]
        for outputs in sizes.channels:
            conv = layer.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False, step_mode="m")
            blocks += [conv, layer.BatchNorm2d(outputs, step_mode="m"), _lif()]
            blocks.append(TCJABlock(*sizes.kernels, sizes.T, outputs))
            inputs = outputs
        self.conv = nn.Sequential(*blocks)
        c, h, w = sizes.smallest
        linear = nn.Linear(c * h * w, sizes.latent * sizes.k, bias=False)
        self.fc = nn.Sequential(nn.Flatten(2), _normalised(linear), _lif())

    def forward(self, x: Tensor) -> Tensor:
        """Run a window. Reset the state with `functional.reset_net` before the next one."""
        spikes: Tensor = self.fc(self.conv(x))
        return spikes


class Decoder(nn.Module):
    """Latent spikes `[T, N, latent]` to pictures `[N, C, H, W]` in (0, 1): the sigmoid of a mean over time."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        c, h, w = sizes.smallest
        self.fc = nn.Sequential(_normalised(nn.Linear(sizes.latent, c * h * w, bias=False)), _lif())
        self.grow = nn.Unflatten(2, (c, h, w))
        blocks: list[nn.Module] = []
        inputs = c
        for outputs in reversed(sizes.channels[:-1]):
            blocks += [TCJABlock(*sizes.kernels, sizes.T, inputs), _grow(inputs, outputs)]
            blocks += [layer.BatchNorm2d(outputs, step_mode="m"), _lif()]
            inputs = outputs
        blocks += [TCJABlock(*sizes.kernels, sizes.T, inputs), _grow(inputs, sizes.image[0], bias=True)]
        self.conv = nn.Sequential(*blocks)

    def forward(self, z: Tensor) -> Tensor:
        """Run a window. Reset the state with `functional.reset_net` before the next one."""
        return torch.sigmoid(self.conv(self.grow(self.fc(z))).mean(0))


def draw(spikes: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """One of the `k` spikes of each latent variable: `[T, N, latent k]` to `[T, N, latent]`.

    Gradients reach the drawn spikes.
    """
    groups = spikes.reshape(*spikes.shape[:2], -1, k)
    chosen = torch.randint(k, (*groups.shape[:3], 1), generator=generator)
    return groups.gather(3, chosen.to(groups.device)).squeeze(3)


@dataclass(frozen=True)
class Prior:
    """A mixture of independent Bernoulli rates, one component per class.

    Attributes:
        rates: `[classes, T, latent]`, in [0, 1].
    """

    rates: Tensor

    @staticmethod
    def fit(spikes: Tensor, k: int, labels: Tensor) -> Prior:
        """Mean firing rates of the encoder's answers `[T, N, latent k]` by class (labels `[N]`, from 0)."""
        rates = spikes.reshape(*spikes.shape[:2], -1, k).mean(3).transpose(0, 1)
        return Prior(torch.stack([rates[labels == c].mean(0) for c in range(int(labels.max()) + 1)]))

    def draw(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latent spikes `[T, N, latent]` for classes `[N]`."""
        rates = self.rates[labels].transpose(0, 1)
        return torch.bernoulli(rates, generator=generator)
