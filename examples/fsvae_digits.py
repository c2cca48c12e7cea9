"""A spiking VAE from training to pictures.

Train on the bundled digits, export encoder and decoder to ONNX, draw latents on the host, decode them in onnxruntime,
and write a grid of pictures.

    python examples/fsvae_digits.py [FOLDER]

needs the extra `train` and about a minute; weights of an earlier run in FOLDER are taken up.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from tcja_deploy import export
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.zoo.fsvae import Decoder, Encoder, Prior, Sizes, draw
from training import train_fsvae

Pictures = NDArray[np.float32]


def trained(folder: Path, sizes: Sizes) -> tuple[Encoder, Decoder, Prior]:
    """Encoder, decoder and prior, trained first where FOLDER has none."""
    path = folder / "fsvae_digits.pt"
    if not path.exists():
        train_fsvae.main(folder)
    content = torch.load(path, weights_only=True)
    encoder, decoder = Encoder(sizes), Decoder(sizes)
    encoder.load_state_dict(content["encoder"])
    decoder.load_state_dict(content["decoder"])
    return encoder.eval(), decoder.eval(), Prior(content["prior"])


def run(path: Path, frames: torch.Tensor) -> torch.Tensor:
    """Result of an ONNX model."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: frames.numpy()})
    return torch.from_numpy(result)


def grid(pictures: torch.Tensor, columns: int, zoom: int = 6) -> Pictures:
    """Pictures `[N, 1, H, W]` in rows, with a line between them."""
    rows = []
    for row in pictures[:, 0].split(columns):
        framed = torch.nn.functional.pad(row, (1, 0, 1, 0))
        rows.append(torch.cat(list(framed), 1))
    whole: Pictures = torch.cat(rows, 0).numpy()
    return np.kron(whole, np.ones((zoom, zoom), np.float32))


def write(graph: Graph, path: Path, data: torch.Tensor) -> None:
    """Export, verified on `data`, and say how it went."""
    report = export(graph, "onnx", path, data=[data.numpy()], force=True)
    agreement = report.agreement
    if agreement is not None:
        print(
            f"{path.name}: {agreement.mismatches} of {agreement.neuron_steps} neuron-steps differ in onnxruntime"
        )


def main(folder: Path) -> None:
    """The whole way."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = Sizes()
    encoder, decoder, prior = trained(folder, sizes)
    pictures, labels = train_fsvae.digits()
    held_out = pictures[train_fsvae.TRAINING :][:20]
    frames = held_out.repeat(sizes.T, 1, 1, 1, 1)

    write(
        trace(encoder, timesteps=sizes.T, input_shape=sizes.image, input_kind=Kind.REAL),
        folder / "encoder.onnx", frames,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    latent = draw(run(folder / "encoder.onnx", frames), sizes.k, generator)
    write(
        trace(decoder, timesteps=sizes.T, input_shape=(sizes.latent,), input_kind=Kind.BINARY),
        folder / "decoder.onnx", latent,
    )  # fmt: skip

    seen_again = run(folder / "decoder.onnx", latent)
    matplotlib.image.imsave(
        folder / "reconstructed.png", grid(torch.cat([held_out, seen_again]), 20), cmap="gray", vmin=0, vmax=1
    )
    wanted = torch.arange(10).repeat(10)
    made = run(folder / "decoder.onnx", prior.draw(wanted, generator))
    matplotlib.image.imsave(folder / "generated.png", grid(made, 10), cmap="gray", vmin=0, vmax=1)
    share = train_fsvae.recognised(decoder, prior, pictures, labels)
    print(f"generated digits recognised by nearest neighbours among real ones: {share:.1%}")
    print(f"pictures: {folder / 'generated.png'}, {folder / 'reconstructed.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("fsvae"))
