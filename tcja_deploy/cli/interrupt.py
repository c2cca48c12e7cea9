"""Ctrl-C and termination leave through the `finally` blocks, and never strike where an exception would be lost."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["orderly_interrupts"]

_WAIT = 0.05
"""Seconds until an interrupt that came at a bad moment is tried again."""

_IMPATIENCE = 1.0
"""Seconds in which further interrupts are taken for the same one."""


@contextmanager
def orderly_interrupts() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM become one `KeyboardInterrupt`, so that nothing half-written stays behind.

    Native modules abort the process, or report a failed import, when an exception reaches them while they are being
    initialised, and in finalisers exceptions are lost; an interrupt there waits until that is done. Further interrupts
    shortly after do not disturb the clean-up. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[threading.Timer] = []
    last = float("-inf")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last < _IMPATIENCE:
            return
        if _loses_exceptions(frame):
            waiting.append(threading.Timer(_WAIT, os.kill, (os.getpid(), number)))
            waiting[-1].daemon = True
            waiting[-1].start()
            return
        last = time.monotonic()
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


def _loses_exceptions(frame: FrameType | None) -> bool:
    """Whether an import, a finaliser or a callback of a weak reference is running."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib") or code.co_name == "__del__":
            return True
        if code.co_filename == weakref.__file__:
            return True
        frame = frame.f_back
    return False
