"""Options that several commands share."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tcja_deploy import zoo
from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    Loading,
    RecordingOptions,
    open_frames,
    shared_options,
)
from tcja_deploy.cli.targets import read_given
from tcja_deploy.cli.values import frame_shape, microseconds, sensor_size
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.runtime.synthetic import synthetic_frames


def test_fields_become_options_with_the_defaults_of_the_command() -> None:
    got: list[object] = []

    @shared_options
    def command(
        name: Annotated[str, typer.Argument()],
        how: Loading = AS_FOUND,
        which: RecordingOptions = RecordingOptions(batch_size=7),  # noqa: B008
        loud: Annotated[bool, typer.Option("--loud")] = False,
    ) -> None:
        """What it does."""
        got.extend([name, how, which, loud])

    names = list(inspect.signature(command).parameters)
    assert names == ["name", *Loading._fields, *RecordingOptions._fields, "loud"]
    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, ["a"]).exit_code == 0
    assert got == ["a", Loading(), RecordingOptions(None, "number", 7), False]
    got.clear()
    flags = ["-T", "4", "--trust-pickle", "--split-by", "time", "--batch-size", "2", "--loud", "b"]
    assert CliRunner().invoke(app, flags).exit_code == 0
    assert got == ["b", Loading(timesteps=4, trust_pickle=True), RecordingOptions(None, "time", 2), True]
    assert "What it does." in CliRunner().invoke(app, ["--help"]).output


def test_test_recordings_are_split_like_those_for_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events in one burst: split by time they lie in one frame, split by number in all."""
    graph = zoo.build("events34", T=4, channels=(4, 4, 4), hidden=16)
    burst = np.zeros(400, np.int64)
    burst[-1] = 1000
    np.savez(tmp_path / "r.npz", t=burst, x=burst * 0, y=burst * 0, p=burst * 0)
    seen: list[np.ndarray] = []
    for split_by in ("number", "time"):
        which = ALL._replace(split_by=split_by, limit=1)
        given = {"test": tmp_path / "r.npz"}
        read = read_given("lava", given, lambda target: TARGETS[target].options, graph, which)
        seen.extend(frames for frames, _ in read["test"].batches(1))
    by_number, by_time = ((frames != 0).any((1, 2, 3, 4)) for frames in seen)
    assert by_number.all()
    assert by_time.tolist() == [True, False, False, True]
    assert synthetic_frames(graph, 1).shape == seen[0].shape


@pytest.mark.parametrize(("side", "noted"), [(128, True), (40, True), (38, False), (20, False)])
def test_recordings_in_a_corner_are_noted(
    side: int, noted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corner = np.arange(20)
    np.savez(tmp_path / "r.npz", t=corner, x=corner, y=corner, p=corner * 0)
    open_frames(4, (2, side, side), tmp_path / "r.npz", ALL)
    said = capsys.readouterr()
    assert said.out == ""
    expected = f"r.npz: the events lie in 20 of {side} rows and 20 of {side} columns"
    assert (expected in said.err) == noted == bool(said.err)


@pytest.mark.parametrize(
    ("text", "time"),
    [("30ms", 30_000), ("30", 30_000), ("5000us", 5000), (".1 s", 100_000), ("0.5us", None), ("x", None)],
)
def test_durations(text: str, time: int | None) -> None:
    if time is not None:
        assert microseconds(text) == time
        return
    with pytest.raises(UsageError, match="is not a duration"):
        microseconds(text)


def test_senseless_ways_to_read(tmp_path: Path) -> None:
    corner = np.arange(20)
    np.savez(tmp_path / "r.npz", t=corner, x=corner, y=corner, p=corner * 0)
    for change, reason in (
        ({"frame_time": "3ms", "split_by": "time"}, "two ways"),
        ({"resize": "bilinear"}, "--resize 'bilinear' is unknown"),
        ({"label_order": "x"}, "--label-order 'x' is unknown"),
        ({"sensor": "12"}, "is not H,W"),
        ({"split_by": "events"}, "--split-by 'events' is unknown"),
    ):
        with pytest.raises(UsageError, match=reason):
            open_frames(4, (2, 20, 20), tmp_path / "r.npz", ALL._replace(**change))


@pytest.mark.parametrize("space", ["", *filter(str.isspace, map(chr, range(0x3001)))])
def test_white_space_of_any_kind_around_numbers(space: str) -> None:
    """`int` knows fewer kinds of it than `re`."""
    assert frame_shape(f"2{space},{space}34,34{space}") == (2, 34, 34)
    assert sensor_size(f"{space}240{space},{space}320{space}") == (240, 320)
    assert microseconds(f"{space}30{space}ms{space}") == 30_000
