"""Train small networks of the families on digits, test each once, and write them as graphs.

From the root of the repository, with the extra `train` installed:

    python -m training.train_witnesses [NAME ...] --out FOLDER [--data ../shared/data/n-mnist]

writes `FOLDER/NAME.tcja` and prints the accuracy on the held-out recordings: a few minutes each on one core. The recordings
are those of `training.train_digits`, or with `--data` those of an N-MNIST folder, with four frames each. 300 are held out;
`benchmarks/lava_witnesses.py` compares the float with the integer network on them. With `--settings` a fifth of the training
recordings is held back and tested on instead, for the choice of settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy

from tcja_deploy.events import integrate, open_data, record
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Kind
from tcja_deploy.ir_file import save_graph
from training import loop
from training.train_digits import CAMERA, HELD_OUT, MAGNIFICATION, SEED
from training.witnesses import TIMESTEPS, WITNESSES

__all__ = ["main", "nmnist", "recorded_again", "recordings", "settings_split", "train_witness"]

EPOCHS = 8
LOSSES: dict[str, loop.Loss] = {"classes": cross_entropy, "rates": loop.error_of_rates}


def nmnist(folder: Path) -> tuple[loop.Recordings, loop.Recordings]:
    """N-MNIST as counts `[N, T, 2, 34, 34]` with labels: `Test/` is held out, and as many of `Train/` as make 300."""
    train, test = (
        loop.load(open_data(folder / part, timesteps=TIMESTEPS, sensor=CAMERA.sensor))
        for part in ("Train", "Test")
    )
    kept, moved = _split(train, HELD_OUT - len(test[1]), SEED)
    return kept, (torch.cat([test[0], moved[0]]), torch.cat([test[1], moved[1]]))


def recordings() -> tuple[loop.Recordings, loop.Recordings]:
    """Simulated digits as counts `[N, T, 2, 34, 34]` with their labels: 1497 to train on, 300 held out."""
    train, test = _digits_apart()
    return _recorded(train), _recorded(test)


def recorded_again(times: int) -> Iterator[loop.Recordings]:
    """The 300 held-out digits before the simulated camera again, `times` times, with other noise and other pixel thresholds."""
    _, test = _digits_apart()
    for time in range(times):
        yield _recorded(test, time + 1)


def settings_split(train: loop.Recordings) -> tuple[loop.Recordings, loop.Recordings]:
    """The training recordings in two parts; the second compares settings, so that no test recording decides on them."""
    return _split(train, len(train[1]) // 5, SEED + 1)


def _digits_apart() -> list[NDArray[np.int64]]:
    labels = load_digits().target
    return train_test_split(np.arange(len(labels)), test_size=HELD_OUT, random_state=SEED, stratify=labels)


def _recorded(chosen: NDArray[np.int64], again: int = 0) -> loop.Recordings:
    digits = load_digits()
    frames = [
        integrate(
            record(
                digits.images[number] / 16.0, CAMERA,
                magnification=MAGNIFICATION, seed=int(number) + again * len(digits.images),
            ),
            timesteps=TIMESTEPS, sensor=CAMERA.sensor, split_by="number",
        )
        for number in chosen
    ]  # fmt: skip
    return loop.as_tensors(frames, digits.target[chosen].astype(np.int64))


def _split(data: loop.Recordings, count: int, seed: int) -> tuple[loop.Recordings, loop.Recordings]:
    """The recordings in two parts, the second of `count`, with the classes in the same proportions."""
    frames, labels = data
    parts = train_test_split(
        np.arange(len(labels)), test_size=count, random_state=seed, stratify=labels.numpy()
    )
    rest, some = ((frames[part], labels[part]) for part in parts)
    return rest, some


def train_witness(
    name: str,
    data: tuple[loop.Recordings, loop.Recordings],
    folder: Path,
    epochs: int = EPOCHS,
) -> float:
    """Train one network, write its graph, and return its accuracy on the held-out recordings."""
    torch.manual_seed(SEED)
    witness = WITNESSES[name]
    net = witness.make()
    train, test = data
    loop.train(
        net, train, epochs=epochs, batch=25, learning_rate=3e-3, motion=loop.Motion(), seed=SEED, loss_of=LOSSES[witness.loss]
    )  # fmt: skip
    found = loop.accuracy(net, test)
    net.eval()
    graph = trace(net, timesteps=TIMESTEPS, input_shape=(2, *CAMERA.sensor), input_kind=Kind.COUNT)
    save_graph(graph, folder / f"{name}.tcja", force=True)
    return found


def main() -> None:
    """Train the networks that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WITNESSES))
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--data", type=Path, help="folder with Train/<digit>/*.bin and Test/<digit>/*.bin")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--settings", action="store_true", help="test on a fifth of the training recordings")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same weights each time
    data = nmnist(arguments.data) if arguments.data else recordings()
    if arguments.settings:
        data = settings_split(data[0])
    for name in arguments.names or WITNESSES:
        accuracy = train_witness(name, data, arguments.out, arguments.epochs)
        print(f"{name}: test {accuracy:.4f} of {len(data[1][1])}", flush=True)


if __name__ == "__main__":
    main()
