"""Windows through SpikingJelly, the sequence runtime, onnxruntime and the event engine, side by side, in turns.

    python benchmarks/inference.py [--network dvs128] [--checkpoint FILE [--frames IO.npz | --data FOLDER]]
        [--samples 1] [--batch 20] [--rounds 7] [--threads 2] [--json inference.json]

Weights are random, or a checkpoint's; frames are synthetic, or the `x` [N, T, C, H, W] of an .npz file, or recordings. The
event engine's first run, in which Numba compiles or loads its kernels, is timed separately.

Keys with --json: spikingjelly, sequence, onnxruntime, events (median seconds per sample), first_run_events (seconds),
network, samples, batch, threads, machine, commit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from networks import build_network, parser
from numpy.typing import NDArray
from spikingjelly.activation_based import functional
from turns import save, show, turn_by_turn

from tcja_deploy import export, zoo
from tcja_deploy.events import open_data
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.events.engine import run_plan
from tcja_deploy.runtime.events.plan import compile_graph
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo.modules import to_module


def arguments() -> argparse.Namespace:
    options = parser(__doc__, network="dvs128", rounds=7, threads=2)
    options.add_argument("--frames", type=Path)
    options.add_argument("--data", type=Path)
    options.add_argument("--samples", type=int, default=1)
    options.add_argument("--batch", type=int, default=20)
    return options.parse_args()


def main() -> None:
    args = arguments()
    arch, state = build_network(args)
    graph = zoo.to_graph(arch, state)
    folded, module = fold_batch_norm(graph), to_module(arch, state)
    plan = compile_graph(folded)
    batches: list[NDArray[np.float32]]
    if args.data:
        height, width = graph.input_shape[1:]
        recordings = open_data(args.data, timesteps=graph.T, sensor=(height, width), limit=args.samples)
        batches = [frames for frames, _ in recordings.batches(args.batch)]
    elif args.frames:
        batches = [np.load(args.frames)["x"].astype(np.float32).swapaxes(0, 1)]
    else:
        batches = [synthetic_frames(graph, args.samples)]
    batches = [np.ascontiguousarray(b) for b in batches]
    samples = sum(b.shape[1] for b in batches)
    start = time.perf_counter()
    run_plan(plan, batches[0], threads=args.threads)
    first = time.perf_counter() - start

    def spikingjelly() -> None:
        with torch.inference_mode():
            for b in batches:
                functional.reset_net(module)
                module(torch.from_numpy(b))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(graph, "onnx", path, verify=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        times = turn_by_turn(
            {
                "spikingjelly": spikingjelly,
                "sequence": lambda: [run(folded, b) for b in batches],
                "onnxruntime": lambda: [session.run(None, {name: b}) for b in batches],
                "events": lambda: [run_plan(plan, b, threads=args.threads) for b in batches],
            },
            args.rounds,
        )
    title = f"{arch.name}, T = {graph.T}, {samples} sample(s), {args.threads} threads, median of {args.rounds}, a sample"
    medians = show(title, times, "spikingjelly", samples)
    print(f"first run of the event engine: {first:.1f} s")
    facts = {"network": arch.name, "samples": samples, "batch": args.batch, "threads": args.threads}
    save(args.json, "inference", {**medians, "first_run_events": first}, **facts)


if __name__ == "__main__":
    main()
