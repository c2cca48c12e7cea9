"""Some seconds of fuzzing for every reader, from another seed each day, and all that ever broke one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from random import Random

import pytest
from fuzz_targets import CORPUS, TARGETS, damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import content
from readers import NOT_OF_OTHERS, READERS, ROOT, reading_files
from running import ALL, Count, fuzz, one, there

SECONDS = 60.0 / len(ALL)
KINDS = {
    "pth": "checkpoint",
    "act": "activity",
    "rec": "recording",
    "nir": "nir",
    "onnx": "onnx",
    "onnxstep": "step",
    "loops": "nir",
    "segment": "segment",
    "aedat4": "aedat4",
    "frames": "frames",
    "dat": "dat",
}


@pytest.mark.parametrize("name", ALL)
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    if not there(ALL[name]):
        pytest.skip(f"{ALL[name].needs} is not installed")
    count = fuzz(ALL[name], SECONDS, tmp_path, seed=int(time.time()) // 86_400)
    assert count.violations == []
    assert count.refused + count.read > 0


def test_every_file_that_reads_has_a_target() -> None:
    assert reading_files() == READERS.keys() | NOT_OF_OTHERS
    assert {name for names in READERS.values() for name in names} <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_undamaged_files_are_read(tmp_path: Path, name: str) -> None:
    """Otherwise a target would count refusals of what it never was about; and by the files that the table of readers says."""
    if not there(ALL[name]):
        pytest.skip(f"{ALL[name].needs} is not installed")
    expected = {str(ROOT / file) for file, names in READERS.items() if name in names}
    seen: set[str] = set()
    for file in ALL[name].files:
        count = Count()
        sys.setprofile(lambda frame, *_: seen.add(frame.f_code.co_filename))
        try:
            one(ALL[name], file, content(file), tmp_path, count, "whole")
        finally:
            sys.setprofile(None)
        if not name.endswith("sealed"):  # whose files are made by the damage
            wrong = [v for v in count.violations if ": took " not in v]  # watched, and with what it imports
            assert (count.read, wrong) == (1, [])
    assert name.endswith("sealed") or expected <= seen


@pytest.mark.parametrize("file", sorted((CORPUS / "damaged").iterdir()), ids=lambda file: file.name)
def test_what_once_broke_a_reader(tmp_path: Path, file: Path) -> None:
    target, count = TARGETS[KINDS[file.stem.split("-")[0]]], Count()
    if not there(target):
        pytest.skip(f"{target.needs} is not installed")
    fuzz(target, 0, tmp_path)  # what has to be imported is not a fault of the file
    one(target, file.name, file.read_bytes(), tmp_path, count, file.name)
    assert count.violations == []


@pytest.mark.parametrize("name", ["activity", "arrays", "manifest", "profile", "tcja"])
def test_damage_by_hypothesis(tmp_path: Path, name: str) -> None:
    """The same with what hypothesis draws, so that a failing input is made as small as it can be."""

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.randoms(use_true_random=False))
    def check(rng: Random) -> None:
        count = Count()
        one(TARGETS[name], *damaged(TARGETS[name], rng), tmp_path, count, "hypothesis")
        assert count.violations == []

    check()
