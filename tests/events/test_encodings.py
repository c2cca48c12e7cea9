"""Polarities, units of time and orders of columns are told apart from the data, for a whole data set, and said once."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcja_deploy.errors import DataError
from tcja_deploy.events import Events, open_data
from tcja_deploy.events.encoding import EncodingDetector, EventEncoding, settle
from tcja_deploy.events.formats.base import Columns

SENSOR = (5, 7)


def columns(seed: int = 0, count: int = 200, **changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 300_000, count))
    base = {
        "t": t,
        "x": rng.integers(0, 7, count),
        "y": rng.integers(0, 5, count),
        "p": rng.integers(0, 2, count),
    }
    return base | changes


def save(path: Path, **events: np.ndarray) -> None:
    """Events under names that say nothing about their encoding."""
    np.savez(
        path, **{{"t": "timestamps", "p": "polarity"}.get(key, key): value for key, value in events.items()}
    )


def open_(path: Path, **options: object):
    return open_data(path, timesteps=4, sensor=SENSOR, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored", "word"),
    [
        (lambda p: 2 * p - 1, "ON is (p > 0)"),
        (lambda p: p + 1, "ON is (p > 1)"),
        (lambda p: p.astype(bool), None),
        (lambda p: p.astype(np.float32), None),
    ],
)
def test_polarities(tmp_path: Path, stored, word: str | None) -> None:
    events = columns()
    save(tmp_path / "a.npz", **events)
    save(tmp_path / "b.npz", **events | {"p": stored(events["p"])})
    told = open_(tmp_path / "b.npz")
    np.testing.assert_array_equal(told[0][0], open_(tmp_path / "a.npz")[0][0])
    assert [note for note in told.notes if "polarities" in note] == (
        []
        if word is None
        else [f"{tmp_path / 'b.npz'}: polarities are {told.notes[0].split('polarities are ')[1]}"]
    )
    assert word is None or word in told.notes[0]


@pytest.mark.parametrize("values", [[0, 1, 2, 3], [0, 255], [-1, 0, 1], [0.5, 1]])
def test_other_polarities_are_refused(tmp_path: Path, values: list[float]) -> None:
    save(tmp_path / "a.npz", **columns(p=np.resize(values, 200)))
    with pytest.raises(DataError, match=r"polarity|'p' holds"):
        open_(tmp_path / "a.npz")[0]


def test_a_recording_of_on_events_alone_follows_the_others(tmp_path: Path) -> None:
    """Under 1/2 a recording of ones is all OFF, although by itself it looks like ON."""
    for name, p in (("a", np.ones(200)), ("b", np.resize([1, 2], 200)), ("c", np.ones(200))):
        save(tmp_path / f"{name}.npz", **columns(p=p.astype(int)))
    assert open_(tmp_path)[0][0][:, 1].sum() == 0
    assert open_(tmp_path / "a.npz")[0][0][:, 0].sum() == 0
    save(tmp_path / "d.npz", **columns(p=np.resize([0, 1], 200)))
    with pytest.raises(DataError, match="neither"):
        open_(tmp_path).checked()


@pytest.mark.parametrize(
    ("changes", "hint"),
    [({"p": np.resize([-1, 1], 200)}, r"\(p > 0\)"), ({"t": np.linspace(0, 0.3, 200)}, "microseconds")],
)
def test_the_layout_of_spikingjelly_has_one_convention(
    tmp_path: Path, changes: dict[str, np.ndarray], hint: str
) -> None:
    """Its training code would have read something else from such a file, so the file is not what it was trained on."""
    np.savez(tmp_path / "a.npz", **columns(**changes))
    with pytest.raises(DataError) as caught:
        open_(tmp_path / "a.npz")[0]
    assert re.search(hint, caught.value.hint)


@given(
    st.lists(st.integers(0, 10**6), min_size=10, max_size=50, unique=True),
    st.sampled_from([(10**6, "seconds"), (10**3, "milliseconds")]),
    st.sampled_from([np.float64, np.float32]),
)
def test_units_of_time(times: list[int], unit: tuple[int, str], kind: type) -> None:
    t = np.array([0, *sorted(times), 500_001])
    t.sort()
    stored = (t / unit[0]).astype(kind)
    detector = EncodingDetector()
    zeros = np.zeros(len(t), int)
    detector.look(Columns(stored, zeros, zeros, zeros))
    found = detector.encoding
    assert found.scale == unit[0]
    assert any(unit[1] in note for note in found.notes)
    events = settle(Columns(stored, zeros, zeros, zeros), found, where="")
    np.testing.assert_allclose(events.t, t, atol=0 if kind is np.float64 else 1 + 1e6 * 1.2e-7 * 2)


def test_whole_timestamps_are_microseconds(tmp_path: Path) -> None:
    events = columns()
    save(tmp_path / "a.npz", **events | {"t": events["t"].astype(np.float64)})
    assert open_(tmp_path / "a.npz").notes == ()
    save(tmp_path / "b.npz", **events | {"t": events["t"] / 7.0})
    with pytest.raises(DataError, match=r"not a whole number"):
        open_(tmp_path / "b.npz")[0]


def test_a_sure_convention_needs_no_data() -> None:
    assert EncodingDetector().encoding == EventEncoding()
    zeros = np.zeros(3, int)
    assert isinstance(settle(Columns(zeros, zeros, zeros, zeros), EventEncoding(), where=""), Events)
