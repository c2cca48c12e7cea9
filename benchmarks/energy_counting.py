"""What counting everything costs: inference with and without, by both engines, compared with SpikingJelly and its counters.

    python benchmarks/energy_counting.py [--network events34] [--checkpoint FILE --data FOLDER] [--recordings 16] [--batch 4]
        [--rounds 5] [--threads 2] [--json energy_counting.json]

Keys with --json, median seconds per recording: plain and counts (the event engine), sequence and sequence_counts (torch),
spikingjelly and spikingjelly_counters (its SynOp, AC and MAC counters together); network, recordings, batch, threads,
machine, commit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from networks import build_network, parser
from spikingjelly.activation_based import functional, op_counter
from turns import save, show, turn_by_turn

from tcja_deploy import zoo
from tcja_deploy.energy.measure import measure
from tcja_deploy.events import open_data
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.events.engine import run_plan
from tcja_deploy.runtime.events.plan import compile_graph
from tcja_deploy.runtime.sequence import run
from tcja_deploy.zoo.modules import to_module


class Stored:
    """Recordings in memory."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames[index], None


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, network="events34", rounds=5, threads=2)
    options.add_argument("--data", type=Path)
    options.add_argument("--recordings", type=int, default=16)
    options.add_argument("--batch", type=int, default=4)
    args = options.parse_args()
    arch, state = build_network(args)
    graph = zoo.to_graph(arch, state)
    if args.data:
        height, width = graph.input_shape[1:]
        data = open_data(args.data, timesteps=graph.T, sensor=(height, width), limit=args.recordings)
        frames = np.stack([data[i][0] for i in range(len(data))])
    else:
        rng = np.random.default_rng(0)
        frames = rng.poisson(0.083, (args.recordings, graph.T, *graph.input_shape)).astype(np.float32)
    stored = Stored(frames)
    groups = [range(i, min(i + args.batch, len(frames))) for i in range(0, len(frames), args.batch)]
    counted, net = fold_batch_norm(graph), to_module(arch, state)

    def batches() -> list[np.ndarray]:
        """Batches gathered as counting gathers them, so that plain inference takes that time as well."""
        return [np.stack([stored[i][0] for i in group], axis=1) for group in groups]

    def plain() -> None:
        """Folds and compiles the network once, as counting does."""
        plan = compile_graph(fold_batch_norm(graph))
        for batch in batches():
            run_plan(plan, batch)

    def spikingjelly() -> None:
        with torch.inference_mode():
            for batch in batches():
                functional.reset_net(net)
                net(torch.from_numpy(batch))

    def counters() -> None:
        kinds = ("SynOpCounter", "ACCounter", "MACCounter")
        with op_counter.DispatchCounterMode([getattr(op_counter, kind)() for kind in kinds]):
            spikingjelly()

    ways = {
        "plain": plain,
        "counts": lambda: measure(graph, stored, counted=counted, batch_size=args.batch, engine="events"),
        "sequence": lambda: [run(graph, batch) for batch in batches()],
        "sequence_counts": lambda: measure(
            graph, stored, counted=counted, batch_size=args.batch, engine="torch"
        ),
        "spikingjelly": spikingjelly,
        "spikingjelly_counters": counters,
    }
    title = (
        f"{arch.name}, {len(frames)} recordings, batches of {args.batch}, {args.threads} threads, a recording"
    )
    medians = show(title, turn_by_turn(ways, args.rounds), "plain", len(frames))
    print(f"all counts over plain inference of the event engine: {medians['counts'] / medians['plain']:.3f}x")
    facts = {"network": arch.name, "recordings": len(frames), "batch": args.batch, "threads": args.threads}
    save(args.json, "energy_counting", medians, **facts)


if __name__ == "__main__":
    main()
