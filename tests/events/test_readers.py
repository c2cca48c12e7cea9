"""Readers of single recordings, and what they refuse."""

import io
import zipfile

import numpy as np
import pytest
from event_streams import streams
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcja_deploy.errors import DataError
from tcja_deploy.events import Events, make_events, read_event_npz, read_frames, read_nmnist
from tcja_deploy.events.recording import MAX_EVENTS

SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def _equal(ours: Events, theirs: Events) -> None:
    for key in "txyp":
        np.testing.assert_array_equal(getattr(ours, key), getattr(theirs, key))


@SHARED_FOLDER
@given(
    st.lists(
        st.tuples(st.integers(0, 2**23 - 1), st.integers(0, 255), st.integers(0, 239), st.integers(0, 1))
    )
)
def test_bin_round_trip(tmp_path, encode_bin, rows):
    events = make_events(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)
    (tmp_path / "a.bin").write_bytes(encode_bin(events))
    _equal(read_nmnist(tmp_path / "a.bin"), events)


def test_bin_matches_spikingjelly(nmnist, spikingjelly_utils):
    for file in sorted((nmnist / "Test").glob("*/*.bin"))[::10]:
        theirs = spikingjelly_utils.load_ATIS_bin(file)
        _equal(read_nmnist(file), make_events(**{key: theirs[key] for key in "txyp"}))


def test_overflow_marks_are_dropped_and_move_the_clock(tmp_path, encode_bin):
    stored = make_events([8000, 0, 100, 0, 50], [1, 0, 2, 0, 3], [1, 240, 2, 240, 3], [1, 0, 0, 0, 1])
    (tmp_path / "a.bin").write_bytes(encode_bin(stored))
    _equal(read_nmnist(tmp_path / "a.bin"), make_events([8000, 8292, 16434], [1, 2, 3], [1, 2, 3], [1, 0, 1]))


def test_timestamps_running_backwards_are_kept(tmp_path, encode_bin):
    stored = make_events([500, 20], [1, 2], [1, 2], [1, 0])
    (tmp_path / "a.bin").write_bytes(encode_bin(stored))
    _equal(read_nmnist(tmp_path / "a.bin"), stored)


@pytest.mark.parametrize("size", [1, 4, 6, 5003])
def test_truncated_bin(tmp_path, size):
    (tmp_path / "a.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=f"{size} bytes are not a whole number of events") as caught:
        read_nmnist(tmp_path / "a.bin")
    assert caught.value.where == str(tmp_path / "a.bin")
    assert "truncated" in caught.value.hint


def test_oversized_bin_is_refused_by_its_size(tmp_path):
    with (tmp_path / "a.bin").open("wb") as stream:
        stream.truncate(5 * (MAX_EVENTS + 1))  # sparse: takes no room on disk
    with pytest.raises(DataError, match="at most"):
        read_nmnist(tmp_path / "a.bin")


@pytest.mark.parametrize(
    "read", [read_nmnist, read_event_npz, lambda path: read_frames(path, shape=(1, 2, 3, 3))]
)
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(DataError, match=r"(?i)no such file") as caught:
        read(tmp_path / "none.npz")
    assert caught.value.where == str(tmp_path / "none.npz")


@SHARED_FOLDER
@given(streams(), st.sampled_from(["int64", "uint32", "float64"]), st.booleans(), st.booleans())
def test_event_npz_round_trip(tmp_path, events, time_type, boolean, compressed):
    columns = {"t": events.t.astype(time_type), "x": events.x.astype("uint16"), "y": events.y.astype("uint8")}
    (np.savez_compressed if compressed else np.savez)(
        tmp_path / "a.npz", **columns, p=events.p.astype(bool if boolean else "int8")
    )
    _equal(read_event_npz(tmp_path / "a.npz"), events)


GOOD = {"t": [0, 1], "x": [0, 1], "y": [0, 1], "p": [0, 1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": [0, 1, 2]}, "differ in length"),
        ({"t": [0.5, 1]}, "0.5, which is not a whole number"),
        ({"x": [np.nan, 1]}, "nan, which is not a whole number"),
        ({"x": [[0, 1]]}, "expected one dimension"),
        ({"p": [-1, 1]}, "polarity -1 is neither"),
        ({"p": [2, 1]}, "polarity 2 is neither"),
        ({"t": np.array([2**63, 0], dtype=np.uint64)}, "beyond 2\\^62"),
        ({"t": [2**62, 0]}, "beyond 2\\^62"),
        ({"t": ["a", "b"]}, "expected whole numbers"),
        ({"t": np.array([{}, 1], dtype=object)}, "pickled object array"),
        ({"t": np.zeros(2, dtype=[("a", "i4")])}, "expected whole numbers"),
        ({"t": np.zeros(2, dtype=[("a", "i4", 2)])}, "expected numbers"),
    ],
)
def test_bad_event_columns(tmp_path, change, message):
    np.savez(tmp_path / "a.npz", **(GOOD | change), allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        read_event_npz(tmp_path / "a.npz")
    assert caught.value.where == str(tmp_path / "a.npz")


def test_missing_columns_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", t=[0], x=[0], polarity=[0])
    with pytest.raises(DataError, match=r"lacks the arrays \['y', 'p'\]; it holds \['polarity', 't', 'x'\]"):
        read_event_npz(tmp_path / "a.npz")


def _npy(header_shape: tuple[int, ...], data: bytes = b"", descr: str = "<i8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": descr, "fortran_order": False, "shape": header_shape}
    )
    return stream.getvalue() + data


@pytest.mark.parametrize("shape", [(10**12,), (2**62, 2**62), (-1,), (2**25 + 1,)])
def test_a_forged_shape_is_refused_before_allocation(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for key in "txyp":
            archive.writestr(f"{key}.npy", _npy(shape, bytes(16)))
    (tmp_path / "a.npy").write_bytes(_npy(shape, bytes(16)))
    with pytest.raises(DataError, match="truncated or its header was tampered with"):
        read_event_npz(tmp_path / "a.npz")
    with pytest.raises(DataError, match="truncated or its header was tampered with"):
        read_frames(tmp_path / "a.npy", shape=(1, 2, 3, 3))


def test_too_many_events_are_refused_by_the_header(tmp_path):
    many = np.zeros(MAX_EVENTS + 1, dtype=bool)
    np.savez_compressed(tmp_path / "a.npz", t=many, x=[0], y=[0], p=[0])
    with pytest.raises(DataError, match=f"at most {MAX_EVENTS}"):
        read_event_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("damage", "position"), [*(("cut", p) for p in (0, 3, 40, 100, -60, -5)), ("flip", 100)]
)
def test_damaged_npz(tmp_path, position, damage):
    good = io.BytesIO()
    np.savez_compressed(good, t=np.arange(300), x=np.ones(300, int), y=np.ones(300, int), p=np.ones(300, int))
    raw = bytearray(good.getvalue())
    if damage == "cut":
        raw = raw[:position]
    else:
        raw[position] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(DataError, match="not a readable NumPy file") as caught:
        read_event_npz(tmp_path / "a.npz")
    assert caught.value.where == str(tmp_path / "a.npz")


@SHARED_FOLDER
@given(st.binary(max_size=400), st.sampled_from(["", "PK\x03\x04", "\x93NUMPY\x01\x00", "\x93NUMPY\x02\x00"]))
def test_any_bytes_give_a_data_error(tmp_path, noise, magic):
    for name in ("a.npz", "a.npy"):
        (tmp_path / name).write_bytes(magic.encode("latin-1") + noise)
        with pytest.raises(DataError):
            read_frames(tmp_path / name, shape=(2, 2, 3, 3))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float32", "float64", "bool"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_frames_round_trip(tmp_path, dtype, suffix):
    frames = np.random.default_rng(0).integers(0, 200, (4, 2, 5, 7)).astype(dtype)
    file = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(file, frames)
    else:
        np.savez(file, frames=frames)
    read = read_frames(file, shape=(4, 2, 5, 7))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, frames)


def test_frames_written_by_spikingjelly(tmp_path, nmnist, spikingjelly_utils):
    file = next(iter(sorted((nmnist / "Test").glob("3/*.bin"))))
    spikingjelly_utils.integrate_events_file_to_frames_file_by_fixed_frames_number(
        spikingjelly_utils.load_ATIS_bin, file, str(tmp_path), "number", 10, 34, 34
    )
    (written,) = tmp_path.iterdir()
    theirs = spikingjelly_utils.load_npz_frames(written)
    np.testing.assert_array_equal(read_frames(written, shape=(10, 2, 34, 34)), theirs)


@pytest.mark.parametrize("shape", [(5, 2, 5, 7), (4, 1, 5, 7), (4, 2, 7, 5), (4, 2, 5)])
def test_frames_of_another_shape(tmp_path, shape):
    np.savez(tmp_path / "a.npz", frames=np.zeros(shape))
    with pytest.raises(DataError, match=r"the model takes \[T, C, H, W\] = \[4, 2, 5, 7\]"):
        read_frames(tmp_path / "a.npz", shape=(4, 2, 5, 7))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 2**24 + 1])
def test_frames_that_float32_cannot_hold(tmp_path, value):
    np.save(tmp_path / "a.npy", np.full((1, 2, 1, 1), value))
    with pytest.raises(DataError, match="float32"):
        read_frames(tmp_path / "a.npy", shape=(1, 2, 1, 1))


def test_pickled_frames_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled object array") as caught:
        read_frames(tmp_path / "a.npy", shape=(1, 2, 1, 1))
    assert "runs code" in caught.value.hint
