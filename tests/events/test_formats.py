"""Every kind of file against a reader or writer that nobody here wrote."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from event_streams import streams
from format_helpers import SHAPE, equal, read, refused, some, structured
from golden_files import LARGER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcja_deploy.errors import DataError
from tcja_deploy.events import Events, make_events, open_data
from tcja_deploy.events.formats import READERS, is_recording

FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)


# -- faery ------------------------------------------------------------------------------------------------------------------
def written_by_faery(events: Events, path: Path, **options: object) -> None:
    faery = pytest.importorskip("faery")
    array = np.zeros(len(events), faery.EVENTS_DTYPE)
    array["t"], array["x"], array["y"], array["p"] = events.t, events.x, events.y, events.p == 1
    faery.events_stream_from_array(array, (7, 5)).to_file(path, zero_t0=False, **options)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("a.aedat4", None),
        ("a.raw", "evt2"),
        ("a.raw", "evt3"),
        ("a.dat", "dat2"),
        ("a.es", None),
        ("a.csv", None),
    ],
)
def test_what_faery_writes(tmp_path: Path, name: str, version: str | None) -> None:
    events = some()
    written_by_faery(events, tmp_path / name, version=version)
    found = read(tmp_path / name)
    equal(found, events)
    assert found.sensor == (5, 7)


@pytest.mark.larger_sets
def test_a_real_recording_of_a_davis() -> None:
    """As told by the README beside the file, from faery 0.7.1."""
    pytest.importorskip("faery")
    found = read(LARGER / "data" / "raw" / "sample.aedat4")
    assert len(found) == 111_954
    assert found.sensor == (240, 320)
    rows = np.stack([found.t, found.x, found.y, found.p], 1)[:3].tolist()
    first = 1_605_537_493_718_345
    assert rows == [[first, 154, 204, 0], [first + 3, 149, 206, 0], [first + 4, 148, 199, 1]]


@pytest.mark.parametrize("name", ["a.aedat4", "a.raw", "a.dat", "a.es"])
def test_a_damaged_camera_file_is_named(tmp_path: Path, name: str) -> None:
    written_by_faery(some(), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(1)
    for cut in (0, 3, len(content) // 3):
        (tmp_path / name).write_bytes(content[:cut] + rng.bytes(40 if cut > 3 else 0))
        refusal = refused(tmp_path / name)  # garbage may still be events
        assert refusal is None or refusal.where == str(tmp_path / name)


# -- arrays ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("names", ["xytp", "txyp", "xypt"])
@pytest.mark.parametrize("form", ["npy", "npz", "hdf5"])
def test_structured_arrays_of_tonic(tmp_path: Path, names: str, form: str) -> None:
    events, path = some(), tmp_path / f"a.{form}"
    array = structured(events, names)
    if form == "npy":
        np.save(path, array)
    elif form == "npz":
        np.savez(path, events=array)
    else:
        with h5py.File(path, "w") as file:
            file["events"] = array
    equal(read(path), events)


def test_cache_of_tonic(tmp_path: Path) -> None:
    cached = pytest.importorskip("tonic.cached_dataset")
    for index in range(3):
        cached.save_to_disk_cache(structured(some(seed=index)), index + 4, tmp_path / f"{index}_0.hdf5")
        events, label = cached.load_from_disk_cache(tmp_path / f"{index}_0.hdf5")
        theirs = make_events(**{key: events[key].astype(np.int64) for key in "txyp"})
        equal(read(tmp_path / f"{index}_0.hdf5"), theirs)
        assert label == index + 4
    data = open_data(tmp_path, timesteps=4, sensor=(5, 7), outputs=10)
    assert data.labels is not None
    assert data.labels.tolist() == [4, 5, 6]


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt", "tpxy"])
@pytest.mark.parametrize("form", ["npy", "npz", "h5", "txt"])
def test_rows_of_four_numbers(tmp_path: Path, order: str, form: str) -> None:
    events, path = some(), tmp_path / f"a.{form}"
    rows = np.stack([getattr(events, key) for key in order], 1)
    if form == "npy":
        np.save(path, rows)
    elif form == "npz":
        np.savez(path, rows)
    elif form == "h5":  # as v2e writes
        with h5py.File(path, "w") as file:
            file.create_dataset("events", data=rows.astype(np.uint32), compression="gzip")
    else:
        np.savetxt(path, rows, "%d")
    equal(read(path), events)


def test_rows_whose_order_cannot_be_told_are_refused_with_the_candidates(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 0, 0, 0], [1, 1, 1, 1]]))
    with pytest.raises(DataError, match=r"could be \(t, x, y, p\) or \(x, y, t, p\)"):
        read(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros((0, 4)))
    assert len(read(tmp_path / "a.npy")) == 0
    np.save(tmp_path / "a.npy", np.array([[5, 3, 9, 8], [1, 1, 4, 7]]))
    with pytest.raises(DataError, match="in no known order are the columns"):
        read(tmp_path / "a.npy")


def test_other_recordings_tell_the_order_of_one_that_does_not(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 0, 0, 0], [1, 1, 1, 1]]))
    np.save(tmp_path / "b.npy", np.array([[3, 4, 10, 0], [2, 1, 20, 1]]))
    data = open_data(tmp_path, timesteps=1, sensor=(5, 7))
    assert data[0][0][0, :, 0, 0].tolist() == [1, 0]
    assert data[0][0][0, 1, 1, 1] == 1
    assert any("columns of the events are x, y, t, p" in note for note in data.notes)


@pytest.mark.parametrize("names", ["txyp", ("ts", "xs", "ys", "ps"), ("timestamp", "x", "y", "polarity")])
def test_hdf5_by_name(tmp_path: Path, names: str | tuple[str, ...]) -> None:
    events = some()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, name in zip("txyp", names, strict=True):
            file[f"events/{name}"] = getattr(events, key)
        file["events/height"], file["events/width"] = 5, 7
        file["ms_to_idx"] = np.arange(3)
    equal(read(tmp_path / "a.h5"), events)
    assert read(tmp_path / "a.h5").sensor == (5, 7)


def test_hdf5_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for key in "txyp":
            file[f"events/{key}"] = np.arange(4) % 2
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events"] = h5py.ExternalLink("other.h5", "events")
    with pytest.raises(DataError, match="holds no events"):
        read(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for key in "txy":
            file[f"events/{key}"] = np.arange(4)
        file.create_dataset("events/p", (2**40,), "u1", chunks=(1024,))
    with pytest.raises(DataError, match="at most"):
        read(tmp_path / "b.h5")


@pytest.mark.parametrize(
    "form",
    [
        "t,x,y,p\n{t},{x},{y},{p}",
        "x y polarity timestamp\n{x} {y} {p} {t}",
        "{t} {x} {y} {p}",
        "# t;x;y;on\n{t};{x};{y};{on}",
    ],
)
def test_text(tmp_path: Path, form: str) -> None:
    events = some()
    head, row = form.split("\n") if "\n" in form else ("", form)
    rows = [
        row.format(t=t, x=x, y=y, p=p, on=bool(p))
        for t, x, y, p in zip(*(getattr(events, key).tolist() for key in "txyp"), strict=True)
    ]
    (tmp_path / "a.csv").write_text("\n".join([head, *rows] if head else rows) + "\n")
    equal(read(tmp_path / "a.csv"), events)
    assert is_recording(tmp_path / "a.csv")


def test_tables_of_labels_are_no_recordings(tmp_path: Path) -> None:
    for index, text in enumerate(
        ("name,label\na.bin,3\n", "a.bin,3\nb.bin,4\n", "class,start,end\n1,2,3\n", "", "notes\n")
    ):
        (tmp_path / f"{index}.csv").write_text(text)
        assert not is_recording(tmp_path / f"{index}.csv")


# -- frames in torch files ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
def test_frames_in_torch_files(tmp_path: Path, dtype: torch.dtype) -> None:
    frames = torch.randint(0, 9, (6, *SHAPE)).to(dtype)
    torch.save(frames[0], tmp_path / "one.pt")
    torch.save({"frames": frames, "labels": torch.arange(6)}, tmp_path / "many.pt")
    torch.save(frames, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    one, many, old = (
        open_data(tmp_path / f"{n}.pt", timesteps=4, sensor=(5, 7)) for n in ("one", "many", "old")
    )
    np.testing.assert_array_equal(one[0][0], frames[0].float().numpy())
    for data in (many, old):
        np.testing.assert_array_equal(np.stack([f for f, _ in data]), frames.float().numpy())
    assert many.labels is not None
    assert many.labels.tolist() == list(range(6))


def test_torch_files_run_no_code(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(DataError, match="no tensor of frames"):
        open_data(tmp_path / "a.pt", timesteps=4, sensor=(5, 7))
    torch.save({"weights": torch.ones(3)}, tmp_path / "b.pt")
    with pytest.raises(DataError, match="no tensor of frames"):
        open_data(tmp_path / "b.pt", timesteps=4, sensor=(5, 7))
    torch.save(torch.ones(1).expand(10**6, *SHAPE[1:]), tmp_path / "c.pt")
    with pytest.raises(DataError, match="the model takes"):
        open_data(tmp_path / "c.pt", timesteps=4, sensor=(5, 7))[0]


# -- the table ---------------------------------------------------------------------------------------------------------------
def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    events = some()
    np.savez(tmp_path / "a.npz", t=events.t, x=events.x, y=events.y, p=events.p)
    for name in ("a.bin", "a.dat", "a.aedat"):
        (tmp_path / name).write_bytes((tmp_path / "a.npz").read_bytes())
        equal(read(tmp_path / name), events)


@given(st.binary(max_size=300), st.sampled_from([suffix for reader in READERS for suffix in reader.suffixes]))
@FOLDER
def test_garbage_is_refused_or_read(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    refusal = refused(path)
    assert refusal is None or refusal.where == str(path)


@given(streams(min_size=1))
@FOLDER
def test_bin_as_tonic_reads_it(tmp_path: Path, encode_bin: Callable[[Events], bytes], events: Events) -> None:
    """Also with the marks of an overflowing clock in the row 240, as N-Caltech101 has them."""
    tonic_io = pytest.importorskip("tonic.io")
    marked = Events(events.t, events.x, np.where(events.t % 7 == 0, 240, events.y), events.p)
    (tmp_path / "a.bin").write_bytes(encode_bin(marked))
    theirs = tonic_io.read_mnist_file(tmp_path / "a.bin", np.dtype([(key, int) for key in "xytp"]))
    equal(read(tmp_path / "a.bin"), make_events(**{key: theirs[key] for key in "txyp"}))
