"""Zip archives of weights as torch and other programs write them: packed, without checksums, of many records, damaged."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.limits import Limits, limited
from tcja_deploy.torch_file.read import read_weights

X = torch.arange(5000.0).reshape(50, 100)


def repacked(source: Path, path: Path, method: int) -> Path:
    """An archive packed anew, as programs that are not torch do."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w", method) as out:
        for name in archive.namelist():
            out.writestr(name, archive.read(name))
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save({"w": X, "t": X.T, "half": X.bfloat16(), "none": X[:0]}, tmp_path / "saved")
    return tmp_path / "saved"


def test_packed_records_are_read_as_torch_reads_them(saved: Path, tmp_path: Path) -> None:
    path = repacked(saved, tmp_path / "packed", zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < saved.stat().st_size
    for key, expected in torch.load(path, weights_only=True).items():
        tensor = read_weights(path)[key]
        for read in (tensor.array, tensor.mapped):
            assert np.array_equal(read(), expected.float().numpy()), key


def test_records_without_checksums(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": X}, tmp_path / "c")
    finally:
        torch.serialization.set_crc32_options(before)
    assert np.array_equal(read_weights(tmp_path / "c")["w"].array(), X.numpy())


def test_other_packing_is_refused_and_the_hint_works(saved: Path, tmp_path: Path) -> None:
    path = repacked(saved, tmp_path / "packed", zipfile.ZIP_BZIP2)
    with pytest.raises(FileFormatError, match="another method than deflate") as caught:
        read_weights(path)
    assert "pack it again without compression" in caught.value.hint
    again = repacked(path, tmp_path / "again", zipfile.ZIP_STORED)
    assert np.array_equal(read_weights(again)["w"].array(), X.numpy())


def zeros(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(1 << 20)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    torch.save({"w": X}, tmp_path / "c")
    for record in ("data.pkl", "data/0"):
        with (
            zipfile.ZipFile(tmp_path / "c") as archive,
            zipfile.ZipFile(tmp_path / "z", "w", zipfile.ZIP_DEFLATED) as out,
        ):
            for name in archive.namelist():
                with out.open(name, "w") as stream:
                    for block in zeros(300) if name.endswith(record) else [archive.read(name)]:
                        stream.write(block)
        begun = time.monotonic()
        with limited(Limits(memory=1 << 28)), pytest.raises(FileFormatError, match=r"takes .* bytes|limit"):
            read_weights(tmp_path / "z")["w"].array()
        assert time.monotonic() - begun < 5


def claims(size: int) -> Any:
    """The size that the list of records claims of each record, unpacked."""

    def change(data: bytes) -> bytes:
        content, at = bytearray(data), data.find(b"PK\1\2")
        while at >= 0:
            content[at + 24 : at + 28] = size.to_bytes(4, "little")
            at = data.find(b"PK\1\2", at + 1)
        return bytes(content)

    return change


def blank(data: bytes) -> bytes:
    """Some bytes of the first storage are zeros."""
    at = data.index(b"data/0") + 2000
    return data[:at] + bytes(300) + data[at + 300 :]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("damage", [claims(2**32 - 2), claims(3), claims(0), blank])
def test_damaged_records(saved: Path, tmp_path: Path, method: int, damage: Any) -> None:
    path = repacked(saved, tmp_path / "z", method)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError):
        read_weights(path)["w"].array()


def test_time_grows_with_the_number_of_tensors_not_with_its_square(tmp_path: Path) -> None:
    """Each is read from its place, without the archive's list being read again."""
    seconds = []
    for count in (300, 3000):
        torch.save({str(i): torch.ones(1) for i in range(count)}, tmp_path / "c")
        begun = time.process_time()
        found = read_weights(tmp_path / "c")
        for tensor in found.values():
            tensor.array()
        seconds.append(time.process_time() - begun)
    assert seconds[1] < 40 * seconds[0] + 0.5
