"""Paths that are too long, not UTF-8, out of reach or no files: in every parameter of every command, new ones included."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from odd_paths import ODD, arguments, is_path, odd_path, parameters, permissions_hold

from tcja_deploy import errors

DOCUMENTED = {0, 2} | {
    kind.exit_code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.DeployError)
}
SECONDS = 60


class LateError(Exception):
    """Not an `OSError`, which readers expect."""


@contextmanager
def soon() -> Iterator[None]:
    """What waits for a FIFO for ever is interrupted."""

    def late(*_: Any) -> None:
        raise LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_the_parameters_are_found() -> None:
    found = parameters()
    assert {words[0] for words, _ in found} >= {"export", "inspect", "verify", "rates", "energy", "stream"}
    assert (("rates",), "data") in found
    assert (("export",), "output") in found


EVERY = parameters()
PATHS = [part for part in EVERY if is_path(*part)]


def named(part: tuple[tuple[str, ...], str]) -> str:
    return " ".join((*part[0], part[1]))


@pytest.mark.parametrize("part", PATHS, ids=named)
def test_odd_paths_end_in_a_message(part: tuple[tuple[str, ...], str], files: Path, run: Run) -> None:
    """A FIFO, which would block for ever, and one other kind: which, goes round."""
    check(part, ("fifo", ODD[PATHS.index(part) % len(ODD)]), files, run)


@pytest.mark.slow
@pytest.mark.parametrize("part", EVERY, ids=named)
def test_all_odd_paths_end_in_a_message(part: tuple[tuple[str, ...], str], files: Path, run: Run) -> None:
    check(part, ODD if part in PATHS else ("long", "bytes", "fifo", "control"), files, run)


def check(part: tuple[tuple[str, ...], str], kinds: Sequence[str], files: Path, run: Run) -> None:
    (words, name), model = part, str(files / "net.pth")
    known = {
        "model": model,
        "data": str(files / "data.npz"),
        "target": "onnx",
        "name": "asic45",
        "profile": "asic45",
    }
    for kind in dict.fromkeys(kinds):
        folder = Path(tempfile.mkdtemp(prefix="odd"))
        try:
            value = odd_path(kind, folder)
            os.chdir(folder)
            with permissions_hold(), soon() if kind in ("fifo", "device") else nullcontext():
                ran = run(*arguments(words, name, value, known))
            said = ran.out + ran.err
            assert ran.code in DOCUMENTED, (kind, ran.code, said[-2000:])
            assert "Traceback" not in said, (kind, said[-2000:])
            assert said.replace("\n", "").isprintable(), (kind, said[-2000:])
            assert f"{value}/" not in said, (kind, said[-2000:])  # the path that was given, no file in it
            assert kind != "fifo" or Path(value).is_fifo()
        finally:
            os.chdir(files)
            if (folder / "odd").is_dir():
                (folder / "odd").chmod(0o700)
            shutil.rmtree(folder)
