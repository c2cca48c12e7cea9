"""Workflows of the library that the command line calls: engines of a stream, studies of look-aheads, counting data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tcja_deploy import zoo
from tcja_deploy.energy.count.model import measure_model
from tcja_deploy.errors import DataError, VerificationError
from tcja_deploy.ir import Graph, Node
from tcja_deploy.library.streams import StreamReport
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream.study import batched, frames_of, study
from tcja_deploy.streaming import EngineName, open_engine, run_stream

T = 3


class Recordings:
    """Labelled recordings in memory, as a data set of files shows itself."""

    path = Path("memory")
    digest = "0" * 64
    class_names = None
    notes = ("made for a test",)
    framing = "none"
    whole = True

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self.frames = np.random.default_rng(0).poisson(0.4, (count, T, *shape)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        return self.frames[index], index % 2


@pytest.fixture(scope="module")
def graph() -> Graph:
    return zoo.build("events34", channels=(6, 8, 8), T=T, hidden=16)


@pytest.fixture(scope="module")
def data(graph: Graph) -> Recordings:
    return Recordings(4, graph.input_shape)


@pytest.mark.parametrize("name", ["torch", "events", "onnx", "twin"])
def test_every_engine_streams_like_its_reference(
    name: EngineName, graph: Graph, data: Recordings, tmp_path: Path
) -> None:
    engine = open_engine(name, graph, data, tmp_path, batch_size=2)
    found = run_stream(engine, data, batch_size=2)
    StreamReport.of(engine, found, {}).require_agreement()
    assert (engine.name, found.agreement.samples, found.outcome.samples) == (name, len(data), len(data))
    assert (tmp_path / "step.onnx").exists() == (name == "onnx")


def test_a_shorter_look_ahead_is_an_approximation(graph: Graph, data: Recordings, tmp_path: Path) -> None:
    engine = open_engine("torch", graph, data, tmp_path, lookahead=0)
    assert not engine.exact
    found = run_stream(engine, data)
    report = StreamReport.of(engine, found, {})
    assert not report.agreement.passed
    report.require_agreement()  # it may differ
    with pytest.raises(VerificationError, match="differs from the window form"):
        replace(report, exact=True).require_agreement()


def test_a_study_fits_on_some_recordings_and_compares_on_the_others(graph: Graph, data: Recordings) -> None:
    found = study(graph, data, fitted=True)
    assert found.fitted == ("mean", "linear")
    assert {row.samples for row in found.rows} == {len(data) // 2}
    assert {row.lookahead for row in found.rows} == set(range(T))
    for name in found.profiles:  # with all frames there, nothing is estimated
        assert next(r for r in found.rows if (r.estimate, r.lookahead) == (name, T - 1)).mismatch == 0
    least = min(found.fitted, key=lambda name: found.average(name).mismatch)
    assert found.best is found.profiles[least]


def test_a_study_needs_recordings_for_both(graph: Graph) -> None:
    with pytest.raises(DataError, match="too few recordings"):
        study(graph, Recordings(1, graph.input_shape), fitted=True)


def test_batches_hold_the_chosen_recordings(data: Recordings) -> None:
    seen: list[int] = []
    given = list(frames_of(batched(data, range(0, 4, 2), 1), seen.append, done=5))
    assert [frames.shape[:2] for frames in given] == [(T, 1), (T, 1)]
    assert np.array_equal(given[1][:, 0], data.frames[2])
    assert seen == [6, 7]


def test_counts_of_data_sets_are_those_of_the_spikes(graph: Graph, data: Recordings) -> None:
    """The counts of two data sets are the spikes of both, summed by hand."""
    counted = measure_model(graph, [data, data], batch_size=3)  # type: ignore[list-item]
    spikes: dict[str, float] = {}

    def observe(node: Node, value: object) -> None:
        spikes[node.name] = float(np.asarray(value).sum())

    run(graph, data.frames.swapaxes(0, 1), observe=observe)
    last = [node.name for node in graph.neurons][-1]
    total = counted.measured.activity.values[last].counts().sum()
    assert total == 2 * spikes[last]
    assert counted.facts["recordings"] == str(2 * len(data))
    assert counted.facts["about the data"] == "made for a test; made for a test"
