"""What bias correction and a fine-tune with the rounding in the loop gain on simulated digits.

    python -m benchmarks.lava_tuning FOLDER/NAME.tcja [--weight-bits 4] [--epochs 3]

The graphs are what `training.train_witnesses` wrote. They are tuned on the 1497 recordings that they were trained on, and
tested on the 300 that were held out. Prints rows for docs/lava.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.lava_witnesses import batches
from tcja_deploy import load
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.tuning.tune import TuneOptions, tune
from training.loop import Recordings
from training.train_witnesses import recordings


def row(file: Path, data: tuple[Recordings, Recordings], weight_bits: int, epochs: int) -> str:
    """One row of the table."""
    train, test = map(batches, data)
    start = time.perf_counter()
    found = tune(
        load(file), train, test=test, options=TuneOptions(epochs), export=LavaOptions(weight_bits=weight_bits)
    )
    steps = (
        f"{step.integer_correct} ({step.agree})" for step in (found.rounded, found.corrected, found.tuned)
    )
    what = f"{file.stem}, {weight_bits}-bit weights, {epochs} epochs"
    cells = (what, str(found.rounded.float_correct), *steps, f"{time.perf_counter() - start:.0f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Tune and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graphs", type=Path, nargs="+")
    parser.add_argument("--weight-bits", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = recordings()
    print("| | float | rounded | biases corrected | tuned | seconds |")
    print("|---|---|---|---|---|---|")
    for file in args.graphs:
        print(row(file, data, args.weight_bits, args.epochs), flush=True)


if __name__ == "__main__":
    main()
