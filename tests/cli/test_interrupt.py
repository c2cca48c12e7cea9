"""Interrupts: one way out, after the import that is under way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcja_deploy.cli.interrupt import orderly_interrupts

_SLOW_MODULE = """
import time
caught = None
try:
    time.sleep(1)
except KeyboardInterrupt:
    caught = "inside the import"
"""

_PROGRAM = """
import os, signal, sys, threading, time
from tcja_deploy.cli.interrupt import orderly_interrupts
number = getattr(signal, sys.argv[1])
threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
try:
    with orderly_interrupts():
        import slow_module
        assert slow_module.caught is None, slow_module.caught
        time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_import_is_finished_first(name: str, tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(_SLOW_MODULE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, name],
        capture_output=True,
        text=True,
        env=environment,
        timeout=25,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "interrupted\n", "")


def test_cleaning_up_is_not_disturbed_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    cleaned = []

    def work() -> None:
        with orderly_interrupts():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)
                cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert cleaned
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


class _Finalised:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_a_finaliser_is_not_lost() -> None:
    def work() -> None:
        with orderly_interrupts():
            held = _Finalised()
            del held
            time.sleep(20)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - begun < 10


def test_a_later_interrupt_counts_again() -> None:
    """Where something has swallowed the first one."""
    caught = []

    def work() -> None:
        with orderly_interrupts():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                caught.append(1)
            time.sleep(1.1)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert caught
