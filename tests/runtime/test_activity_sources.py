"""The same recorder fed by the sequence runtime, by the stream frame by frame, and by the integer twin."""

from __future__ import annotations

import numpy as np
from integer_nets import random_frames, random_network

from tcja_deploy import zoo
from tcja_deploy.runtime.activity.measures import Measure
from tcja_deploy.runtime.activity.record import Recorder, Watch
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import stream
from tcja_deploy.runtime.synthetic import synthetic_frames


def test_the_stream_counts_what_the_sequence_counts() -> None:
    graph = zoo.build("events34", channels=(4, 6, 6), T=5, hidden=16)
    watches = [Watch(n.name, n.signal.features, graph.T, {}, binary=True) for n in graph.neurons]
    frames = synthetic_frames(graph, 3, seed=2)
    by_sequence, by_stream = Recorder(watches), Recorder(watches)
    by_sequence.begin(range(3))
    run(
        graph,
        frames,
        observe=lambda node, x: by_sequence.watches(node.name) and by_sequence.add(node.name, x),
    )
    by_stream.begin(range(3))
    stepper = stream(graph, samples=3)
    for frame in frames:
        stepper.push(frame, observe=lambda name, index, x: by_stream.add(name, x[None], index))
    expected = by_sequence.finish()
    assert by_stream.finish().same_as(expected)
    assert all(v.counts().sum() > 0 for v in expected.values.values())


def test_the_twin_is_counted_as_it_counts_itself() -> None:
    network = random_network(3, gates=1, binary=False)
    frames = random_frames(network, 4, seed=1)
    done = Twin(network).run(frames, [stage.name for stage in network.stages])
    recorder = Recorder([Watch(s.name, s.out_shape, network.frames) for s in network.stages])
    recorder.begin(range(4))
    for name, values in done.recorded.items():
        recorder.add(name, values)
    found = recorder.finish()
    assert any(counts.spikes for counts in done.counts.values())
    for name, counts in done.counts.items():
        assert found[name].counts().sum() == counts.spikes
        assert found[name].counts(Measure.PAYLOAD).sum() == np.abs(done.recorded[name].astype(np.int64)).sum()
