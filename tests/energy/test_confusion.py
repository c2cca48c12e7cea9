"""Predictions against labels, the same however the recordings are read and run."""

from pathlib import Path

import numpy as np
import pytest

from tcja_deploy import zoo
from tcja_deploy.energy.measure import measure
from tcja_deploy.energy.render.documents import rates_document
from tcja_deploy.energy.report.confusion import confusion
from tcja_deploy.energy.report.rates import rates
from tcja_deploy.events import EventData, open_data
from tcja_deploy.runtime.activity.predicted import Outcomes
from tcja_deploy.runtime.activity.stopwatch import Stopwatch
from tcja_deploy.runtime.sequence import run


@pytest.fixture(scope="module")
def graph():
    return zoo.build("events34", T=4, channels=(4, 6, 6), hidden=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    for index in range(24):
        rng = np.random.default_rng(index)
        path = root / str(index % 10) / f"{index}.npz"
        path.parent.mkdir(exist_ok=True)
        n = 3000
        np.savez(
            path, t=np.arange(n), x=rng.integers(0, 34, n), y=rng.integers(0, 34, n), p=rng.integers(0, 2, n)
        )
    return root


def open_(folder: Path, **options: object) -> EventData:
    return open_data(folder, timesteps=4, sensor=(34, 34), outputs=10, **options)  # type: ignore[arg-type]


def test_confusion_matrix_is_that_of_scikit_learn(graph, folder: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    data = open_(folder)
    found = confusion(measure(graph, data, class_names=data.class_names).predicted)
    assert found is not None
    frames = np.stack([frames for frames, _ in data], axis=1)
    guesses = run(graph, frames).numpy().reshape(24, -1).argmax(1)
    theirs = metrics.confusion_matrix(data.labels, guesses, labels=range(10))
    assert found.matrix == tuple(map(tuple, theirs.tolist()))
    assert found.accuracy == metrics.accuracy_score(data.labels, guesses)
    assert found.classes == tuple("0123456789")
    page = rates_document(rates(measure(graph, data, class_names=data.class_names)), {}, ".html")
    assert "Confusion matrix of 24 recordings" in page


def test_counts_and_predictions_do_not_depend_on_cache_threads_order_and_batches(
    graph, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tcja_deploy.events.dataset.MIN_FILE", 0)
    first = measure(graph, open_(folder), batch_size=4)
    assert first.predicted is not None
    backwards = list(range(24))[::-1]
    plain = open_(folder)

    class Backwards:
        def __len__(self) -> int:
            return 24

        def __getitem__(self, index: int):
            return plain[backwards[index]]

    for data, size in (
        (open_(folder, cache=True), 4),
        (open_(folder, cache=True), 5),
        (open_(folder).checked(), 24),
        (plain, 1),
    ):
        other = measure(graph, data, batch_size=size)
        assert other.predicted is not None
        assert other.activity.same_as(first.activity)
        np.testing.assert_array_equal(other.predicted.classes, first.predicted.classes)
        np.testing.assert_array_equal(other.predicted.labels, first.predicted.labels)
    turned = measure(graph, Backwards(), batch_size=3)
    assert turned.predicted is not None
    np.testing.assert_array_equal(turned.predicted.classes[::-1], first.predicted.classes)
    assert rates(turned).neurons[0].per_step == rates(first).neurons[0].per_step


def test_without_labels_there_is_no_matrix(graph, folder: Path) -> None:
    found = measure(graph, open_(folder / "3"))
    assert found.predicted is not None
    assert found.predicted.labels is None
    assert confusion(found.predicted) is None
    assert "Confusion" not in rates_document(rates(found), {}, ".html")


def test_processes_add_up() -> None:
    halves = [Outcomes(4), Outcomes(4)]
    halves[0].add([0, 2], np.array([1, 0]), [1, 1])
    halves[1].add([1, 3], np.array([2, 2]), [0, 2])
    tables = [half._found for half in halves]
    found = halves[0].finish(3, None, lambda mine: tables[0] + tables[1])
    assert found.classes.tolist() == [1, 2, 0, 2]
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 1, 2]


def test_parts_inside_parts_are_counted_once() -> None:
    watch = Stopwatch()
    with watch.part("outer"):
        for _ in range(3):
            with watch.part("inner"):
                sum(range(20_000))
    assert set(watch.seconds) == {"inner", "outer"}
    assert 0 <= watch.seconds["outer"] < watch.seconds["inner"]
