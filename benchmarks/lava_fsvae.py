"""The spiking VAE of the zoo as two bundles: errors of its images, every value in the real Lava, and a picture of them.

    python -m benchmarks.lava_fsvae fsvae_digits.pt [--lava 20] [--picture docs/assets/fsvae-lava.png]

The weights are what `training.train_fsvae` wrote. Both parts are calibrated on 100 training images. The 297 held-out ones
go through the float encoder and decoder and through the integer ones, with the same draws in between; some also through Lava.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import functional
from torch import nn

import tcja_deploy as td
from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Kind
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.zoo.fsvae import Decoder, Encoder, Sizes, draw
from training.train_fsvae import TRAINING, digits, over_time

CALIBRATION = 100
SHOWN = 10


def bundled(net: nn.Module, shape: tuple[int, ...], kind: Kind, frames: torch.Tensor, path: Path) -> Twin:
    """Export a part, and make the twin of what was written."""
    graph = trace(net, timesteps=len(frames), input_shape=shape, input_kind=kind)
    td.export(graph, "lava", path, data=[frames.numpy()])
    return Twin(read_bundle(path).network)


def drawn(spikes: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    """The same choice among the encoder's spikes for both networks."""
    return draw(spikes, sizes.k, torch.Generator().manual_seed(2))


def in_lava(name: str, path: Path, frames: NDArray[np.float32]) -> int:
    """Print and return how many values differ."""
    agreement = td.verify(path, None, [frames], fast_conv=True)
    different, values = agreement.mismatches, agreement.neuron_steps
    print(
        f"{name}: {agreement.samples} pictures in Lava, {different} of {values:,} values differ", flush=True
    )
    return different


def picture(path: Path, rows: dict[str, NDArray[np.float32]]) -> None:
    """Draw rows of images `[N, 1, H, W]` in [0, 1] below each other."""
    from matplotlib.figure import Figure

    figure = Figure((8, 0.85 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), SHOWN)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for axis, one in zip(line, pictures, strict=False):
            axis.imshow(one[0], cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


@torch.no_grad()
def main() -> None:
    """Measure, print, draw; exit code 1 if a value differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--lava", type=int, default=20, help="pictures for the real Lava; 0: none")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes, weights = Sizes(), torch.load(args.weights, weights_only=True)
    encoder, decoder = Encoder(sizes), Decoder(sizes)
    encoder.load_state_dict(weights["encoder"])
    decoder.load_state_dict(weights["decoder"])
    images, _ = digits()
    known, test = over_time(images[:CALIBRATION], sizes.T), over_time(images[TRAINING:], sizes.T)

    def run(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = net.eval()(x)
        functional.reset_net(net)
        return torch.as_tensor(y)

    latent = drawn(run(encoder, test), sizes)
    decoded = run(decoder, latent).numpy()
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "encoder", Path(folder) / "decoder"
        first = bundled(encoder, sizes.image, Kind.REAL, known, one)
        calibration = drawn(run(encoder, known), sizes)
        second = bundled(decoder, (sizes.latent,), Kind.BINARY, calibration, two)
        spikes = first.run(test.numpy()).payload
        alone = second.run(latent.numpy()).values.reshape(decoded.shape)
        both = second.run(drawn(torch.from_numpy(spikes).float(), sizes).numpy()).values.reshape(
            decoded.shape
        )
        moved = np.mean(spikes != run(encoder, test).numpy())
        different = 0
        if args.lava:
            different += in_lava("encoder", one, test[:, : args.lava].numpy())
            different += in_lava("decoder", two, latent[:, : args.lava].numpy())
    real = test[0].numpy()
    print(f"encoder: {100 * moved:.2f} % of its spikes differ, {len(real)} pictures")
    for name, made in (("float", decoded), ("integer decoder", alone), ("integer encoder and decoder", both)):
        off = np.abs(made - decoded)
        print(
            f"{name}: mean squared error {np.mean((made - real) ** 2):.4f}; off the float one by {off.mean():.4f} on "
            f"average, {np.sqrt(np.mean(off**2)):.4f} root mean square, {off.max():.3f} at most"
        )
    if args.picture:
        far = np.abs(alone - decoded)
        picture(
            args.picture,
            {
                "original": real,
                "float": decoded,
                "integer\ndecoder": alone,
                "difference": far,
                "both\ninteger": both,
            },
        )
    if different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
