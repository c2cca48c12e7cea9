"""`--quiet` leaves results and errors alone; bars appear where something takes its time, and only in a terminal."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import Run
from rich.console import Console

from tcja_deploy import cli
from tcja_deploy.library import progress


def commands(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    below = getattr(found, "commands", {})
    if not below:
        yield path, found
    for name, command in below.items():
        yield from commands(command, f"{path} {name}".strip())


@pytest.mark.parametrize(("path", "command"), list(commands(typer.main.get_command(cli.app))))
def test_every_command_has_it(path: str, command: Any) -> None:
    assert "--quiet" in {name for parameter in command.params for name in parameter.opts}, path


def test_notes_go_and_results_stay(files: Path, run: Run) -> None:
    told = run("rates", files / "net.pth", "--data", files / "data.npz", "--resume")
    assert "note: nothing is kept" in told.err
    quiet = run("rates", files / "net.pth", "--data", files / "data.npz", "--resume", "--quiet")
    assert quiet.err == ""
    assert quiet.out == told.out
    again = run("rates", files / "net.pth", "--data", files / "data.npz", "--resume")
    assert again.err == told.err  # nothing of it stays for the next command


def test_notes_of_an_export(files: Path, run: Run) -> None:
    def export(*options: str) -> str:
        return run("export", files / "net.pth", "-t", "lava", "-o", "a.lava", "--force", *options).out

    told, quiet = export(), export("--quiet")
    notes = [line for line in told.splitlines() if line.startswith("note: ")]
    assert notes
    assert [line for line in told.splitlines() if line not in notes] == quiet.splitlines()


def test_errors_stay(files: Path, run: Run) -> None:
    told, quiet = (run("inspect", files / "nothing", *option) for option in ([], ["--quiet"]))
    assert quiet.err == told.err
    assert quiet.code == told.code == 3


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    found = Terminal()
    monkeypatch.setattr(progress, "Console", lambda file: Console(file=found))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_PATIENCE", 0.05)
    return found


def test_a_bar_appears_without_being_told_of_progress(terminal: Terminal) -> None:
    with progress.progress_bar("counting")(10):
        time.sleep(0.4)
    assert "counting" in terminal.getvalue()


def test_steps_are_named(terminal: Terminal) -> None:
    with progress.step_bar(4) as update:
        update("verifying", 2)
        time.sleep(0.4)
    assert "verifying" in terminal.getvalue()


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, True), (0.2, False)])
def test_no_bar(seconds: float, shown: bool, terminal: Terminal) -> None:
    with progress.progress_bar("counting", shown=shown)(10) as update:
        update(3)
        time.sleep(seconds)
    assert terminal.getvalue() == ""


def test_no_bar_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.01)
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with progress.progress_bar("counting")(10):
        time.sleep(0.1)
    assert written.getvalue() == ""
