"""Labels are those of the training code, whichever classes happen to be there."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events.classes import KNOWN, number_classes, read_classes

GESTURE = ["0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]


@given(
    st.integers(1, 120).flatmap(lambda k: st.tuples(st.just(k), st.sets(st.integers(0, k - 1), min_size=1)))
)
def test_a_part_of_the_numbers_has_the_labels_of_the_whole(drawn: tuple[int, set[int]]) -> None:
    outputs, some = drawn
    whole = sorted(map(str, range(outputs)))  # torchvision's find_classes
    found = number_classes(map(str, some), outputs=outputs)
    assert found.names == tuple(whole)
    assert found.labels == {str(value): whole.index(str(value)) for value in some}
    assert number_classes(map(str, some), outputs=outputs, order="number").labels == {str(v): v for v in some}


def test_of_eleven_gestures_ten_has_label_two() -> None:
    assert number_classes(GESTURE, outputs=11).labels["10"] == 2
    assert list(KNOWN["dvs128-gesture"]) == GESTURE


def test_numbers_from_one_and_with_leading_zeros() -> None:
    assert number_classes(["1", "3"], outputs=3, order="number").labels == {"1": 0, "3": 2}
    assert number_classes(["08", "11"], outputs=12).labels == {"08": 8, "11": 11}
    assert number_classes(["3", "7"], outputs=2).labels == {
        "3": 0,
        "7": 1,
    }  # two other numbers for two outputs
    assert number_classes(["3", "07"], outputs=10).names is None


def test_other_names_need_one_folder_an_output() -> None:
    assert number_classes(["b", "B", "a"], outputs=3).labels == {"B": 0, "a": 1, "b": 2}
    for count in (2, 4):
        found = number_classes(["b", "B", "a"], outputs=count)
        assert found.names is None
        assert f"3 classes (B, a, b) and {count} outputs" in found.reason
        assert "--classes" in found.reason


def test_known_data_sets() -> None:
    assert {name: len(names) for name, names in KNOWN.items()} == {
        "n-mnist": 10,
        "dvs128-gesture": 11,
        "cifar10-dvs": 10,
        "n-caltech101": 101,
    }
    assert all(list(names) == sorted(set(names)) for names in KNOWN.values())
    assert number_classes(["truck", "cat"], outputs=10).labels == {"cat": 3, "truck": 9}
    assert number_classes(["truck", "tree"], outputs=10).names is None


def test_cifar10_names_are_those_of_tonic() -> None:
    datasets = pytest.importorskip("tonic.datasets")
    assert datasets.CIFAR10DVS.classes == {name: i for i, name in enumerate(KNOWN["cifar10-dvs"])}


def test_a_list_gives_the_order(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("dog\n\ncat \nowl\n")
    names = read_classes(str(tmp_path / "names.txt"))
    assert names == ("dog", "cat", "owl")
    assert number_classes(["owl", "dog"], outputs=3, classes=names).labels == {"dog": 0, "owl": 2}
    with pytest.raises(UsageError, match="names 3 classes; the model has 4 outputs"):
        number_classes(["owl"], outputs=4, classes=names)
    with pytest.raises(DataError, match="'Owl' is not among the 3"):
        number_classes(["Owl"], outputs=3, classes=names)


def test_a_training_set_gives_the_order(tmp_path: Path) -> None:
    for name in ("10", "9", "__MACOSX", ".git"):
        (tmp_path / name).mkdir()
    assert read_classes(str(tmp_path)) == ("10", "9")
    assert read_classes(str(tmp_path), order="number") == ("9", "10")
    assert read_classes("n-mnist") == KNOWN["n-mnist"]


@pytest.mark.parametrize(("text", "reason"), [("a\nb\na\n", "'a' appears twice"), ("\n", "no class names")])
def test_senseless_lists(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "n.txt").write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_classes(str(tmp_path / "n.txt"))
    with pytest.raises(UsageError, match=re.escape("the known data sets are n-mnist")):
        read_classes(str(tmp_path / "none.txt"))
