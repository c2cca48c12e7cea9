"""Trained networks as integers: accuracy, predictions, spikes that differ, and every value of some recordings in the real Lava.

    python -m benchmarks.lava_witnesses FOLDER/*.tcja [--data n-mnist] [--lava 20]

The graphs are what `training.train_witnesses` wrote, with the same `--data`: calibrated on 100 recordings that were trained
on, tested on the 300 that were held out. Prints rows for docs/lava.md. The interval is Wilson's of 95 % for the integer
network.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import tcja_deploy as td
from tcja_deploy import load
from tcja_deploy.runtime.share import interval
from training.train_witnesses import nmnist, recordings

CALIBRATION = 100
BATCH = 50


def row(file: Path, data: tuple[tuple[torch.Tensor, torch.Tensor], ...], lava: int) -> tuple[str, int]:
    """One row of the table, and how many values differ in Lava."""
    graph = load(file)
    (known, _), (frames, labels) = data
    calibration = known[:CALIBRATION].transpose(0, 1).float().numpy()
    test = [
        (part.transpose(0, 1).float().numpy(), wanted.numpy())
        for part, wanted in zip(frames.split(BATCH), labels.split(BATCH), strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "b"
        report = td.export(graph, "lava", bundle, data=[calibration], test=test)
        agreement = td.verify(bundle, None, [test[0][0][:, :lava]], fast_conv=True) if lava else None
    found = report.accuracy
    low, high = (100 * end for end in interval(found.integer_correct, found.labelled))
    moved = " ".join(f"{100 * s.disagreement:.2f}" for s in report.stages if s.disagreement is not None)
    different = agreement.mismatches if agreement else 0
    exact = f"{different} of {agreement.neuron_steps:,}" if agreement else "not run"
    cells = (
        file.stem, f"{found.float_correct}", f"{found.integer_correct} ({low:.1f} to {high:.1f} %)", f"{found.agree}", moved,
        exact,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |", different


def main() -> None:
    """Measure and print; exit code 1 if a value differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graphs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, help="N-MNIST's folder; without it the simulated digits")
    parser.add_argument("--lava", type=int, default=20, help="recordings for the real Lava; 0: none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = nmnist(args.data) if args.data else recordings()
    print(f"| | float of {len(data[1][1])} | integer | same | spikes that differ, % | differ in Lava |")
    print("|---|---|---|---|---|---|")
    different = 0
    for file in args.graphs:
        line, wrong = row(file, data, args.lava)
        different += wrong
        print(line, flush=True)
    if different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
