"""Ctrl-C and termination that always find the way out: through the ``finally`` blocks, and never inside an import."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["orderly_interrupts"]

_WAIT = 0.05
"""Seconds until an interrupt that came during an import is tried again."""


@contextmanager
def orderly_interrupts() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM become one ``KeyboardInterrupt``, so that nothing half-written stays behind.

    Native modules abort the process, or report a failed import, when an exception reaches them while they are being
    initialised; an interrupt during an import therefore waits until the import is done. Further ones do not disturb the
    cleaning up. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[threading.Timer] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _importing(frame):
            waiting.append(threading.Timer(_WAIT, os.kill, (os.getpid(), number)))
            waiting[-1].daemon = True
            waiting[-1].start()
            return
        for caught in before:
            signal.signal(caught, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, interrupt)
        yield
    finally:
        for timer in waiting:
            timer.cancel()
            timer.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
