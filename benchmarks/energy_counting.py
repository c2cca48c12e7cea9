"""What counting costs: a network over frames, plain, with our counts, and under the counters of SpikingJelly.

    python benchmarks/energy_counting.py [--network events34] [--recordings 16] [--batch 4] [--repeats 3]

Seconds for all recordings, the best of some repeats. SpikingJelly runs its own module of the same network with the same
weights, so its plain time is given beside it. Frames are random event counts, about 8 % of the pixels hit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from tcja_deploy import zoo
from tcja_deploy.energy.count.measure import measure
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.sequence import run


class Stored:
    """Recordings in memory, `[n, T, ...]`."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames[index], None


def best(repeats: int, work: Callable[[], object]) -> float:
    """Shortest of some runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="events34", choices=sorted(zoo.BUILDERS))
    parser.add_argument("--recordings", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    arch = zoo.BUILDERS[options.network]()
    state = zoo.random_state(arch)
    graph = zoo.to_graph(arch, state)
    rng = np.random.default_rng(0)
    frames = rng.poisson(0.083, (options.recordings, graph.T, *graph.input_shape)).astype(np.float32)
    batches = [frames[i : i + options.batch].swapaxes(0, 1) for i in range(0, len(frames), options.batch)]
    counted = fold_batch_norm(graph)

    def ours() -> object:
        return measure(graph, Stored(frames), counted=counted, batch_size=options.batch)

    rows = [
        ("sequence runtime", best(options.repeats, lambda: [run(graph, b) for b in batches])),
        ("sequence runtime, all counts", best(options.repeats, ours)),
        *spikingjelly(arch, state, batches, options.repeats),
    ]
    print(
        f"{options.network}, {options.recordings} recordings, batches of {options.batch}, {torch.get_num_threads()} threads"
    )
    for name, seconds in rows:
        print(f"{name:<44}{seconds:9.3f} s{1e3 * seconds / options.recordings:10.1f} ms a recording")


def spikingjelly(
    arch: zoo.Architecture, state: dict[str, np.ndarray], batches: list[np.ndarray], repeats: int
) -> list[tuple[str, float]]:
    """The same for SpikingJelly; nothing if it is not installed."""
    try:
        from spikingjelly.activation_based import functional, op_counter

        from tcja_deploy.zoo.modules import to_module
    except ImportError:
        return []
    net = to_module(arch, state)

    def plain() -> None:
        with torch.inference_mode():
            for b in batches:
                functional.reset_net(net)
                net(torch.from_numpy(np.ascontiguousarray(b)))

    def under(*counters: str) -> Callable[[], None]:
        def work() -> None:
            with op_counter.DispatchCounterMode([getattr(op_counter, c)() for c in counters]):
                plain()

        return work

    return [
        ("SpikingJelly", best(repeats, plain)),
        ("SpikingJelly, SynOpCounter", best(repeats, under("SynOpCounter"))),
        (
            "SpikingJelly, SynOp, AC and MAC counters",
            best(repeats, under("SynOpCounter", "ACCounter", "MACCounter")),
        ),
    ]


if __name__ == "__main__":
    main()
