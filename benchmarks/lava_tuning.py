"""What bias correction and a fine-tune with the rounding in the loop gain on simulated digits.

    python -m benchmarks.lava_tuning FOLDER/NAME.tcja [--weight-bits 4] [--epochs 3] [--copies 9]

The graphs are what `training.train_witnesses` wrote. They are tuned on the 1497 recordings that they were trained on, and
tested on the 300 that were held out and on copies of them, recorded anew. Prints the table of docs/lava.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.lava_witnesses import batches
from tcja_deploy import load
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.tuning.tune import TuneOptions, tune
from training.loop import Recordings
from training.train_witnesses import recorded_again, recordings
from training.witnesses import WITNESSES

HEADER = ("", "float, %", "rounded", "biases corrected", "tuned", "seconds")


def row(
    file: Path,
    train: Recordings,
    test: Recordings,
    copies: Iterable[Recordings],
    weight_bits: int,
    epochs: int,
) -> str:
    """One row of the table."""
    held_out = [batch for part in (test, *copies) for batch in batches(part)]
    start = time.perf_counter()
    found = tune(
        load(file),
        batches(train),
        test=held_out,
        options=TuneOptions(epochs),
        export=LavaOptions(weight_bits=weight_bits),
    )
    count = found.rounded.samples
    steps = (
        f"{100 * step.integer_correct / count:.2f} ({100 * step.agree / count:.1f})"
        for step in (found.rounded, found.corrected, found.tuned)
    )
    what = f"{WITNESSES[file.stem].title}, {weight_bits}-bit weights"
    right = f"{100 * found.rounded.float_correct / count:.2f}, of {count:,}"
    cells = (what, right, *steps, f"{time.perf_counter() - start:.0f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Tune and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graphs", type=Path, nargs="+")
    parser.add_argument("--weight-bits", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--copies", type=int, default=9, help="of each held-out recording")
    args = parser.parse_args()
    torch.set_num_threads(1)
    (train, test), copies = recordings(), list(recorded_again(args.copies))
    print(f"| {' | '.join(HEADER)} |")
    print("|---" * len(HEADER) + "|")
    for file in args.graphs:
        print(row(file, train, test, copies, args.weight_bits, args.epochs), flush=True)


if __name__ == "__main__":
    main()
