"""Training and evaluation shared by the scripts: a fixed number of epochs, nothing chosen by test accuracy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import functional
from torch import nn

from tcja_deploy.events import EventData
from tcja_deploy.files import atomic_file

__all__ = ["Loss", "Motion", "accuracy", "as_tensors", "error_of_rates", "load", "save_checkpoint", "train"]

Recordings = tuple[torch.Tensor, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The loss of outputs `[N, classes]` and labels `[N]`, a mean over the recordings."""


@dataclass(frozen=True)
class Motion:
    """Augmentation: the largest shift along both axes, rotation, and relative change of size."""

    pixels: float = 2.0
    degrees: float = 10.0
    zoom: float = 0.1


def as_tensors(frames: list[NDArray[np.int32]], labels: NDArray[np.int64]) -> Recordings:
    """Stack counts `[T, 2, H, W]` to uint8 `[N, T, 2, H, W]` (checked to fit), with their labels `[N]`."""
    stacked = np.stack(frames)
    if stacked.max() > 255:
        raise ValueError(f"a count of {stacked.max()} does not fit in 8 bits")
    return torch.from_numpy(stacked.astype(np.uint8)), torch.from_numpy(labels)


def load(data: EventData) -> Recordings:
    """Read a whole labelled data set."""
    if data.labels is None:
        raise ValueError(f"{data.path} has no labels")
    return as_tensors([data[index][0].astype(np.int32) for index in range(len(data))], data.labels)


def error_of_rates(rates: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean squared error of firing rates `[N, classes]`: one for the class, zero for the others."""
    return nn.functional.mse_loss(rates, nn.functional.one_hot(labels, rates.shape[1]).float())


def train(
    net: nn.Module,
    recordings: Recordings,
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    motion: Motion,
    seed: int,
    loss_of: Loss = error_of_rates,
) -> None:
    """Train with Adam, a cosine schedule and, unless told otherwise, the error of the firing rates, as the authors do.

    Args:
        net: Takes `[T, N, 2, H, W]`, returns scores `[N, classes]`; trained on the device it is on.
        recordings: Counts `[N, T, 2, H, W]` and labels.
        epochs: Fixed number of epochs.
        batch: Recordings per step.
        learning_rate: Learning rate of Adam at the start of the cosine schedule.
        motion: How far each recording is moved, drawn anew in each epoch.
        seed: Seed of order, motion and dropout.
        loss_of: The loss to minimise, from scores and labels.
    """
    torch.manual_seed(seed)
    device = next(net.parameters()).device
    frames, labels = (part.to(device) for part in recordings)
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        net.train()
        for chosen in torch.randperm(len(labels)).to(device).split(batch):
            loss = loss_of(net(_moved(frames[chosen], motion)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
            total += loss.item() * len(chosen)
        schedule.step()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{epochs}  loss {total / len(labels):.4f}  {seconds:.1f} s", flush=True)


def accuracy(net: nn.Module, recordings: Recordings, batch: int = 50) -> float:
    """Share of recordings whose class has the highest firing rate (ties go to the lower class)."""
    device = next(net.parameters()).device
    frames, labels = (part.to(device) for part in recordings)
    net.eval()
    hits = 0
    with torch.no_grad():
        for part, wanted in zip(frames.split(batch), labels.split(batch), strict=True):
            hits += int((net(part.float().transpose(0, 1)).argmax(dim=1) == wanted).sum())
            functional.reset_net(net)
    return hits / len(labels)


def save_checkpoint(net: nn.Module, path: Path, *, epochs: int, test_accuracy: float) -> None:
    """Write the keys of the authors' checkpoints; `max_test_acc` is the one test, after the last epoch.

    Optimizer and schedule are left empty: the file is for deployment, not for further training.
    """
    content = {
        "net": {name: weight.cpu() for name, weight in net.state_dict().items()},
        "optimizer": {},
        "lr_scheduler": {},
        "epoch": epochs - 1,
        "max_test_acc": test_accuracy,
    }
    with atomic_file(path, force=True) as partial:
        torch.save(content, partial)


def _moved(frames: torch.Tensor, motion: Motion) -> torch.Tensor:
    """Float frames `[T, n, 2, H, W]` of counts `[n, T, 2, H, W]`, each recording moved as a whole, at random.

    Each pixel takes the count of the nearest source pixel, so counts stay whole; zeros move in.
    """
    n, timesteps, channels, height, width = frames.shape
    angle = math.radians(motion.degrees) * _between_minus_one_and_one(n)
    zoom = 1 + motion.zoom * _between_minus_one_and_one(n)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    across, down = (2 * motion.pixels / size * _between_minus_one_and_one(n) for size in (width, height))
    matrix = torch.stack([cos, -sin, across, sin, cos, down], dim=1).reshape(n, 2, 3)
    grid = nn.functional.affine_grid(matrix, [n, 1, height, width], align_corners=False).to(frames.device)
    moved = nn.functional.grid_sample(frames.flatten(1, 2).float(), grid, mode="nearest", align_corners=False)
    return moved.reshape(n, timesteps, channels, height, width).transpose(0, 1)


def _between_minus_one_and_one(count: int) -> torch.Tensor:
    return 2 * torch.rand(count) - 1
