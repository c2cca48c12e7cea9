"""Memory over a long run: 10,000 recordings through `rates` and 1,000 windows through a stream, with the slope of each.

Usage: `python benchmarks/soak.py [--recordings 10000] [--windows 1000]`. Prints resident memory every tenth of the way and
the slope over the second half, in bytes a recording and a window; a leak of one array a recording shows as kilobytes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy import zoo
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.activity.record import Recorder, Watch
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import Stepper, initial, plan


def resident() -> int:
    """Bytes that this process holds in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def frames(graph: Graph, count: int) -> Iterator[NDArray[np.float32]]:
    """Recordings one by one, `[T, 1, C, H, W]`."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.poisson(0.05, (graph.T, 1, *graph.input_shape)).astype(np.float32)


class Slope:
    """Resident memory on the way, and its slope."""

    def __init__(self, what: str, count: int) -> None:
        self.what, self.count, self.points = what, count, []  # type: ignore[var-annotated]

    def at(self, i: int) -> None:
        """Measure after `i` of them, every hundredth of the way."""
        if i % max(1, self.count // 100) == 0:
            self.points.append((i, resident()))
            if i % max(1, self.count // 10) == 0:
                print(f"{self.what} {i:6,}: {self.points[-1][1] / 1e6:8.1f} MB", flush=True)

    def tell(self) -> None:
        """The slope over the second half."""
        later = np.array(self.points[len(self.points) // 2 :], np.float64)
        slope = float(np.polyfit(later[:, 0], later[:, 1], 1)[0])
        print(f"{self.what}: {slope:+.1f} bytes each over the second half", flush=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recordings", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=1_000)
    given = parser.parse_args()
    graph = zoo.build("events34", T=5, channels=(4, 4, 4), hidden=16, classes=9)
    watches = [Watch(n.name, n.signal.features, graph.T, binary=True) for n in graph.neurons]
    recorder, slope = Recorder(watches), Slope("recording", given.recordings)
    for i, x in enumerate(frames(graph, given.recordings), start=1):
        recorder.begin([i])

        def observe(node: Any, value: Any) -> None:
            if recorder.watches(node.name):
                recorder.add(node.name, value)

        run(graph, x, observe=observe)
        slope.at(i)
    slope.tell()
    kept = sum(v.table.nbytes for v in recorder.finish().values.values()) / given.recordings
    print(f"of which counts that are kept: {kept:.0f} bytes a recording")
    network = plan(graph)
    stepper, slope = Stepper(network, initial(network, 1)), Slope("window", given.windows)
    for i, x in enumerate(frames(graph, given.windows), start=1):
        for frame in x:
            stepper.push(frame)
        slope.at(i)
    slope.tell()


if __name__ == "__main__":
    main()
