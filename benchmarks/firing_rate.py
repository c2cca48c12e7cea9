"""Time of one layer against the firing rate of its input: the event engine compared with torch.

    python benchmarks/firing_rate.py [--rates 0.02 0.04 0.08 0.16] [--rounds 7] [--threads 2] [--plot docs/firing-rate.png]
        [--json firing_rate.json]

The layer is the second convolution of the DVS128 network (128 to 128 channels, 3 x 3, 64 x 64 places, T = 20) with its
neurons, and its input is random spikes of the given rates: for the engine as bits, the form in which layers pass them on
(the lists of active inputs are made anew each time), for torch as float32.

Keys with --json: events_<rate> and sequence_<rate>, median seconds; threads, machine, commit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from turns import save, show, turn_by_turn

from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.events.engine import run_layer
from tcja_deploy.runtime.events.plan import compile_graph
from tcja_deploy.runtime.events.values import Spikes
from tcja_deploy.runtime.sequence import run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.04, 0.08, 0.16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    b = GraphBuilder(20)
    x = b.add("input", ir.Input((128, 64, 64), Kind.BINARY))
    weight = rng.normal(0, 0.02, (128, 128, 3, 3)).astype(np.float32)
    x = b.add("conv", ir.Conv2d(weight, padding=(1, 1, 1, 1)), x)
    graph = b.finish(b.add("spikes", ir.LIF(), x))
    conv = compile_graph(graph).layers["conv"]

    def layer(spikes: Spikes) -> object:
        fresh = spikes.with_bits(spikes.bits)  # has no lists of active inputs yet
        return run_layer(conv, fresh, args.threads)

    ways: dict[str, Callable[[], object]] = {}
    for rate in args.rates:
        frames = (rng.random((20, 1, 128, 64, 64), np.float32) < rate).astype(np.float32)
        spikes = Spikes.of(frames, args.threads)
        ways[f"events_{rate:g}"] = partial(layer, spikes)
        ways[f"sequence_{rate:g}"] = partial(run, graph, frames)
    title = f"conv 128 - 128, 3 x 3, 64 x 64, T = 20, {args.threads} threads"
    medians = show(title, turn_by_turn(ways, args.rounds), f"sequence_{args.rates[0]:g}")
    if args.plot:
        draw(args.plot, args.rates, medians)
    save(args.json, "firing_rate", medians, threads=args.threads)


def draw(path: Path, rates: list[float], medians: dict[str, float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure((6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for engine in ("events", "sequence"):
        axes.plot(
            [100 * r for r in rates], [1e3 * medians[f"{engine}_{r:g}"] for r in rates], "o-", label=engine
        )
    axes.set(xlabel="active inputs, %", ylabel="ms per window", xlim=(0, None), ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
