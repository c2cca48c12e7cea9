"""Simulate recordings of scikit-learn's digits, train the small TCJA-SNN on them, test once on others.

From the root of the repository, with the extra `train` installed:

    python -m training.train_digits

writes `digits_checkpoint_max.pth` and `digits_test_events.npz` (100 held-out recordings, ten per class); with
`--without-attention`, the same network without its gates, trained with the same settings on the same recordings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tcja_deploy import data
from tcja_deploy.events import Camera, Events, integrate, record
from tcja_deploy.files import atomic_file
from tcja_deploy.runtime.device import open_device
from training import loop
from training.network import TCJANet34

EPOCHS = 15
SEED = 0
HELD_OUT = 300
SHIPPED_PER_CLASS = 10
TIMESTEPS = 10
CAMERA = Camera(sensor=(34, 34), threshold=0.5, mismatch=0.03, noise_rate=0.5)
MAGNIFICATION = 3.0


def main() -> None:
    """Simulate, train, test, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--without-attention", action="store_true", help="leave both TCJA blocks out")
    parser.add_argument("--out", type=Path, default=data.path("digits_checkpoint_max.pth"))
    parser.add_argument("--events", type=Path, default=data.path("digits_test_events.npz"))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU such as cuda")
    arguments = parser.parse_args()
    device = open_device(arguments.device)

    torch.set_num_threads(1)  # sums in one order: the same weights each time
    torch.manual_seed(SEED)
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    recordings = [
        record(image / 16.0, CAMERA, magnification=MAGNIFICATION, seed=number)
        for number, image in enumerate(digits.images)
    ]
    training, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, random_state=SEED, stratify=labels
    )
    net = TCJANet34(timesteps=TIMESTEPS, attention=not arguments.without_attention).to(device)
    train, test = (_frames(recordings, labels, chosen) for chosen in (training, held_out))
    loop.train(
        net, train, epochs=arguments.epochs, batch=25, learning_rate=3e-3, motion=loop.Motion(), seed=SEED
    )
    test_accuracy = loop.accuracy(net, test)
    print(f"train {loop.accuracy(net, train):.4f}  test {test_accuracy:.4f}")
    loop.save_checkpoint(net, arguments.out, epochs=arguments.epochs, test_accuracy=test_accuracy)

    shipped = np.concatenate([held_out[labels[held_out] == k][:SHIPPED_PER_CLASS] for k in range(10)])
    _save_events([recordings[k] for k in shipped], labels[shipped], arguments.events)
    print(f"shipped {loop.accuracy(net, _frames(recordings, labels, shipped)):.4f}")


def _frames(
    recordings: list[Events], labels: NDArray[np.int64], chosen: NDArray[np.int64]
) -> loop.Recordings:
    frames = [
        integrate(recordings[k], timesteps=TIMESTEPS, sensor=CAMERA.sensor, split_by="number") for k in chosen
    ]
    return loop.as_tensors(frames, labels[chosen])


def _save_events(recordings: list[Events], labels: NDArray[np.int64], path: Path) -> None:
    """Write recordings end to end, as `tcja_deploy.events.open_data` reads them."""
    with atomic_file(path, force=True) as partial:
        np.savez_compressed(
            partial,
            t=np.concatenate([one.t for one in recordings]).astype(np.uint32),
            x=np.concatenate([one.x for one in recordings]).astype(np.uint8),
            y=np.concatenate([one.y for one in recordings]).astype(np.uint8),
            p=np.concatenate([one.p for one in recordings]).astype(np.uint8),
            offsets=np.cumsum([0, *map(len, recordings)]).astype(np.uint32),
            labels=labels.astype(np.uint8),
        )


if __name__ == "__main__":
    main()
