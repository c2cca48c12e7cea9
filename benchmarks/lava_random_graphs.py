"""Seeded random branched graphs in the real Lava: every value of every stage compared with the twin's, three windows each.

    python benchmarks/lava_random_graphs.py [--graphs 2000] [--first 0] [--together 10] [--minutes 90] [--json FILE]

The graphs are those of the tests (`tests/exporters/lava/graph_nets.py`), several side by side in one run of Lava; all runs
are forks of one process that has imported it. Every second run takes Lava's own convolution, the others the fast one. Needs
the environment of `tcja-deploy lava setup`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from tcja_deploy.exporters.lava import environment, verify
from tcja_deploy.exporters.lava.options import LavaVerification
from tcja_deploy.exporters.lava.schedule import schedule
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.integers.edges import AnyStage
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stages import NeuronStage, RelayStage, SynapseStage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "exporters" / "lava"))
from bundles import write_bundle
from graph_nets import random_counts, random_graphs
from preloaded import PreloadedLava

WINDOWS = 3


def kind(stage: AnyStage) -> str:
    """What a stage is an example of."""
    if isinstance(stage, SynapseStage):
        strided = ", strided" if max(stage.stride) > 1 else ""
        return f"synapse, {stage.kind}{strided}"
    if isinstance(stage, NeuronStage):
        if stage.name.rpartition(".")[2].startswith("and"):
            return "AND of spikes"
        return f"population, {'soft reset' if stage.drop else 'reset'}, {len(stage.inputs)} inputs"
    if isinstance(stage, RelayStage):
        return f"relay, {'sum' if stage.decay is None else 'leaky'}, {len(stage.inputs)} inputs"
    return "layer" if isinstance(stage, LayerStage) else "window program"


def kinds(network: IntegerNetwork, agreement: Agreement) -> Counter[str]:
    """How many stages of each kind send something, and how many inputs are delayed."""
    spoken = {layer.name for layer in agreement.layers if layer.spikes}
    found = Counter(kind(stage) for stage in network.stages if stage.name in spoken and stage.name != "out")
    found["delayed input"] = sum(delay > 0 for times in schedule(network).values() for delay in times.delays)
    return found


def compared(seeds: range, fast: bool) -> tuple[IntegerNetwork, Agreement]:
    """The graphs of some seeds as one network, and how it compares in Lava."""
    network = random_graphs(seeds)
    frames = random_counts(network, WINDOWS, seeds[0]).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(network, Path(folder) / "b", random_counts(network, 1), about={})
        return network, verify.verify_bundle(Path(folder) / "b", [frames], LavaVerification(fast_conv=fast))


def main() -> None:
    """Run, print what has been compared so far, and fail if a value differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--together", type=int, default=10, help="graphs in one run of Lava")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run later than this")
    parser.add_argument("--json", type=Path, help="write the figures here after every run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with PreloadedLava(environment.lava_python()) as lava:
        verify.run_lava = lava.run
        different = sweep(args)
    if different:
        raise SystemExit(1)


def sweep(args: argparse.Namespace) -> int:
    """Compare, print and return how many values differ."""
    start, graphs, values, different = time.monotonic(), 0, 0, 0
    reached: Counter[str] = Counter()
    last = args.first + args.graphs
    for first in range(args.first, last, args.together):
        minutes = (time.monotonic() - start) / 60
        if minutes > args.minutes:
            break
        seeds = range(first, min(first + args.together, last))
        network, agreement = compared(seeds, fast=first // args.together % 2 == 0)
        graphs, values = graphs + len(seeds), values + agreement.neuron_steps
        different += agreement.mismatches
        reached += kinds(network, agreement)
        minutes = (time.monotonic() - start) / 60
        print(f"{graphs} graphs  {values:,} values  {different} differ  {minutes:.1f} min", flush=True)
        if agreement.mismatches:
            print(seeds, [layer for layer in agreement.layers if layer.mismatches], flush=True)
        if args.json:
            figures = {"graphs": graphs, "first": args.first, "values": values, "different": different}
            args.json.write_text(json.dumps({**figures, "minutes": minutes, "stages": dict(reached)}))
    for name, count in sorted(reached.items()):
        print(f"{count:7,}  {name}")
    return different


if __name__ == "__main__":
    main()
