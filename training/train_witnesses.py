"""Train small networks of the families on digits, test each once, and write them as graphs.

From the root of the repository, with the extra `train` installed:

    python -m training.train_witnesses [NAME ...] --out FOLDER [--data ../shared/data/n-mnist]

writes `FOLDER/NAME.tcja` and prints the accuracy on the held-out recordings: a few minutes each on one core. The recordings
are those of `training.train_digits`, or with `--data` those of an N-MNIST folder, with four frames each. 300 are held out;
`benchmarks/lava_witnesses.py` compares the float with the integer network on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tcja_deploy.events import integrate, open_data, record
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Kind
from tcja_deploy.ir_file import save_graph
from training import loop
from training.train_digits import CAMERA, HELD_OUT, MAGNIFICATION, SEED
from training.witnesses import TIMESTEPS, WITNESSES

__all__ = ["main", "nmnist", "recordings", "train_witness"]

EPOCHS = 8


def nmnist(folder: Path) -> tuple[loop.Recordings, loop.Recordings]:
    """N-MNIST as counts `[N, T, 2, 34, 34]` with labels: `Test/` and as many more of `Train/` as make 300 are held out."""
    train, test = (
        loop.load(open_data(folder / part, timesteps=TIMESTEPS, sensor=CAMERA.sensor))
        for part in ("Train", "Test")
    )
    labels = train[1].numpy()
    kept, moved = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT - len(test[1]), random_state=SEED, stratify=labels
    )
    held_out = tuple(torch.cat([a, b[moved]]) for a, b in zip(test, train, strict=True))
    return (train[0][kept], train[1][kept]), (held_out[0], held_out[1])


def recordings() -> tuple[loop.Recordings, loop.Recordings]:
    """Simulated digits as counts `[N, T, 2, 34, 34]` with their labels: 1497 to train on, 300 held out."""
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    frames = [
        integrate(
            record(image / 16.0, CAMERA, magnification=MAGNIFICATION, seed=number),
            timesteps=TIMESTEPS,
            sensor=CAMERA.sensor,
            split_by="number",
        )
        for number, image in enumerate(digits.images)
    ]
    parts = train_test_split(np.arange(len(labels)), test_size=HELD_OUT, random_state=SEED, stratify=labels)
    train, test = (loop.as_tensors([frames[k] for k in chosen], labels[chosen]) for chosen in parts)
    return train, test


def train_witness(
    name: str, data: tuple[loop.Recordings, loop.Recordings], folder: Path, epochs: int = EPOCHS
) -> float:
    """Train one network, write its graph, and return its accuracy on the held-out recordings."""
    torch.manual_seed(SEED)
    net = WITNESSES[name]()
    train, test = data
    loop.train(net, train, epochs=epochs, batch=25, learning_rate=3e-3, motion=loop.Motion(), seed=SEED)
    found = loop.accuracy(net, test)
    net.eval()
    graph = trace(net, timesteps=TIMESTEPS, input_shape=(2, *CAMERA.sensor), input_kind=Kind.COUNT)
    save_graph(graph, folder / f"{name}.tcja", force=True)
    return found


def main() -> None:
    """Train what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WITNESSES))
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--data", type=Path, help="folder with Train/<digit>/*.bin and Test/<digit>/*.bin")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same weights each time
    data = nmnist(arguments.data) if arguments.data else recordings()
    for name in arguments.names or WITNESSES:
        accuracy = train_witness(name, data, arguments.out, arguments.epochs)
        print(f"{name}: test {accuracy:.4f} of {HELD_OUT}", flush=True)


if __name__ == "__main__":
    main()
