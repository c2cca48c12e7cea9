"""Counts from bits and lists are those of the sequence runtime's dense values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_samples import Making, values

import tcja_deploy as td
from tcja_deploy.data import path
from tcja_deploy.energy.measure import measure
from tcja_deploy.errors import UsageError
from tcja_deploy.events import open_data
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.activity.collect import collect
from tcja_deploy.runtime.activity.record import Watch
from tcja_deploy.runtime.engines import choose, counting, event_driven
from tcja_deploy.runtime.events import counting_kernels
from tcja_deploy.runtime.events.values import Spikes
from tcja_deploy.runtime.events.vectors import LANES


class Stored:
    """Recordings from a window `[T, N, ...]`."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return int(self.frames.shape[1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames[:, index], None


@pytest.mark.parametrize("channels", [3, 17, 40, 64])
@pytest.mark.parametrize(("steps", "size"), [(600, 2), (3, 23), (256, 16), (255, 1)])
def test_sums_kept_in_bytes_do_not_overflow(channels: int, steps: int, size: int) -> None:
    bits = np.random.default_rng(0).random((2, size * size, steps, channels)) < 0.9
    bits[:, :, :, 0] = True
    bits[0, 0] = False
    frames = bits.transpose(2, 0, 3, 1).reshape(steps, 2, channels, size, size)
    spikes = Spikes.of(frames.astype(np.float32), 2)
    assert np.array_equal(spikes.by_channel, bits.sum(1))
    assert np.array_equal(spikes.by_place.reshape(2, -1, steps), bits.sum(3))
    counts = np.zeros((size * size, -(-channels // LANES) * LANES), np.int32)
    counting_kernels.count_neurons(0, size * size, spikes.long_words, counts)
    assert np.array_equal(counts[:, :channels], bits.sum((0, 2)))


def network(m: Making, kind: Kind) -> Graph:
    """Spikes, pools, gates, sums and lists of every kind, in numbers that are not rounded before the gate."""
    channels, height, width = m.int(1, 20), m.int(4, 7), m.int(4, 7)
    b = GraphBuilder(m.T)
    x = b.add("input", ir.Input((2, height, width), kind))
    x = b.add("conv", ir.Conv2d(m.weight(channels, 2, 3, 3), padding=(1, 1, 1, 1)), x)
    x = b.add("spikes", ir.IF(v_threshold=0.5), x)
    x = b.add("gated", ir.TCJA(cla=m.weight(m.T, m.T, 3)), x)
    x = b.add("pooled", ir.MaxPool2d((2, 2), (2, 2)), x)
    y = b.add("mean", ir.AvgPool2d((2, 2), (1, 1)), x)
    x = b.add("flat", ir.Flatten(), y)
    x = b.add("fc", ir.Linear(m.weight(5, b.signal("flat").size)), x)
    return b.finish(b.add("out", ir.IF(v_threshold=0.5), x))


@given(st.data())
@settings(max_examples=40)
def test_every_table(data: st.DataObject) -> None:
    m = Making(data.draw)
    kind = data.draw(st.sampled_from([Kind.BINARY, Kind.COUNT, Kind.GRADED]))
    graph = network(m, kind)
    watches = []
    for node in graph:
        if node.op.macs(*graph.signals_in(node), T=graph.T):
            continue
        features = node.signal.features
        maps = {}
        for i in range(m.int(0, 2)):
            extents = [n if m.int(0, 1) else 1 for n in (graph.T, *features)] if m.int(0, 2) == 0 else [
                1, 1, *(n if m.int(0, 1) else 1 for n in features[1:])
            ]  # fmt: skip
            maps[f"map{i}"] = m.rng.integers(0, 10, extents)
        binary = node.signal.kind is Kind.BINARY and node.name != "input"
        watches.append(Watch(node.name, features, graph.T, maps, binary))
    recordings = Stored(values(m.rng, kind, (m.T, 5, *graph.input_shape)))
    expected = collect(graph, recordings, watches, batch_size=2)
    names = [watch.name for watch in watches]
    windows = counting(graph, choose(graph, "events"), names)
    found = collect(graph, recordings, watches, batch_size=2, windows=windows)
    assert found.same_as(expected)


@pytest.mark.parametrize("strength", [[300.0, 300.0], [-300.0, 300.0], [300.0, 0.0], [-300.0, -300.0]])
def test_saturated_gates(strength: list[float]) -> None:
    """Gates that are 1, that are 0, and others, which change from batch to batch, on channels that do not fill a word."""
    rng, b = np.random.default_rng(0), GraphBuilder(2)
    x = b.add("input", ir.Input((1, 6, 6), Kind.BINARY))
    x = b.add("conv", ir.Conv2d(rng.integers(-2, 3, (5, 1, 3, 3)).astype(np.float32)), x)
    x = b.add("spikes", ir.IF(v_threshold=1.0), x)
    cla = np.zeros((2, 2, 1), np.float32)
    cla[0, 0], cla[1, 1] = strength
    x = b.add("gated", ir.TCJA(cla=cla), x)
    graph = b.finish(b.add("pooled", ir.MaxPool2d((2, 2), (2, 2)), x))
    frames = values(rng, Kind.BINARY, (2, 6, 1, 6, 6))
    frames[:, 2:4] = 0  # no spike: every gate of this batch is one half
    watches = [
        Watch(name, graph[name].signal.features, 2, {"fan": np.full((1, 1, size, size), 3)}, binary=False)
        for name, size in (("gated", 4), ("pooled", 2))
    ]
    expected = collect(graph, Stored(frames), watches, batch_size=2)
    windows = counting(graph, choose(graph, "events"), ["gated", "pooled"])
    assert collect(graph, Stored(frames), watches, batch_size=2, windows=windows).same_as(expected)


def test_recordings(nmnist: Path) -> None:
    """Everything that energy asks for, of real recordings: all counts equal, for any batch size."""
    graph = td.load(path("nmnist_checkpoint_max.pth"))
    recordings = open_data(nmnist / "Test", timesteps=graph.T, sensor=(34, 34), limit=20)
    folded = fold_batch_norm(graph)
    expected = measure(graph, recordings, counted=folded)
    for size in (4, 7):
        found = measure(graph, recordings, counted=folded, batch_size=size, engine="events")
        assert found.activity.same_as(expected.activity)


def test_the_choice() -> None:
    graph = td.load(path("nmnist_checkpoint_max.pth"))
    assert event_driven(graph)[1] > 0.99
    assert choose(graph).engine == "events"
    assert "sparse" in choose(graph).label
    assert choose(graph, "torch").engine == "torch"
    b = GraphBuilder(2)
    x = b.add("input", ir.Input((3, 8, 8), Kind.REAL))
    x = b.add("conv", ir.Conv2d(np.ones((4, 3, 3, 3), np.float32)), x)
    real = b.finish(b.add("spikes", ir.IF(), x))
    assert choose(real).engine == "torch"
    assert choose(real, "events").engine == "events"
    with pytest.raises(UsageError, match="--engine"):
        choose(real, "onnxruntime")
