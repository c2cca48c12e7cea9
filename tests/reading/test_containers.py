"""The readers of JSON and NumPy files, against what the formats' own libraries write and against claims that are not so."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcja_deploy.errors import DataError, FileFormatError, UsageError
from tcja_deploy.reading.archives import members
from tcja_deploy.reading.arrays import npz_headers, read_npz
from tcja_deploy.reading.json_text import check_structure, parse_json, read_json
from tcja_deploy.reading.limits import (
    Limits,
    check_bytes,
    current_limits,
    limited,
    out_of_memory_told,
    parse_limits,
)
from tcja_deploy.text import a_screen, printable

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


# -- JSON ------------------------------------------------------------------------------------------------------------------
@given(PLAIN)
def test_json_is_what_python_makes_of_it(document: Any) -> None:
    assert parse_json(json.dumps(document), object) == document


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 70 + "]" * 70,
        '{"a":' * 70 + "1" + "}" * 70,
        "[NaN]",
        "[Infinity]",
        "[1e999]",
        "[" + "9" * 5000 + "]",
        '{"a": 1, "a": 2}',
        "{",
        "",
        b"\xff\xfe{",
        "[" + "1," * (9 << 20) + "1]",
    ],
)
def test_json_that_is_refused(text: str | bytes) -> None:
    with pytest.raises(DataError) as caught:
        parse_json(text, object, where="here", error=DataError)
    assert caught.value.where == "here"
    assert len(str(caught.value)) < 300


def test_json_structures() -> None:
    structure = {"n": int, "x?": float, "of": [{"k": str}], "any": object, "map": {str: (None, [int])}}
    good = {"n": 1, "of": [{"k": "a"}, {"k": "b", "more": 1}], "any": [{}], "map": {"a": None, "b": [1, 2]}}
    assert check_structure(good, structure) is good
    changes: list[tuple[dict[str, Any], str]] = [
        ({"n": True}, "n is true or false"),
        ({"n": 1.0}, "n is a number"),
        ({"x": "1"}, "x is a text"),
        ({"of": [1]}, r"of\[0\] is"),
        ({"of": [{}]}, r"of\[0\].k is missing"),
        ({"map": {"a": 1}}, "map.a is a number"),
        ({"x": 10**400}, "x is too large"),
    ]
    for change, said in changes:
        with pytest.raises(ValueError, match=said):
            check_structure({**good, **change}, structure)
    with pytest.raises(ValueError, match="n is missing"):
        check_structure({}, structure)


def test_json_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json", {"a": int}) == {"a": 1}
    for name in ("none.json", "a" * 300, "\0"):
        with pytest.raises(FileFormatError):
            read_json(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileFormatError, match="there is no folder"):
        read_json(tmp_path / "folder")


# -- NumPy -----------------------------------------------------------------------------------------------------------------
def npy(shape: str, descr: str = "<f4", data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def pack(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_are_those_that_numpy_wrote(tmp_path: Path, compressed: bool) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "f": rng.normal(size=(3, 4)),
        "i": rng.integers(0, 9, (2, 0, 3)),
        "b": np.array(True),
        "u": np.array("text"),
        "big": np.arange(5, dtype=">i4"),
        "fortran": np.asfortranarray(rng.normal(size=(3, 5))),
    }
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", **arrays)
    read = read_npz(tmp_path / "x.npz")
    assert list(read) == list(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(read[key], array)
        assert read[key].dtype.isnative
        assert npz_headers(tmp_path / "x.npz")[key].shape == array.shape
    with pytest.raises(DataError, match="lacks other"):
        read_npz(tmp_path / "x.npz", ["other"], error=DataError)


@pytest.mark.parametrize(
    "data",
    [
        npy("(1000000000000,)", "<i8"),
        npy("(-1,)"),
        npy("(2,)", "<f4", b"1234"),
        npy("(2,)", "|O", b"12345678"),
        b"",
        b"\x93NUMPY\1\0",
        npy("((((((", "<f4"),
        npy("(2,)", "<c8", bytes(16)),
        npy("(1,)", "<f4", bytes(5)),
        npy(f"({2**80},)"),
        npy("()", "|V4", bytes(4)),
    ],
)
def test_arrays_that_are_not_what_they_claim(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FileFormatError) as caught:
        read_npz(pack(tmp_path / "x.npz", {"a.npy": data}))
    assert str(tmp_path) in str(caught.value)


def test_archives_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.npz", {"a.npy": npy("(1000,)", "<f4", bytes(4000))})
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\1\2") + 24  # the unpacked size in the list of members
    content[at : at + 4] = struct.pack("<I", 1 << 31)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="claims 2,147,483,648 bytes"):
        members(path)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.npz", {"a.npy": npy(f"({64 << 20},)", "|u1", bytes(64 << 20))})
    with (
        limited(Limits(memory=32 << 20)),
        pytest.raises(FileFormatError, match="takes 128 MB; the limit is 32 MB"),
    ):
        read_npz(path)
    assert read_npz(path)["a"].size == 64 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(FileFormatError, match="compressed in a way"):
        read_npz(pack(tmp_path / "x.npz", {"a.npy": npy("(0,)")}, method))


def test_too_many_members(tmp_path: Path) -> None:
    name, file = "a" * 60_000, io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(300):
            archive.writestr(f"{name}{i}", b"")
    (tmp_path / "x.npz").write_bytes(file.getvalue())
    with pytest.raises(FileFormatError, match="list of members is longer"):
        npz_headers(tmp_path / "x.npz")


# -- limits and text -------------------------------------------------------------------------------------------------------
def test_limits() -> None:
    assert parse_limits("16GB,300s") == Limits(16 << 30, 300.0)
    assert parse_limits("1.5mb") == Limits(3 << 19, 60.0)
    assert parse_limits(" 5s ") == Limits(4 << 30, 5.0)
    for text in ("", "GB", "-1GB", "0s", "1GB,2GB", "1e9GB", "1GB;2s", "9" * 5000 + "s"):
        with pytest.raises(UsageError):
            parse_limits(text)
    with limited(Limits(100)):
        check_bytes(100, "this")
        with pytest.raises(DataError, match="this takes 101 bytes; the limit is 100 bytes"):
            check_bytes(101, "this", error=DataError)
    assert current_limits() == Limits()
    with pytest.raises(FileFormatError, match=r"takes 2\^99 bytes and more"):
        check_bytes(2**99, "this")


def test_memory_and_stack_that_run_out() -> None:
    def deep() -> None:
        deep()

    for work, said in (
        (deep, "nested too deeply"),
        (lambda: np.zeros(1 << 60, np.uint8), "more memory than there is"),
        (lambda: __import__("torch").zeros(1 << 50), "more memory than there is"),
    ):
        with pytest.raises(FileFormatError, match=said), out_of_memory_told():
            work()
    with pytest.raises(RuntimeError, match="other"), out_of_memory_told():
        raise RuntimeError("other")


def test_what_others_wrote_is_shown_not_sent() -> None:
    shown = printable("\x1b]0;pwned\x07 a\r\nb \u202e x \udcff \x00 é 漢 😀")
    assert shown == r"\x1b]0;pwned\x07 a\r\nb \u202e x \xff \x00 é 漢 😀"
    assert "\x1b" not in str(FileFormatError("a \x1b[2J", where="x\x1b", hint="\x07"))
    assert str(FileFormatError("two\nlines")) == "two\nlines"


@given(st.text(), st.integers(0, 200), st.integers(0, 5000))
def test_messages_are_at_most_a_screen(text: str, lines: int, width: int) -> None:
    shown = a_screen("\n".join([text, *["x" * width] * lines, "  -> the advice"]))
    assert len(shown) < 8000
    assert shown.count("\n") < 40
    assert shown.endswith("  -> the advice")
    assert all(c == "\n" or c.isprintable() or c.isspace() for c in shown)
