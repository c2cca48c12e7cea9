"""Memory over a long run: 10,000 recordings through `rates` and 1,000 windows through a stream, with the slope of each.

    python benchmarks/soak.py [--recordings 10000] [--windows 1000]

The recordings are files as `rates` reads them. Prints resident memory at every tenth of the way and the slope over the second
half, in bytes per recording and per window; a leak of one array per recording shows as kilobytes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tcja_deploy import zoo
from tcja_deploy.cli.options import RecordingOptions, open_dataset
from tcja_deploy.energy.count.model import measure_model
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.stream import Stepper, initial, plan


def resident() -> int:
    """Bytes that this process holds in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def recordings(folder: Path, graph: Graph, count: int) -> None:
    """Fill a folder with recordings: a few files, NumPy's and HDF5's, under many names."""
    rng = np.random.default_rng(0)
    _, height, width = graph.input_shape
    kinds: list[Path] = []
    for i in range(20):
        n = int(rng.integers(500, 2000))
        columns: dict[str, Any] = {
            "t": np.sort(rng.integers(0, 10**5, n)),
            "x": rng.integers(0, width, n),
            "y": rng.integers(0, height, n),
            "p": rng.integers(0, 2, n),
        }
        kinds.append(folder / f"{i}.{'h5' if i % 4 == 0 else 'npz'}")
        if i % 4:
            np.savez(kinds[-1], **columns)
            continue
        with h5py.File(kinds[-1], "w") as file:
            for key, column in columns.items():
                file[f"events/{key}"] = column
    for i in range(len(kinds), count):
        source = kinds[i % len(kinds)]
        (folder / f"{i}{source.suffix}").hardlink_to(source)


class Slope:
    """Resident memory during a run, and its slope."""

    def __init__(self, what: str, count: int) -> None:
        self.what, self.count, self.points = what, count, []  # type: ignore[var-annotated]

    def at(self, i: int) -> None:
        """Measure after `i` recordings or windows, at every hundredth of the way."""
        if i * 100 // self.count > len(self.points):
            self.points.append((i, resident()))
            if len(self.points) % 10 == 0:
                print(f"{self.what} {i:6,}: {self.points[-1][1] / 1e6:8.1f} MB", flush=True)

    def tell(self) -> None:
        """Print the slope over the second half."""
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
    with tempfile.TemporaryDirectory() as folder:
        recordings(Path(folder), graph, given.recordings)
        data = open_dataset(graph, Path(folder), RecordingOptions(no_cache=True))
        slope = Slope("recording", given.recordings)
        found = measure_model(graph, [data], progress=lambda total: nullcontext(slope.at))
        slope.tell()
    kept = sum(v.table.nbytes for v in found.measured.activity.values.values()) / given.recordings
    print(f"of which counts that are kept: {kept:.0f} bytes per recording")
    network = plan(graph)
    stepper, slope = Stepper(network, initial(network, 1)), Slope("window", given.windows)
    rng = np.random.default_rng(0)
    for i in range(1, given.windows + 1):
        for frame in rng.poisson(0.05, (graph.T, 1, *graph.input_shape)).astype(np.float32):
            stepper.push(frame)
        slope.at(i)
    slope.tell()


if __name__ == "__main__":
    main()
