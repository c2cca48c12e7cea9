"""Recordings on which a library in C or Rust loops, or ends its process: an error about the file, and the next file is read."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tcja_deploy.errors import DataError
from tcja_deploy.events import open_data
from tcja_deploy.events.formats import hdf5
from tcja_deploy.reading import foreign as foreign_readers
from tcja_deploy.reading.limits import Limits, limited

DAMAGED = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "damaged"


def write(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for key, column in {
            "t": np.arange(50),
            "x": np.arange(50) % 7,
            "y": np.arange(50) % 5,
            "p": np.arange(50) % 2,
        }.items():
            file[f"events/{key}"] = column


def opened(path: Path) -> np.ndarray:
    return open_data(path, timesteps=2, sensor=(5, 7))[0][0]


def test_a_file_on_which_hdf5_loops(tmp_path: Path) -> None:
    shutil.copy(DAMAGED / "loops.nir", tmp_path / "loops.h5")
    begin = time.monotonic()
    with limited(Limits(seconds=3.0)), pytest.raises(DataError):
        opened(tmp_path / "loops.h5")
    assert time.monotonic() - begin < 60
    write(tmp_path / "good.h5")
    assert opened(tmp_path / "good.h5").sum() == 50


def test_a_file_on_which_faery_ends_its_process(tmp_path: Path) -> None:
    pytest.importorskip("faery")
    with pytest.raises(DataError, match="faery crashes on this"):
        opened(DAMAGED / "aedat4-abort.aedat4")
    write(tmp_path / "good.h5")
    assert opened(tmp_path / "good.h5").sum() == 50


def test_one_process_reads_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = foreign_readers.ParserPool(hdf5.__name__ + ":worker", what="HDF5", error=DataError)
    monkeypatch.setattr(hdf5, "_READERS", pool)
    started: list[object] = []
    child = foreign_readers.Child
    monkeypatch.setattr(foreign_readers, "Child", lambda *a, **k: started.append(a) or child(*a, **k))
    for index in range(5):
        write(tmp_path / f"{index}.h5")
        assert opened(tmp_path / f"{index}.h5").sum() == 50
    assert len(started) == 1


def test_what_a_dataset_claims_is_compared_with_what_is_stored(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "claims.h5", "w") as file:
        for key in "txyp":
            file.create_dataset(f"events/{key}", shape=(2**24,), chunks=(2**10,), dtype="i8")
    with pytest.raises(DataError, match="stored bytes cannot hold"):
        opened(tmp_path / "claims.h5")
