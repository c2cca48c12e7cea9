"""What each step of the quantiser gains on N-MNIST: accuracy and moved spikes, float against integer.

    python benchmarks/lava_accuracy.py --data n-mnist [--calibration 100] [--threads 2]

The shipped network is calibrated on recordings of `Train` and measured on those of `Test` and on copies of them, shifted by
two pixels in four directions (more samples, since one recording in a hundred is a whole percentage point).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tcja_deploy import load
from tcja_deploy.data import path
from tcja_deploy.events import open_data
from tcja_deploy.exporters.lava.accuracy import evaluate
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise import quantise

PLAIN = {"wide_input": False, "correct_bias": False}
STEPS = {
    "plain rounding": PLAIN,
    "biases corrected": {"wide_input": False},
    "first layer 15 bits": {"correct_bias": False},
    "both (default)": {},
    "  gate bits 4": {"gate_bits": 4},
    "  gate bits 8": {"gate_bits": 8},
    "  threshold rule ties": {"threshold_rule": "ties"},
    "  compensated rounding": {"compensate": True},
    "  thresholds per channel": {"per_channel": True},
}

Batch = tuple[np.ndarray, np.ndarray]


def shifted(frames: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Frames moved by some pixels; what leaves the frame is lost."""
    moved = np.roll(frames, (rows, columns), (3, 4))
    for axis, by in ((3, rows), (4, columns)):
        if by:
            edge = [slice(None)] * 5
            edge[axis] = slice(0, by) if by > 0 else slice(by, None)
            moved[tuple(edge)] = 0
    return moved


def copies(batches: list[Batch]) -> Iterator[Batch]:
    """Copies of every batch, one shifted in each of four directions."""
    for rows, columns in ((-2, 0), (2, 0), (0, -2), (0, 2)):
        for frames, labels in batches:
            yield shifted(frames, rows, columns), labels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with Train and Test")
    parser.add_argument("--calibration", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    graph = load(path("nmnist_checkpoint_max.pth"))

    def batches(split: str, limit: int | None) -> list[Batch]:
        data = open_data(args.data / split, timesteps=graph.T, sensor=(34, 34), channels=2, limit=limit)
        return list(data.batches(50))

    calibration = [frames for frames, _ in batches("Train", args.calibration)]
    test = batches("Test", None)
    table = Table("step", "test", "same", "shifted", "same", "moved spikes by layer, % of neuron-steps")
    for name, change in STEPS.items():
        quantised = quantise(graph, calibration, LavaOptions(**change))
        plain, moved = evaluate(graph, quantised, test), evaluate(graph, quantised, list(copies(test)))
        layers = [f"{100 * s.disagreement:.3f}" for s in plain.stages if s.kind in ("conv", "dense")]
        table.add_row(
            name,
            f"{plain.float_correct} -> {plain.integer_correct} of {plain.samples}",
            str(plain.agree),
            f"{moved.float_correct} -> {moved.integer_correct} of {moved.samples}",
            str(moved.agree),
            "  ".join(layers),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
