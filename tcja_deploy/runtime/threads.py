"""Threads: as many as this process may really use, asleep when there is nothing to do.

This module imports nothing heavy, because its settings must be made before torch starts threads of its own.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["available_cores", "beside", "importing", "share", "share_the_machine"]

_PIECES = 8
"""Pieces of work per thread, so that one that is held up does not keep the others waiting."""


def available_cores() -> int:
    """Cores that this process may use: its affinity, the quota of its control group, and `OMP_NUM_THREADS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    if quota is not None:
        cores = min(cores, max(1, math.floor(quota)))
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores


def share_the_machine() -> None:
    """Tell libraries not loaded yet to leave idle cores to others and to ask for large pages, unless the user has set this.

    Threads of OpenMP (torch's) that wait for work spin, which on a busy machine takes cores from threads that have work: a
    process then runs several times slower beside another one with two threads. They sleep instead, and there are no more of
    them than cores that the process may use. Torch's large values come in pages of 2 MB where the system (Linux) has them: in
    pages of 4 KB, fetching 168 MB takes longer than a convolution that fills them.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _quota() -> float | None:
    """Cores that the control group (version 2, else 1) grants; `None` without a limit."""
    try:
        granted, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            granted = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not granted.isdecimal() or not period.isdecimal() or not int(period):
        return None
    return int(granted) / int(period)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads, thread_name_prefix="events")


if hasattr(
    os, "register_at_fork"
):  # a child process has none of its parent's threads, and would wait for them forever
    os.register_at_fork(after_in_child=_pool.cache_clear)


def share(kernel: Callable[..., None], rows: int, threads: int, *args: Any) -> None:
    """Run `kernel(lo, hi, *args)` on threads, over ranges that together are all rows; kernels release Python's lock."""
    if threads < 2 or rows < 2:
        kernel(0, rows, *args)
        return
    pieces = min(rows, threads * _PIECES)
    edges = [rows * i // pieces for i in range(pieces + 1)]
    waiting = iter(list(pairwise(edges)))  # the next free thread takes the next piece

    def work() -> None:
        for lo, hi in waiting:
            kernel(lo, hi, *args)

    others = [_pool(threads).submit(work) for _ in range(min(threads, pieces) - 1)]
    work()
    for other in others:
        if not other.cancel():  # one that has not begun would find nothing left
            other.result()


def beside(kernel: Callable[..., None], rows: int, threads: int, *args: Any) -> Future[None] | None:
    """Run `kernel(0, rows, *args)` on another thread, while this one goes on; if there is to be one only, now."""
    if threads < 2:
        kernel(0, rows, *args)
        return None
    return _pool(threads).submit(kernel, 0, rows, *args)


@contextmanager
def importing(module: str) -> Iterator[Callable[[], bool]]:
    """Import a module on another thread while the block does work that releases Python's lock.

    If it cannot be imported, whoever imports it next is told.

    Yields:
        A function that tells whether it is still being imported.
    """
    if module in sys.modules:
        yield lambda: False
        return

    def bring() -> None:
        with suppress(Exception):
            import_module(module)

    thread = threading.Thread(target=bring)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        thread.join()
