"""Train the spiking VAE of the zoo on scikit-learn's digits (1797 images of 8 x 8 pixels) and fit its prior.

From the root of the repository, with the extra `train` installed:

    python -m training.train_fsvae [FOLDER]

writes `fsvae_digits.pt` (weights of encoder and decoder, rates of the prior) to FOLDER, by default the current one. It takes
about a minute on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from spikingjelly.activation_based import functional
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from tcja_deploy.files import atomic_file
from tcja_deploy.runtime.device import open_device
from tcja_deploy.zoo.fsvae import Decoder, Encoder, Prior, Sizes, draw

__all__ = ["digits", "fit_prior", "main", "recognised", "save", "train"]

TRAINING = 1500
"""So many images, the first ones, are trained on; the rest tests the reconstruction."""


def digits() -> tuple[Tensor, Tensor]:
    """Images `[1797, 1, 8, 8]` in [0, 1], and the digits that they show."""
    data = load_digits()
    pictures = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    return pictures, torch.tensor(data.target)


def over_time(pictures: Tensor, T: int) -> Tensor:
    """The image at every time step: `[N, C, H, W]` to `[T, N, C, H, W]`."""
    return pictures.expand(T, *pictures.shape)


def divergence(spikes: Tensor, k: int, prior: float = 0.5) -> Tensor:
    """Mean over the batch of the Kullback-Leibler divergence of the latent's rates from the prior, in nats.

    The rate of `k` spikes is kept off 0 and 1 by half a spike.
    """
    p = spikes.unflatten(2, (-1, k)).mean(3).clamp(0.5 / k, 1 - 0.5 / k)
    each = p * torch.log(p / prior) + (1 - p) * torch.log((1 - p) / (1 - prior))
    return each.sum(2).mean(1).sum()


def train(
    encoder: Encoder,
    decoder: Decoder,
    sizes: Sizes,
    pictures: Tensor,
    *,
    epochs: int = 40,
    batch: int = 50,
    learning_rate: float = 4e-3,
    weight: float = 0.02,
    seed: int = 0,
) -> None:
    """Train both with Adam on binary cross entropy per image plus `weight` times the divergence from a prior of one half."""
    torch.manual_seed(seed)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    encoder.train()
    decoder.train()
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        for chosen in torch.randperm(len(pictures)).to(pictures.device).split(batch):
            x = pictures[chosen]
            spikes = encoder(over_time(x, sizes.T))
            y = decoder(draw(spikes, sizes.k))
            error = binary_cross_entropy(y, x, reduction="sum") / len(x)
            loss = error + weight * divergence(spikes, sizes.k)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(encoder)
            functional.reset_net(decoder)
            total += error.item() * len(x)
        schedule.step()
        if epoch % 10 == 9:
            seconds = time.perf_counter() - start
            print(
                f"epoch {epoch + 1}/{epochs}  cross entropy {total / len(pictures):.2f}  {seconds:.1f} s",
                flush=True,
            )
    encoder.eval()
    decoder.eval()


@torch.no_grad()
def fit_prior(encoder: Encoder, sizes: Sizes, pictures: Tensor, labels: Tensor) -> Prior:
    """The prior from the encoder's spikes for the images."""
    spikes = encoder(over_time(pictures, sizes.T))
    functional.reset_net(encoder)
    return Prior.fit(spikes, sizes.k, labels)


@torch.no_grad()
def recognised(decoder: Decoder, prior: Prior, pictures: Tensor, labels: Tensor, each: int = 50) -> float:
    """Share of generated digits that a nearest-neighbour classifier of real ones takes for what they should be."""
    wanted = torch.arange(10).repeat_interleave(each)
    made = decoder(prior.draw(wanted, torch.Generator().manual_seed(1)))
    functional.reset_net(decoder)
    judge = KNeighborsClassifier(3).fit(pictures.flatten(1).numpy(), labels.numpy())
    return float(judge.score(made.flatten(1).numpy(), wanted.numpy()))


@torch.no_grad()
def reconstruction(encoder: Encoder, decoder: Decoder, sizes: Sizes, pictures: Tensor) -> float:
    """Mean squared error per pixel."""
    y = decoder(draw(encoder(over_time(pictures, sizes.T)), sizes.k, torch.Generator().manual_seed(2)))
    functional.reset_net(encoder)
    functional.reset_net(decoder)
    return float((y - pictures).square().mean())


def save(path: Path, encoder: Encoder, decoder: Decoder, prior: Prior) -> None:
    """Write weights and rates."""
    content = {"encoder": encoder.state_dict(), "decoder": decoder.state_dict(), "prior": prior.rates}
    with atomic_file(path, force=True) as partial:
        torch.save(content, partial)


def main() -> None:
    """Train, test, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="where the weights go")
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU such as cuda")
    arguments = parser.parse_args()
    device = open_device(arguments.device)
    pictures, labels = digits()
    sizes = Sizes()
    torch.manual_seed(0)
    encoder, decoder = Encoder(sizes).to(device), Decoder(sizes).to(device)
    train(encoder, decoder, sizes, pictures[:TRAINING].to(device))
    for part in (encoder, decoder):
        part.cpu()
    prior = fit_prior(encoder, sizes, pictures[:TRAINING], labels[:TRAINING])
    error = reconstruction(encoder, decoder, sizes, pictures[TRAINING:])
    share = recognised(decoder, prior, pictures, labels)
    print(
        f"held-out reconstruction: mean squared error {error:.4f}; generated digits recognised: {share:.1%}"
    )
    save(arguments.folder / "fsvae_digits.pt", encoder, decoder, prior)


if __name__ == "__main__":
    main()
