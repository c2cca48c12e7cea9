"""Train the small TCJA-SNN on N-MNIST, test once, write `tcja_deploy/data/nmnist_checkpoint_max.pth`.

From the root of the repository, with the extra `train` installed:

    python -m training.train_nmnist --data ../shared/data/n-mnist
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tcja_deploy import data
from tcja_deploy.events import open_data
from tcja_deploy.runtime.device import open_device
from training import loop
from training.network import TCJANet34

EPOCHS = 30
SEED = 0


def main() -> None:
    """Train on `Train/`, test on `Test/`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with Train/<digit>/*.bin and Test/<digit>/*.bin"
    )
    parser.add_argument("--out", type=Path, default=data.path("nmnist_checkpoint_max.pth"))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU such as cuda")
    arguments = parser.parse_args()
    device = open_device(arguments.device)

    torch.set_num_threads(1)  # sums in one order: the same weights each time
    torch.manual_seed(SEED)
    net = TCJANet34().to(device)
    train, test = (
        loop.load(open_data(arguments.data / split, timesteps=10, sensor=(34, 34)))
        for split in ("Train", "Test")
    )
    loop.train(
        net, train, epochs=arguments.epochs, batch=25, learning_rate=3e-3, motion=loop.Motion(), seed=SEED
    )
    test_accuracy = loop.accuracy(net, test)
    print(f"train {loop.accuracy(net, train):.4f}  test {test_accuracy:.4f}")
    loop.save_checkpoint(net, arguments.out, epochs=arguments.epochs, test_accuracy=test_accuracy)


if __name__ == "__main__":
    main()
