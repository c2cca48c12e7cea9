"""How much of a run over recordings is spent outside the network.

    python benchmarks/recordings.py --data n-mnist/Train --model tcja_deploy/data/nmnist_checkpoint_max.pth

Opens and checks the recordings (every one is read), runs the network over them as `tcja-deploy rates` does, and prints the
seconds and the share of each part. Later rounds of --repeat read the frames from the cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tcja_deploy import load
from tcja_deploy.energy.measure import measure
from tcja_deploy.events import EventData, open_data
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.activity.stopwatch import Stopwatch


def opened(data: Path, graph, limit: int | None) -> EventData:
    channels, height, width = graph.input_shape
    outputs = graph[graph.output].signal.features[0]
    return open_data(
        data,
        timesteps=graph.T,
        sensor=(height, width),
        channels=channels,
        outputs=outputs,
        limit=limit,
        cache=True,
    ).checked()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    graph = load(arguments.model)
    for _ in range(arguments.repeat):
        watch = Stopwatch()
        with watch.part("opening, checking and decoding"):
            data = opened(arguments.data, graph, arguments.limit)
        measure(
            graph,
            data,
            counted=fold_batch_norm(graph),
            batch_size=arguments.batch_size,
            engine=arguments.engine,
            stopwatch=watch,
        )
        total = sum(watch.seconds.values())
        print(f"{len(data)} recordings, {total:.2f} s")
        for name, seconds in watch.seconds.items():
            print(f"  {name:40} {seconds:8.2f} s {100 * seconds / total:6.1f} %")


if __name__ == "__main__":
    main()
