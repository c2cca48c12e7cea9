"""One window through SpikingJelly, the sequence runtime and onnxruntime, side by side, turn by turn.

    python benchmarks/inference.py [--network dvs128] [--samples 1] [--rounds 7] [--threads 2]

Prints the median time of each and its ratio to SpikingJelly's. Weights are random, or a checkpoint's with --checkpoint.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import onnxruntime
import torch
from rich.console import Console
from rich.table import Table
from spikingjelly.activation_based import functional

from tcja_deploy import export, zoo
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo.modules import to_module


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=sorted(zoo.BUILDERS), default="dvs128")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    arch = zoo.BUILDERS[args.network]()
    state = zoo.random_state(arch)
    if args.checkpoint:
        state = {k: v.numpy() for k, v in torch.load(args.checkpoint, weights_only=True)["net"].items()}
    graph = zoo.to_graph(arch, state)
    folded, module = fold_batch_norm(graph), to_module(arch, state)
    x = synthetic_frames(graph, args.samples)
    tensor = torch.from_numpy(x)

    def spikingjelly() -> None:
        functional.reset_net(module)
        with torch.inference_mode():
            module(tensor)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(graph, "onnx", path, verify=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        candidates = {
            "SpikingJelly, multi-step": spikingjelly,
            "sequence runtime": lambda: run(graph, x),
            "sequence runtime, BN folded": lambda: run(folded, x),
            "onnxruntime": lambda: session.run(None, {name: x}),
        }
        times: dict[str, list[float]] = {label: [] for label in candidates}
        for round_ in range(args.rounds + 1):
            for label, call in candidates.items():
                start = time.perf_counter()
                call()
                if round_:  # the first round warms up
                    times[label].append(time.perf_counter() - start)
    medians = {label: statistics.median(t) for label, t in times.items()}
    reference = next(iter(medians.values()))
    title = f"{args.network}, T = {arch.T}, {args.samples} sample(s), {args.threads} threads, median of {args.rounds}"
    table = Table("", "ms", "min", "max", "speed-up", title=title)
    for label, median in medians.items():
        low, high = min(times[label]), max(times[label])
        table.add_row(
            label,
            f"{median * 1e3:.1f}",
            f"{low * 1e3:.1f}",
            f"{high * 1e3:.1f}",
            f"{reference / median:.2f}x",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
