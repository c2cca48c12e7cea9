"""Residual streams of real numbers as integers: how many bits each relay uses, and how far it is from the float network.

    python -m benchmarks.lava_streams [FOLDER/NAME.tcja ...] [--place output|branch] [--depths 2 2 2 2]

Without files, MS-ResNet-18 with TCJA at CIFAR's size (`lava_cifar.py`), or one with other numbers of blocks; files are what
`training.train_witnesses` wrote on the digits. Errors are root mean squares in thresholds of the next neuron, on recordings
that did not calibrate: *own* where all spikes, gates and streams that a relay reads are the float network's, so that what
remains is the rounding of its weights and of its unit, and *all* in the integer network, where moved spikes are by far the
most. *Cut* counts values beyond the bits of a relay. Prints the tables of docs/lava.md.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.lava_cifar import network, pictures
from benchmarks.lava_witnesses import CALIBRATION, batches
from tcja_deploy import load
from tcja_deploy.exporters.lava.quantise import Quantised, quantise
from tcja_deploy.ir import Graph
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.stage_runners import run_stage
from tcja_deploy.runtime.integers.stages import HOST, RelayStage
from tcja_deploy.runtime.integers.twin import Twin, encode
from tcja_deploy.runtime.sequence import run
from training.train_witnesses import recordings

SAMPLES = 20


def rounded_alone(
    quantised: Quantised, frames: NDArray[Any], exact: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """What each stage that stands for a node sends, divided by its unit, where what it reads is the float network's."""
    integers, nodes = quantised.network, quantised.floats.values
    sent: dict[str, NDArray[Any]] = {HOST: encode(integers.host_input, frames)}
    found: dict[str, NDArray[Any]] = {}
    for stage in integers.stages:
        windows = [sent[name] for name in stage.inputs]
        value = run_stage(stage, integers.arrives(stage), windows, LayerCounts())
        node, unit = nodes.get(stage.name, stage.name), integers.edges[stage.name].unit
        if node in exact:
            found[stage.name] = value / unit
            value = np.rint(exact[node] * unit).astype(np.int64).reshape(value.shape)
        sent[stage.name] = value
    return found


def threshold(graph: Graph, name: str) -> float:
    """Threshold of the first neuron that reads a value; 1 where none does."""
    readers = [node.op for node in graph.readers(name) if hasattr(node.op, "v_threshold")]
    return float(getattr(readers[0], "v_threshold", 1.0) or 1.0) if readers else 1.0


def rows(graph: Graph, calibration: NDArray[Any], frames: NDArray[Any]) -> list[str]:
    """One row of the table for each relay of a stream."""
    graph = fold_batch_norm(graph)
    quantised = quantise(graph, [calibration])
    exact: dict[str, NDArray[Any]] = {}
    run(graph, frames, observe=lambda node, value: exact.update({node.name: value.numpy()}))
    own = rounded_alone(quantised, frames, exact)
    relays = [s for s in quantised.network.stages if isinstance(s, RelayStage) and s.name in exact]
    result = Twin(quantised.network).run(frames, record=[relay.name for relay in relays])
    integer = result.recorded
    lines = []
    for relay in relays:
        wanted, one = exact[relay.name], threshold(graph, relay.name)
        largest = int(np.abs(integer[relay.name]).max())
        errors = (own[relay.name] - wanted, integer[relay.name] / relay.unit - wanted)
        cells = (
            relay.name, f"{np.abs(wanted).max() / one:.1f}", f"{relay.unit * one:.0f}", f"{relay.bits}",
            f"{math.ceil(math.log2(largest + 1)) + 1}",
            str(result.counts[relay.name].saturations),
            *(f"{np.sqrt(np.mean(error**2)) / one:.5f}" for error in errors),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graphs", type=Path, nargs="*")
    parser.add_argument("--place", choices=("output", "branch"), default="output")
    parser.add_argument("--depths", type=int, nargs="+", default=(2, 2, 2, 2), help="blocks of each stage")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage")
    args = parser.parse_args()
    torch.set_num_threads(1)
    nets = []
    if args.graphs:
        train, test = recordings()
        calibration = train[0][:CALIBRATION].transpose(0, 1).float().numpy()
        frames = batches(test)[0][0][:, :SAMPLES]
        nets = [(file.stem, load(file), calibration, frames) for file in args.graphs]
    else:
        made = network(args.width, args.place, args.depths)
        nets = [(args.place, made, pictures(8, 3).numpy(), pictures(3, 2).numpy())]
    for name, graph, calibration, frames in nets:
        print(f"| {name} | largest, thresholds | integers to a threshold | bits | used | cut | own | all |")
        print("|---" * 8 + "|")
        print("\n".join(rows(graph, calibration, frames)), flush=True)


if __name__ == "__main__":
    main()
