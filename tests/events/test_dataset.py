"""Data sets: what is recognised, in which order, with which labels, and in bounded memory."""

import os
import shutil
import tracemalloc

import numpy as np
import pytest
from golden_files import count_recordings

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events import integrate, make_events, open_data, read_nmnist

SENSOR = (5, 7)
T = 4


@pytest.fixture
def some_events():
    def make(seed: int, size: int = 60):
        rng = np.random.default_rng(seed)
        t = np.sort(rng.integers(0, 10_000, size))
        return make_events(t, rng.integers(0, 7, size), rng.integers(0, 5, size), rng.integers(0, 2, size))

    return make


def _open(path, **changes):
    return open_data(path, **({"timesteps": T, "sensor": SENSOR} | changes))


def _save(path, events):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, t=events.t, x=events.x, y=events.y, p=events.p)


@pytest.fixture
def folder(tmp_path, some_events, encode_bin):
    """Classes '10', '2' and an empty 'a'; nested, hidden and foreign files; both kinds of event file."""
    root = tmp_path / "set"
    _save(root / "2" / "b.npz", some_events(2))
    _save(root / "2" / "a.npz", some_events(1))
    _save(root / "10" / "deep" / "er" / "z.npz", some_events(3))
    (root / "10" / "c.bin").write_bytes(encode_bin(some_events(4)))
    (root / "a").mkdir()
    (root / "10" / ".hidden.bin").write_bytes(b"x")
    (root / "10" / "notes.txt").write_text("x")
    (root / "readme.md").write_text("x")
    return root


def test_folder_order_labels_and_frames(folder, some_events):
    data = _open(folder)
    assert data.names == ("10/c.bin", "10/deep/er/z.npz", "2/a.npz", "2/b.npz")
    assert data.class_names == ("10", "2")  # 'a' holds no recording
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert len(data) == 4
    for index, seed in enumerate([4, 3, 1, 2]):
        frames, label = data[index]
        assert frames.dtype == np.float32
        assert label == data.labels[index]
        np.testing.assert_array_equal(frames, integrate(some_events(seed), timesteps=T, sensor=SENSOR))


def test_labels_match_torchvision(folder):
    datasets = pytest.importorskip("torchvision.datasets")
    (folder / "a").rmdir()
    theirs = datasets.DatasetFolder(folder, loader=None, extensions=(".npz",))
    ours = _open(folder)
    assert list(ours.class_names) == theirs.classes
    assert {
        name: label for name, label in zip(ours.names, ours.labels, strict=True) if name.endswith("npz")
    } == {os.path.relpath(file, folder): label for file, label in theirs.samples}


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_batches_hold_every_recording_once(folder, size):
    data = _open(folder)
    frames, labels = zip(*data.batches(size), strict=True)
    assert [part.shape[1] for part in frames] == [min(size, 4 - start) for start in range(0, 4, size)]
    whole = np.concatenate(frames, axis=1)
    assert whole.shape == (T, 4, 2, *SENSOR)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, np.stack([data[index][0] for index in range(4)], axis=1))
    np.testing.assert_array_equal(np.concatenate(labels), data.labels)


def test_iterating_and_negative_indices(folder):
    data = _open(folder)
    assert [label for _, label in data] == [0, 0, 1, 1]
    np.testing.assert_array_equal(data[-1][0], data[3][0])
    with pytest.raises(IndexError):
        data[4]


@pytest.mark.parametrize(("limit", "names"), [(1, "c"), (2, "ca"), (3, "cza"), (4, "czab"), (99, "czab")])
def test_limit_spreads_over_the_set(folder, limit, names):
    data = _open(folder, limit=limit)
    assert "".join(name.split("/")[-1][0] for name in data.names) == names
    np.testing.assert_array_equal(data[-1][0], _open(folder)[_open(folder).names.index(data.names[-1])][0])
    assert len(data) == len(data.labels) == len(names)


def test_split_by_reaches_the_integration(folder, some_events):
    data = _open(folder, split_by="time")
    np.testing.assert_array_equal(
        data[2][0], integrate(some_events(1), timesteps=T, sensor=SENSOR, split_by="time")
    )


def test_folder_without_classes(folder):
    data = _open(folder / "2")
    assert data.names == ("a.npz", "b.npz")
    assert data.labels is None
    assert data.class_names is None
    assert data[0][1] is None
    assert next(data.batches(2))[1] is None


def test_single_files(folder, some_events):
    for name, seed in (("10/c.bin", 4), ("2/a.npz", 1)):
        data = _open(folder / name)
        assert len(data) == 1
        assert data.labels is None
        np.testing.assert_array_equal(data[0][0], integrate(some_events(seed), timesteps=T, sensor=SENSOR))


@pytest.fixture
def stack():
    return np.random.default_rng(0).integers(0, 9, (6, T, 2, *SENSOR)).astype(np.uint8)


@pytest.mark.parametrize("form", ["npy", "npz", "labelled"])
def test_stack_of_frames(tmp_path, stack, form):
    file = tmp_path / ("a.npy" if form == "npy" else "a.npz")
    if form == "npy":
        np.save(file, stack)
    else:
        np.savez(file, frames=stack, **({"labels": np.arange(6) % 3} if form == "labelled" else {}))
    data = _open(file)
    assert data.names == tuple(f"{file.name}[{index}]" for index in range(6))
    np.testing.assert_array_equal(np.stack([frames for frames, _ in data]), stack)
    assert (data.labels.tolist() if form == "labelled" else data.labels) == (
        [0, 1, 2, 0, 1, 2] if form == "labelled" else None
    )


def test_one_recording_of_frames(tmp_path, stack):
    np.save(tmp_path / "a.npy", stack[0])
    np.savez(tmp_path / "a.npz", frames=stack[1])
    np.testing.assert_array_equal(_open(tmp_path / "a.npy")[0][0], stack[0])
    np.testing.assert_array_equal(_open(tmp_path / "a.npz")[0][0], stack[1])
    assert len(_open(tmp_path)) == 2


def test_other_channel_counts_are_frames_only(tmp_path, stack, folder):
    np.save(tmp_path / "grey.npy", stack[:, :, :1])
    assert _open(tmp_path / "grey.npy", channels=1)[0][0].shape == (T, 1, *SENSOR)
    with pytest.raises(DataError, match="the model takes 1"):
        _open(folder, channels=1)[0]


def _packed(path, recordings, **changes):
    arrays = {key: np.concatenate([getattr(one, key) for one in recordings]) for key in "txyp"}
    arrays["offsets"] = np.cumsum([0, *map(len, recordings)])
    arrays["labels"] = np.arange(len(recordings)) % 2
    arrays |= changes
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})


def test_packed_events(tmp_path, some_events):
    recordings = [some_events(seed, 20 + seed) for seed in range(5)]
    _packed(tmp_path / "a.npz", recordings)
    data = _open(tmp_path / "a.npz", limit=3)
    assert data.names == ("a.npz[0]", "a.npz[1]", "a.npz[3]")
    assert data.labels.tolist() == [0, 1, 1]
    for (frames, _), seed in zip(data, (0, 1, 3), strict=True):
        np.testing.assert_array_equal(frames, integrate(recordings[seed], timesteps=T, sensor=SENSOR))
    _packed(tmp_path / "b.npz", recordings, labels=None)
    assert _open(tmp_path / "b.npz").labels is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": [0, 20, 10, 41]}, "must rise from 0 to the 41 events"),
        ({"offsets": [0, 20, 40]}, "must rise"),
        ({"offsets": [1, 20, 41]}, "must rise"),
        ({"offsets": [0]}, "must rise"),
        ({"offsets": [[0, 41]]}, "expected integers in one dimension"),
        ({"offsets": [0.0, 41.0]}, "expected integers in one dimension"),
        ({"offsets": [0] * (2**20 + 1) + [41]}, "holds 1,048,577 recordings; at most 1,048,576 are read"),
        ({"labels": [0, 1, 1]}, "expected 2 class indices"),
        ({"labels": [0, -1]}, "expected 2 class indices"),
        ({"x": None}, "lacks the arrays"),
    ],
)
def test_bad_packed_events(tmp_path, some_events, changes, message):
    _packed(tmp_path / "a.npz", [some_events(0, 20), some_events(1, 21)], **changes)
    with pytest.raises(DataError, match=message) as caught:
        _open(tmp_path / "a.npz")
    assert caught.value.where == str(tmp_path / "a.npz")


def test_packed_events_in_a_folder_are_refused(tmp_path, some_events):
    _packed(tmp_path / "a.npz", [some_events(0)])
    with pytest.raises(DataError, match="holds many recordings"):
        _open(tmp_path)[0]


def test_stack_errors_name_the_recording(tmp_path, stack):
    frames = stack.astype(np.float32)
    frames[3, 0, 0, 0, 0] = np.nan
    np.save(tmp_path / "a.npy", frames)
    data = _open(tmp_path / "a.npy")
    assert data[2][0].shape == (T, 2, *SENSOR)
    with pytest.raises(DataError, match="not finite") as caught:
        data[3]
    assert caught.value.where == f"{tmp_path / 'a.npy'}[3]"
    with pytest.raises(DataError, match=r"\[N, T, C, H, W\] = \[N, 5, 2, 5, 7\]"):
        _open(tmp_path / "a.npy", timesteps=5)


def test_a_stack_that_unpacks_too_far_is_refused_by_its_header(tmp_path, monkeypatch, stack):
    """With the limit lowered: a file of four GiB would be slow to make."""
    np.savez_compressed(tmp_path / "a.npz", frames=stack)
    monkeypatch.setattr("tcja_deploy.events.formats.packed._MAX_UNPACKED", stack.nbytes)
    assert len(_open(tmp_path / "a.npz")) == 6
    monkeypatch.setattr("tcja_deploy.events.formats.packed._MAX_UNPACKED", stack.nbytes - 1)
    with pytest.raises(DataError, match=f"unpacks to {stack.nbytes} bytes") as caught:
        _open(tmp_path / "a.npz")
    assert ".npy" in caught.value.hint


@pytest.mark.parametrize("unreadable", ["", "2"])
def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch, unreadable):
    """Recordings must not go missing in silence. (File modes do not stop a test that runs as root.)"""
    scandir, listdir = os.scandir, os.listdir

    def guarded(function):
        def call(path="."):
            if str(path) == str(folder / unreadable):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path)

        return call

    monkeypatch.setattr(os, "scandir", guarded(scandir))
    monkeypatch.setattr(os, "listdir", guarded(listdir))
    with pytest.raises(DataError, match="cannot be listed: Permission denied") as caught:
        _open(folder)
    assert caught.value.where == str(folder / unreadable)


def test_event_outside_names_the_file(folder):
    with pytest.raises(DataError, match=r"at x = \d, y = 4") as caught:
        _open(folder, sensor=(4, 7))[0]
    assert caught.value.where == str(folder / "10" / "c.bin")


def test_an_empty_recording_is_refused(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(DataError, match="holds no events") as caught:
        _open(tmp_path)[0]
    assert caught.value.where == str(tmp_path / "a.bin")


def test_nothing_to_read(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "classes" / "a").mkdir(parents=True)
    (tmp_path / "a.xyz").write_bytes(b"x")
    for name, message in (
        ("empty", "no recordings"),
        ("classes", "no recordings"),
        ("none", "no such file"),
        ("a.xyz", "unknown kind"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            _open(tmp_path / name)
        assert caught.value.where == str(tmp_path / name)
        assert ".bin" in caught.value.hint
    shutil.copy(folder / "2" / "a.npz", folder / "loose.npz")
    with pytest.raises(DataError, match="both class folders"):
        _open(folder)


def test_splits_are_not_classes(folder):
    (folder.parent / "both").mkdir()
    folder.rename(folder.parent / "both" / "Test")
    with pytest.raises(DataError, match=r"holds the splits \['Test'\]") as caught:
        _open(folder.parent / "both")
    assert "Test" in caught.value.hint


@pytest.mark.parametrize(
    "wrong", [{"timesteps": 0}, {"sensor": (0, 1)}, {"channels": 0}, {"split_by": "x"}, {"limit": 0}]
)
def test_senseless_arguments(folder, wrong):
    with pytest.raises(UsageError):
        _open(folder, **wrong)


def test_senseless_batch_size(folder):
    with pytest.raises(UsageError):
        _open(folder).batches(0)


def test_digest(folder, tmp_path):
    whole = _open(folder).digest
    shutil.copytree(folder, tmp_path / "moved")
    assert _open(tmp_path / "moved").digest == whole
    assert _open(folder, limit=2).digest != whole
    assert len({whole, _open(folder / "2").digest, _open(folder / "2" / "a.npz").digest}) == 3
    file = tmp_path / "moved" / "2" / "a.npz"
    content = bytearray(file.read_bytes())
    content[-30] ^= 1
    file.write_bytes(content)
    assert _open(tmp_path / "moved").digest != whole


def test_a_large_stack_is_read_piece_by_piece(tmp_path):
    shape = (400, T, 2, 60, 60)  # 46 MB as float32
    frames = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.float32, shape=shape)
    frames[:] = 1.0
    frames.flush()
    del frames
    data = _open(tmp_path / "a.npy", sensor=(60, 60))
    tracemalloc.start()
    total = sum(float(batch.sum()) for batch, _ in data.batches(4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == np.prod(shape)
    assert peak < 4e6  # two batches of four are 0.9 MB


def test_nmnist(nmnist):
    data = open_data(nmnist / "Test", timesteps=10, sensor=(34, 34))
    assert len(data) == count_recordings(nmnist / "Test") > 0
    assert data.class_names == tuple("0123456789")
    assert np.bincount(data.labels).tolist() == [
        len(list((nmnist / "Test" / digit).glob("*.bin"))) for digit in "0123456789"
    ]
    for index in range(0, len(data), max(1, len(data) // 4)):
        assert data[index][0].sum() == len(read_nmnist(nmnist / "Test" / data.names[index]))
