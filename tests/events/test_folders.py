"""What people have on disk: roots of data sets, splits, class folders, tables of labels."""

from pathlib import Path

import numpy as np
import pytest

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events import EventData, open_data

SENSOR, T = (5, 7), 4


def put(*files: Path, frames: bool = False) -> None:
    rng = np.random.default_rng(0)
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        if frames:
            np.savez(file, frames=rng.integers(0, 3, (T, 2, *SENSOR)))
        elif file.suffix == ".npy":
            np.save(file, rng.integers(0, 3, (T, 2, *SENSOR)))
        else:
            ones = np.arange(20)
            np.savez(file, t=ones, x=ones % 7, y=ones % 5, p=ones % 2)


def open_(path: Path, **options: object) -> EventData:
    return open_data(path, timesteps=T, sensor=SENSOR, **options)  # type: ignore[arg-type]


@pytest.fixture
def gesture(tmp_path: Path) -> Path:
    """SpikingJelly's root of a data set that comes with splits."""
    for split in ("train", "test"):
        for digit in ("0", "1", "10"):
            put(tmp_path / "events_np" / split / digit / f"{split}.npz")
            put(
                tmp_path / "frames_number_4_split_by_number" / split / digit / f"{split}.npz",
                tmp_path / "frames_number_20_split_by_number" / split / digit / f"{split}.npz",
                frames=True,
            )
    (tmp_path / "download").mkdir()
    (tmp_path / "extract" / "DvsGesture").mkdir(parents=True)
    (tmp_path / "extract" / "DvsGesture" / "user01_led.aedat").write_bytes(b"#!AER-DAT3.1\r\n")
    return tmp_path


def test_root_of_a_spikingjelly_data_set_is_no_folder_of_classes(gesture: Path) -> None:
    with pytest.raises(DataError, match="root of a SpikingJelly data set") as caught:
        open_(gesture)
    assert str(gesture / "events_np" / "train") in caught.value.hint
    assert "--split train" in caught.value.hint


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_takes_the_events_and_says_so(gesture: Path, split: str) -> None:
    data = open_(gesture, split=split, outputs=11)
    assert data.names == tuple(f"events_np/{split}/{digit}/{split}.npz" for digit in ("0", "1", "10"))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2]  # '0', '1', '10', '2', ...: sorted as text
    assert any(f"takes events_np/{split}" in note for note in data.notes)


def test_without_events_the_frames_that_fit_are_taken(gesture: Path) -> None:
    (gesture / "events_np").rename(gesture / "download" / "events_np")
    assert open_(gesture, split="test").names[0].startswith("frames_number_4_split_by_number/test/0/")
    (gesture / "frames_number_4_split_by_number").rename(gesture / "frames_number_5_split_by_number")
    with pytest.raises(DataError) as caught:
        open_(gesture, split="test")
    assert "frames_number_20_split_by_number" in caught.value.hint


def test_root_without_splits(tmp_path: Path) -> None:
    put(tmp_path / "events_np" / "airplane" / "0.npz", tmp_path / "events_np" / "cat" / "0.npz")
    with pytest.raises(DataError) as caught:
        open_(tmp_path)
    assert caught.value.hint == f"give one of them, as in {tmp_path / 'events_np'}"
    with pytest.raises(UsageError, match="no split 'test'"):
        open_(tmp_path, split="test")
    assert len(open_(tmp_path / "events_np")) == 2


def test_root_before_its_preparation(tmp_path: Path) -> None:
    for name in ("download", "extract"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="before its preparation"):
        open_(tmp_path)


@pytest.mark.parametrize(
    "names", [("Train", "Test"), ("train", "val"), ("ibmGestureTrain", "ibmGestureTest")]
)
def test_splits_of_other_data_sets(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        put(tmp_path / name / "3" / f"{name}.npz")
    with pytest.raises(DataError, match="holds the splits"):
        open_(tmp_path)
    data = open_(tmp_path, split="train")
    assert data.names == (f"{names[0]}/3/{names[0]}.npz",)
    assert any(f"takes its split {names[0]}" in note for note in data.notes)
    with pytest.raises(UsageError, match="is unknown"):
        open_(tmp_path, split="all")


def test_a_data_set_inside_a_class_folder_is_found_out(tmp_path: Path) -> None:
    put(tmp_path / "N-MNIST" / "Train" / "3" / "a.npz", tmp_path / "N-MNIST" / "Test" / "3" / "a.npz")
    with pytest.raises(DataError, match="'N-MNIST' holds") as caught:
        open_(tmp_path)
    assert str(tmp_path / "N-MNIST" / "Train") in caught.value.hint


def test_caltech_beside_its_annotations(tmp_path: Path) -> None:
    put(tmp_path / "Caltech101" / "ant" / "a.npz", tmp_path / "Caltech101_annotations" / "ant" / "a.npz")
    data = open_(tmp_path, outputs=101)
    assert data.names == ("Caltech101/ant/a.npz",)
    assert data.class_names is not None
    assert data.labels is not None
    assert data.class_names[int(data.labels[0])] == "ant"
    assert data.labels.tolist() == [
        7
    ]  # BACKGROUND_Google, Faces_easy, Leopards, Motorbikes, accordion, airplanes, anchor


def test_tonic_gestures_have_their_label_in_the_file_name(tmp_path: Path) -> None:
    put(
        *(
            tmp_path / "ibmGestureTest" / user / f"{digit}.npy"
            for user in ("user24_led", "user25_lab")
            for digit in (2, 10)
        )
    )
    data = open_(tmp_path, split="test", outputs=11)
    assert data.labels is not None
    assert data.labels.tolist() == [10, 2, 10, 2]  # tonic's targets are the numbers themselves
    assert data.class_names == tuple(map(str, range(11)))


def test_tonic_gestures_count_time_in_milliseconds(tmp_path: Path) -> None:
    folder = tmp_path / "user24_led"
    folder.mkdir()
    n = 200
    rows = np.stack([np.arange(n) % 7, np.arange(n) % 5, np.arange(n) % 2, np.arange(n)], 1)  # x, y, p, t
    np.save(folder / "3.npy", rows)
    data = open_(tmp_path, frame_time=50_000)
    assert data[0][0].sum((1, 2, 3)).tolist() == [50, 50, 50, 50]
    assert any("timestamps milliseconds" in note for note in data.notes)


def test_what_a_mac_leaves_in_archives_counts_for_nothing(tmp_path: Path) -> None:
    put(tmp_path / "3" / "a.npz", tmp_path / "7" / "a.npz")
    put(
        tmp_path / "__MACOSX" / "3" / "a.npz",
        tmp_path / "3" / "__MACOSX" / "a.npz",
        tmp_path / "3" / "._a.npz",
    )
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    data = open_(tmp_path)
    assert data.names == ("3/a.npz", "7/a.npz")
    assert data.class_names == ("3", "7")


@pytest.mark.parametrize(
    "rows",
    [
        "a.npz,1\nb,0\n",
        "file;label\nb.npz;0\na.npz;1\n",
        "label,name\n1,a\n0,b\n",
        "\ufeffa.npz\t1\nb.npz\t0\nc\t2\n",
    ],
)
def test_table_of_labels(tmp_path: Path, rows: str) -> None:
    put(tmp_path / "set" / "a.npz", tmp_path / "set" / "b.npz")
    table = tmp_path / "labels.csv"
    table.write_text(rows, encoding="utf-8")
    data = open_(tmp_path / "set", labels=table, outputs=3)
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0]


def test_table_of_class_names(tmp_path: Path) -> None:
    put(tmp_path / "a.npz", tmp_path / "b.npz")
    (tmp_path / "t.csv").write_text("a.npz,ship\nb.npz,cat\n")
    data = open_(tmp_path, labels=tmp_path / "t.csv", outputs=10)
    assert data.labels is not None
    assert data.labels.tolist() == [8, 3]  # CIFAR10-DVS
    (tmp_path / "t.csv").write_text("a.npz,ship\n")
    with pytest.raises(DataError, match=r"has no label for b\.npz"):
        open_(tmp_path, labels=tmp_path / "t.csv")
    with pytest.raises(DataError, match="cannot be read as a table"):
        open_(tmp_path, labels=tmp_path / "none.csv")
    with pytest.raises(UsageError, match="apply to folders"):
        open_(tmp_path / "a.npz", labels=tmp_path / "t.csv")
