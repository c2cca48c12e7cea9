"""Frames do not depend on cache, threads, order or batch size; broken recordings are found before the run."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tcja_deploy.errors import DataError
from tcja_deploy.events import EventData, open_data
from tcja_deploy.events import cache as cache_module
from tcja_deploy.events import dataset as dataset_module
from tcja_deploy.events.cache import FrameCache, frame_folder
from tcja_deploy.events.loader import Loader, compact

T, SENSOR = 4, (34, 34)


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty recordings, all large enough for the cache, which is a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_module, "MIN_FILE", 0)
    for index in range(40):
        rng = np.random.default_rng(index)
        n = 500
        folder = tmp_path / "set" / str(index % 10)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / f"{index:02d}.npz", t=np.sort(rng.integers(0, 10**5, n)), x=rng.integers(0, 34, n),
            y=rng.integers(0, 34, n), p=rng.integers(0, 2, n),
        )  # fmt: skip
    return tmp_path / "set"


def open_(path: Path, **options: object) -> EventData:
    return open_data(path, timesteps=T, sensor=SENSOR, outputs=10, **options)  # type: ignore[arg-type]


def whole(data: EventData, size: int = 7) -> np.ndarray:
    return np.concatenate([frames for frames, _ in data.batches(size)], axis=1)


def test_frames_are_the_same_however_they_are_read(many: Path) -> None:
    plain = np.stack([open_(many)[index][0] for index in range(40)], axis=1)
    for size in (1, 3, 16, 64):
        np.testing.assert_array_equal(whole(open_(many), size), plain)
    for _ in range(2):  # into the cache, and out of it
        np.testing.assert_array_equal(whole(open_(many, cache=True)), plain)
    assert len(list(frame_folder().glob("??/*.npy"))) == 40
    np.testing.assert_array_equal(whole(open_(many).checked()), plain)
    shuffled = open_(many).checked()
    for index in np.random.default_rng(0).permutation(40):
        np.testing.assert_array_equal(shuffled[int(index)][0], plain[:, index])


def test_the_cache_tells_files_and_options_apart(many: Path) -> None:
    first = open_(many, cache=True)[0][0]
    assert not np.array_equal(open_(many, cache=True, split_by="time")[0][0], first)
    assert not np.array_equal(open_(many, cache=True, frame_time=1000)[0][0], first)
    assert not np.array_equal(open_(many, cache=True, resize="crop", camera=(36, 36))[0][0], first)
    files = sorted((many / "0").iterdir())
    files[0].write_bytes(files[1].read_bytes())
    changed = open_(many, cache=True)
    np.testing.assert_array_equal(changed[0][0], changed[1][0])


def test_a_damaged_or_forbidden_cache_is_no_matter(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = whole(open_(many, cache=True))
    for file in frame_folder().glob("??/*.npy"):
        file.write_bytes(b"damaged")
    np.testing.assert_array_equal(whole(open_(many, cache=True)), plain)
    monkeypatch.setenv("XDG_CACHE_HOME", str(many / "0" / "00.npz"))  # a file: nothing can be written below
    np.testing.assert_array_equal(whole(open_(many, cache=True)), plain)


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    frames = np.ones((10, 10), np.uint8)
    cache = FrameCache(tmp_path, limit=1000)
    for index in range(20):
        cache.put(str(index), frames)
    cache.trim()
    left = [index for index in range(20) if FrameCache(tmp_path).get(str(index), (10, 10)) is not None]
    assert 0 < len(left) <= 1000 // 100
    assert cache.get("19", (10, 11)) is None


def test_small_files_are_not_kept(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "MIN_FILE", cache_module.MIN_FILE)
    whole(open_(many, cache=True))
    assert not frame_folder().exists()


@pytest.mark.parametrize("memory", [0, 3000, 2**20])
@pytest.mark.parametrize("ahead", [0, 4])
def test_the_loader_gives_what_is_made(memory: int, ahead: int) -> None:
    made = [np.full((10, 10), index, np.int32) for index in range(60)]
    loader = Loader(made.__getitem__, 60, memory=memory, ahead=ahead)
    for index in [*range(60), 5, 6, 7, 3, *range(10, 30)]:
        np.testing.assert_array_equal(loader[index], made[index])


def test_compact_loses_nothing() -> None:
    for values in ([0, 255], [0, 256], [0, 70_000], [-1, 3], [0.5]):
        np.testing.assert_array_equal(compact(np.array(values)), values)
    assert compact(np.array([0, 255])).dtype == np.uint8


# -- broken recordings -------------------------------------------------------------------------------------------------------
def test_one_broken_recording_stops_the_run_before_it_begins(many: Path) -> None:
    bad = many / "3" / "13.npz"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(DataError) as caught:
        open_(many).checked()
    assert caught.value.where == str(bad)
    assert "--skip-broken" in caught.value.hint
    kept = open_(many).checked(skip_broken=True)
    assert len(kept) == 39
    assert kept.labels is not None
    assert "3/13.npz" not in kept.names
    assert any("skipped 1 of 40 recordings" in note and str(bad) in note for note in kept.notes)
    others = [index for index, name in enumerate(open_(many).names) if name != "3/13.npz"]
    np.testing.assert_array_equal(whole(kept), np.stack([open_(many)[i][0] for i in others], axis=1))
    assert kept.digest != open_(many).digest


def test_where_all_are_broken_nothing_is_skipped(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.bin").write_bytes(b"1234")
    with pytest.raises(DataError, match="not a whole number of events") as caught:
        open_(tmp_path).checked(skip_broken=True)
    assert "1 more of 2" in caught.value.reason


def _npz(path: Path, **columns: object) -> None:
    np.savez(path, **columns)  # type: ignore[arg-type]


def _bomb(path: Path) -> None:
    """A header of 8 TB over a kilobyte of zeros."""
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in "txyp":
            archive.writestr(f"{key}.npy", header.ljust(127) + b"\n" + bytes(2**20))


PLACE = np.arange(1000) % 34
GOOD = {"t": np.arange(1000), "x": PLACE, "y": PLACE, "p": PLACE % 2}
SEVENTH = 99 * (np.arange(1000) == 7)
BAD = {
    "backwards": (lambda p: _npz(p, **GOOD | {"t": GOOD["t"][::-1]}), "time runs backwards"),
    "outside": (lambda p: _npz(p, **GOOD | {"x": PLACE + SEVENTH}), "outside the sensor"),
    "negative": (lambda p: _npz(p, **GOOD | {"y": PLACE - SEVENTH}), "outside the sensor"),
    "none": (lambda p: _npz(p, t=[], x=[], y=[], p=[]), "holds no events"),
    "empty": (lambda p: p.write_bytes(b""), "NumPy"),
    "objects": (
        lambda p: np.savez(p, **GOOD | {"t": np.array([{}], object)}, allow_pickle=True),
        "object array",
    ),
    "bomb": (_bomb, "claims shape|at most"),
    "lengths": (lambda p: _npz(p, **GOOD | {"x": PLACE[1:]}), "differ in length"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_quickly_and_in_little_memory(tmp_path: Path, kind: str) -> None:
    write, reason = BAD[kind]
    write(tmp_path / "a.npz")
    code = (
        "import sys, time, resource\n"
        "from tcja_deploy.events import open_data\n"
        "from tcja_deploy.errors import DataError\n"
        "start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        f"    open_data(sys.argv[1], timesteps={T}, sensor={SENSOR}, outputs=10).checked()\n"
        "except DataError as error:\n"
        "    print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.npz")], capture_output=True, text=True, check=True
    )
    seconds, kilobytes, said = done.stdout.split(" ", 2)
    assert re.search(reason, said), said
    assert str(tmp_path / "a.npz") in said
    assert float(kilobytes) < 200 * 1024
    assert float(seconds) < 1  # of the process alone, however busy the machine is
