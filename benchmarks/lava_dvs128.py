"""The DVS128 network as a bundle: the twin compared with the real Lava, spike for spike, and the time of each.

    python benchmarks/lava_dvs128.py --checkpoint dvs128_checkpoint_max.pth [--frames io.npz] [--samples 1] [--stock]

Lava runs with the fast convolution (the same integers as matrix products), and with --stock with its own as well. The frames
are those of `x` in the .npz file, `[N, T, 2, 128, 128]`, or synthetic. Needs the environment of `tcja-deploy lava setup`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import tcja_deploy as td
from tcja_deploy import load, zoo
from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.exporters.lava.driver import run_lava
from tcja_deploy.runtime.integers.twin import Twin, encode
from tcja_deploy.runtime.synthetic import synthetic_frames

BATCH = 4


def seconds(action: Callable[[], object], rounds: int) -> float:
    """Median time of an action."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure and print; exit code 1 if a value differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="runs of the twin; the median counts")
    parser.add_argument("--stock", action="store_true", help="Lava's own convolution too: minutes")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    arch = zoo.BUILDERS["dvs128"]()
    graph = load(args.checkpoint) if args.checkpoint else zoo.to_graph(arch, zoo.random_state(arch))
    if args.frames:
        with np.load(args.frames) as arrays:
            frames = arrays["x"].swapaxes(0, 1)[:, : args.samples]
    else:
        frames = synthetic_frames(graph, args.samples)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        start = time.perf_counter()
        report = td.export(graph, "lava", path, data=[frames])
        console.print(f"exported in {time.perf_counter() - start:.1f} s, latency {report.latency} steps")
        bundle = read_bundle(path)
        payload = encode(bundle.network.host_input, frames)
        twin = Twin(bundle.network)
        expected = twin.run(frames, record=[stage.name for stage in bundle.network.stages]).recorded
        one = seconds(lambda: twin.run(frames), args.rounds)
        together = np.concatenate([frames] * BATCH, 1)
        many = seconds(lambda: twin.run(together), args.rounds) / BATCH
        runs = {"fast convolution": run_lava(bundle, payload, fast_conv=True)}
        if args.stock:
            runs["its own convolution"] = run_lava(bundle, payload)
    table = Table(
        "stage",
        "values",
        "spikes",
        *(f"Lava, {kind}" for kind in runs),
        title="Values that differ from the twin's",
    )
    total = 0
    for name, values in expected.items():
        different = [int((values != run.stages[name]).sum()) for run in runs.values()]
        total += sum(different)
        table.add_row(name, f"{values.size:,}", f"{np.count_nonzero(values):,}", *map(str, different))
    console.print(table)
    rows = Table(
        "",
        "seconds per sample",
        "times the twin",
        title=f"{frames.shape[1]} sample(s), {args.threads} threads",
    )
    samples = frames.shape[1]
    rows.add_row("twin", f"{one / samples:.3f}", "1")
    rows.add_row(
        f"twin, {BATCH} times as many samples in a call", f"{many / samples:.3f}", f"{many / one:.2f}"
    )
    for kind, run in runs.items():
        steps = f"Lava, {kind}, {run.steps} steps"
        rows.add_row(steps, f"{run.run_seconds / samples:.2f}", f"{run.run_seconds / one:.0f}")
        rows.add_row(
            "  with import and start", f"{run.total_seconds / samples:.2f}", f"{run.total_seconds / one:.0f}"
        )
    console.print(rows)
    if total:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
