"""Trained networks as integers: accuracy, predictions, spikes that differ, and every value of some recordings in the real Lava.

    python -m benchmarks.lava_witnesses FOLDER/*.tcja [--data n-mnist] [--copies 9] [--lava 20] [--compensate]

The graphs are what `training.train_witnesses` wrote, with the same `--data`: calibrated on 100 recordings that were trained
on, tested on the 300 that were held out (in brackets Wilson's 95 % interval). With 300 recordings half a point may be chance,
so each is used again as several copies: digits recorded anew, N-MNIST's recordings moved by up to two pixels. The difference
between both networks on all of these has a paired 95 % interval over recordings, not copies, since copies of one are alike.
Prints the tables of docs/lava.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tcja_deploy as td
from benchmarks.lava_accuracy import shifted
from tcja_deploy import load
from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.engines import choose, watching
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.predictions import predictions
from tcja_deploy.runtime.share import interval
from training.loop import Recordings
from training.train_witnesses import nmnist, recorded_again, recordings
from training.witnesses import WITNESSES

CALIBRATION = 100
BATCH = 50
ALONG = [(rows, 0) for rows in (-2, -1, 1, 2)] + [(0, columns) for columns in (-2, -1, 1, 2)]
ACROSS = [(rows, columns) for rows in (-2, -1, 1, 2) for columns in (-2, -1, 1, 2)]
HALF_A_POINT = 0.5
HEADER = (
    "", "held out, of 300", "same", "with copies, %", "same, %", "difference", "within half a point",
    "spikes that differ", "values that differ in Lava",
)  # fmt: skip

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]


def batches(data: Recordings) -> list[Batch]:
    """Frames `[T, n, 2, H, W]` and labels of counts `[N, T, 2, H, W]`, a batch at a time."""
    parts = zip(data[0].split(BATCH), data[1].split(BATCH), strict=True)
    return [(frames.transpose(0, 1).float().numpy(), labels.numpy()) for frames, labels in parts]


def moved(data: Recordings) -> Iterator[Recordings]:
    """All recordings, moved to 24 other places, those along one axis first."""
    frames, labels = data
    for rows, columns in ALONG + ACROSS:
        yield torch.from_numpy(shifted(frames.numpy(), rows, columns)), labels


def predicted(graph: Graph, network: IntegerNetwork, data: Recordings) -> NDArray[np.int64]:
    """Classes `[2, N]` that the float and the integer network predict."""
    run, twin = watching(graph, choose(graph, "torch"), ()), Twin(network)
    found: list[list[Any]] = [[], []]
    for frames, _ in batches(data):
        output = run(frames, lambda node, value: None)
        found[0].append(predictions(output, graph[graph.output].signal.streams))
        found[1].append(predictions(twin.run(frames).values, not network.readout.time_mean))
    return np.stack([np.concatenate(part) for part in found])


def paired(difference: NDArray[np.integer[Any]]) -> tuple[float, float, float]:
    """Mean of differences `[recordings, copies]` with its 95 % interval, in percentage points; one recording is one draw."""
    each = difference.mean(1)
    half = 1.96 * float(each.std(ddof=1)) / len(each) ** 0.5
    return 100 * float(each.mean()), 100 * (float(each.mean()) - half), 100 * (float(each.mean()) + half)


def verdict(least: float, most: float) -> str:
    """Whether an interval of differences, integer minus float in points, lies within half a point of zero."""
    if most < -HALF_A_POINT:
        return "no"
    if least < -HALF_A_POINT:
        return "open"
    return "yes" if most <= HALF_A_POINT else "yes, or better"


def row(
    file: Path,
    train: Recordings,
    test: Recordings,
    copies: list[Recordings],
    lava: int,
    *,
    compensate: bool = False,
) -> tuple[str, int]:
    """One row of the table, and how many values differ in Lava."""
    witness = WITNESSES[file.stem]
    graph = load(file)
    calibration = train[0][:CALIBRATION].transpose(0, 1).float().numpy()
    held_out = batches(test)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "b"
        report = td.export(graph, "lava", bundle, data=[calibration], test=held_out, compensate=compensate)
        network = read_bundle(bundle).network
        agreement = td.verify(bundle, None, [held_out[0][0][:, :lava]], fast_conv=True) if lava else None
    found = report.accuracy
    low, high = (100 * end for end in interval(found.integer_correct, found.labelled))
    seen = np.stack([predicted(graph, network, part) for part in (test, *copies)])  # [copies, 2, N]
    right = seen == test[1].numpy()
    count, (mean, least, most) = right[:, 0].size, paired(right[:, 1].T.astype(int) - right[:, 0].T)
    different = agreement.mismatches if agreement else 0
    cells = (
        witness.title + " *" * (witness.loss == "rates") + ", compensated" * compensate,
        f"{found.float_correct} -> {found.integer_correct} ({low:.1f} to {high:.1f})", f"{found.agree}",
        f"{100 * right[:, 0].mean():.2f} -> {100 * right[:, 1].mean():.2f}, of {count:,}",
        f"{100 * (seen[:, 0] == seen[:, 1]).mean():.1f}",
        f"{mean:+.2f} ({least:+.2f} to {most:+.2f})", verdict(round(least, 2), round(most, 2)),
        " ".join(f"{100 * s.disagreement:.2f}" for s in report.stages if s.disagreement is not None),
        f"{different} of {agreement.neuron_steps:,}" if agreement else "not run",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |", different


def main() -> None:
    """Measure and print; exit code 1 if a value differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graphs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, help="N-MNIST's folder; without it the simulated digits")
    parser.add_argument(
        "--copies", type=int, default=9, help="of each held-out recording; N-MNIST has at most 24"
    )
    parser.add_argument("--lava", type=int, default=20, help="recordings for the real Lava; 0: none")
    parser.add_argument("--compensate", action="store_true", help="round so that errors cancel")
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test = nmnist(args.data) if args.data else recordings()
    more = moved(test) if args.data else recorded_again(args.copies)
    copies = list(islice(more, args.copies))
    print(f"| {' | '.join(HEADER)} |")
    print("|---" * len(HEADER) + "|")
    different = 0
    for file in args.graphs:
        line, wrong = row(file, train, test, copies, args.lava, compensate=args.compensate)
        different += wrong
        print(line, flush=True)
    if different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
