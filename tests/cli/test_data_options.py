"""Options about recordings, as commands take them."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tcja_deploy import zoo
from tcja_deploy.cli import rates
from tcja_deploy.errors import DataError
from tcja_deploy.ir_file import save_graph

app = typer.Typer()
app.command()(rates.rates)


def call(*arguments: object) -> tuple[str, str]:
    """Output and notes of `rates`; errors come through as exceptions."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network of ten classes, and recordings of classes 3 and 7 in the parts of a data set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_graph(zoo.build("events34", T=4, channels=(4, 4, 4), hidden=16), tmp_path / "m.tcja")
    for part in ("Train", "Test"):
        for digit in "37":
            for index in range(3):
                rng = np.random.default_rng([index, int(digit)])
                file = tmp_path / "set" / part / digit / f"{index}.npz"
                file.parent.mkdir(parents=True, exist_ok=True)
                n = 800
                np.savez(
                    file, timestamps=np.arange(n) * 100, x=rng.integers(0, 34, n), y=rng.integers(0, 34, n),
                    polarity=2 * rng.integers(0, 2, n) - 1,
                )  # fmt: skip
    return tmp_path


def test_what_is_decided_is_said_once_and_reported(files: Path) -> None:
    out, notes = call(files / "m.tcja", "--data", files / "set", "--split", "test", "--json")
    found = json.loads(out)
    assert notes.count("takes its split Test") == 1
    assert notes.count("3 -> 3, 7 -> 7") == 1
    assert notes.count("polarities are -1 (OFF) and 1 (ON)") == 1
    assert found["confusion"]["classes"] == list("0123456789")
    assert [sum(row) for row in found["confusion"]["matrix"]] == [0, 0, 0, 3, 0, 0, 0, 3, 0, 0]
    assert found["confusion"]["right"] == sum(row[i] for i, row in enumerate(found["confusion"]["matrix"]))
    assert "3 -> 3, 7 -> 7" in found["provenance"]["about the data"]
    assert found["provenance"]["frames split by"] == "number"


def test_duration_and_size_are_in_the_report(files: Path) -> None:
    out, notes = call(
        files / "m.tcja",
        "--data",
        files / "set" / "Test",
        "--frame-time",
        "20ms",
        "--resize",
        "area",
        "--sensor",
        "40,50",
        "--json",
    )
    assert (
        json.loads(out)["provenance"]["frames split by"]
        == "duration, 20 ms per frame; resized to 34 x 34 (area)"
    )
    assert "the first 80 ms of a recording" in notes
    assert "--input-kind real" in notes  # means are not counts


def test_a_broken_recording_stops_the_command_unless_it_is_skipped(files: Path) -> None:
    bad = files / "set" / "Test" / "7" / "1.npz"
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(DataError, match="not a readable") as caught:
        call(files / "m.tcja", "--data", files / "set" / "Test")
    assert caught.value.where == str(bad)
    out, notes = call(files / "m.tcja", "--data", files / "set" / "Test", "--skip-broken", "--json")
    assert "skipped 1 of 6 recordings" in notes
    found = json.loads(out)
    assert found["recordings"] == 5
    assert "skipped 1 of 6" in found["provenance"]["about the data"]


def test_classes_that_cannot_be_told_are_not_counted(files: Path) -> None:
    for old, new in (("3", "cat"), ("7", "newt")):
        (files / "set" / "Test" / old).rename(files / "set" / "Test" / new)
    out, notes = call(files / "m.tcja", "--data", files / "set" / "Test", "--json")
    assert json.loads(out)["confusion"] is None
    assert "2 classes (cat, newt) and 10 outputs" in notes
    names = files / "names.txt"
    names.write_text("\n".join(["newt", *"abcdefgh", "cat"]))
    out, notes = call(files / "m.tcja", "--data", files / "set" / "Test", "--json", "--classes", names)
    assert "newt -> 0, cat -> 9" in notes
    assert sum(json.loads(out)["confusion"]["matrix"][9]) == 3


def test_where_the_time_goes(files: Path) -> None:
    out, _ = call(files / "m.tcja", "--data", files / "set" / "Test", "--profile-time", "--no-cache")
    for part in ("reading and integration", "the network", "opening and checking"):
        assert part in out
