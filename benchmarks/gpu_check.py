"""The GPU in under three minutes: are its spikes those of the CPU, and how long does it take?

    python benchmarks/gpu_check.py [--json gpu.json] [--samples 8] [--rounds 5]

Needs torch with CUDA and this package alone, no recordings. Networks have random weights. For each it prints how many
spikes differ from the CPU's and how far the first of them is from the threshold, whether two runs are equal, and the median
times. Up to 1e-5 per neuron-step may differ, or more if the first one was decided by rounding, which depends on the order
of sums. The exit code is 0 if all of that holds, else 1; without a GPU it is 2.

Keys with --json: card, torch, cuda, networks (by name: neuron_steps, mismatches, first_distance, equal_runs,
counts_equal_runs, cpu_seconds, gpu_seconds, gpu_counting_seconds, samples, samples_that_fit; times in seconds for a window
of all samples); passed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tcja_deploy import zoo
from tcja_deploy.errors import UsageError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.activity.collect import collect
from tcja_deploy.runtime.activity.record import Watch
from tcja_deploy.runtime.activity.torch_windows import TorchWindows
from tcja_deploy.runtime.agreement import BOUND
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.device import device_name, open_device, samples_that_fit
from tcja_deploy.runtime.sequence import run, run_with_spikes
from tcja_deploy.runtime.synthetic import synthetic_frames

NETWORKS = ("events34", "fashion_mnist", "cifar10dvs", "dvs128")
DISTANCE = 1e-5
"""The first spike that differs lies within this distance of the threshold if rounding decided it."""


class Stored:
    """Recordings from a window."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return int(self.frames.shape[1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames[:, index], None


def median(call: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def check(graph: Graph, samples: int, rounds: int) -> dict[str, Any]:
    device = open_device("cuda")
    frames = synthetic_frames(graph, samples)
    there = torch.from_numpy(frames).to(device)
    output, spikes = run_with_spikes(graph, there)
    again, others = run_with_spikes(graph, there)
    found = compare(graph, frames, output, spikes, bound=BOUND)
    first = next((layer.first for layer in found.layers if layer.first is not None), None)
    watches = [Watch(node.name, node.signal.features, graph.T, binary=True) for node in graph.neurons]

    def counting() -> Any:
        windows = TorchWindows(graph, device)
        return collect(graph, Stored(frames), watches, batch_size=samples, windows=windows)

    return {
        "neuron_steps": found.neuron_steps,
        "mismatches": found.mismatches,
        "first_distance": None if first is None else first.distance,
        "equal_runs": bool(
            np.array_equal(output, again) and all(np.array_equal(spikes[k], others[k]) for k in spikes)
        ),
        "counts_equal_runs": counting().same_as(counting()),
        "cpu_seconds": median(lambda: run(graph, frames), 1),
        "gpu_seconds": median(lambda: run(graph, there), rounds),
        "gpu_counting_seconds": median(counting, rounds),
        "samples": samples,
        "samples_that_fit": samples_that_fit(graph, device),
    }


def held(found: dict[str, Any]) -> bool:
    few = found["mismatches"] <= BOUND * found["neuron_steps"]
    rounded = found["first_distance"] is None or abs(found["first_distance"]) <= DISTANCE
    return bool((few or rounded) and found["equal_runs"] and found["counts_equal_runs"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    try:
        device = open_device("cuda")
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    networks = {}
    for name in NETWORKS:
        found = networks[name] = check(zoo.build(name), args.samples, args.rounds)
        print(
            f"{name:14} {found['mismatches']} of {found['neuron_steps']} differ, first at {found['first_distance']}; "
            f"runs equal: {found['equal_runs']}, counts: {found['counts_equal_runs']}; {args.samples} samples: "
            f"CPU {found['cpu_seconds'] * 1e3:.1f} ms, GPU {found['gpu_seconds'] * 1e3:.1f} ms, "
            f"with counts {found['gpu_counting_seconds'] * 1e3:.1f} ms; {found['samples_that_fit']} fit",
            flush=True,
        )
    passed = all(map(held, networks.values()))
    print("passed" if passed else "FAILED")
    if args.json:
        found = {"card": device_name(device), "torch": torch.__version__, "cuda": torch.version.cuda}
        args.json.write_text(json.dumps({**found, "networks": networks, "passed": passed}, indent=2) + "\n")
    sys.exit(not passed)


if __name__ == "__main__":
    main()
