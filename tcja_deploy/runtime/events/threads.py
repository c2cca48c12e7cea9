"""Threads for the kernels: as many as this process may really use, asleep when there is nothing to do."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

__all__ = ["available_cores", "share"]

_PIECES = 8
"""Pieces of work a thread, so that one that is held up does not keep the others waiting."""


def available_cores() -> int:
    """Cores that this process may use: its affinity, the quota of its control group, and ``OMP_NUM_THREADS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    if quota is not None:
        cores = min(cores, max(1, math.floor(quota)))
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(cores, int(asked)) if asked.isdigit() and int(asked) else cores


def _quota() -> float | None:
    """Cores that the control group grants (version 2, else 1); ``None`` without a limit."""
    try:
        granted, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            granted = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not granted.isdigit() or not period.isdigit() or not int(period):
        return None
    return int(granted) / int(period)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="events")


def share(kernel: Callable[..., None], rows: int, threads: int, *args: Any) -> None:
    """``kernel(lo, hi, *args)`` over ranges that together are all rows. Kernels leave Python's lock to others."""
    if threads < 2 or rows < 2:
        kernel(0, rows, *args)
        return
    pieces = min(rows, threads * _PIECES)
    edges = [rows * i // pieces for i in range(pieces + 1)]
    running = [_pool(threads).submit(kernel, lo, hi, *args) for lo, hi in pairwise(edges)]
    for piece in running:
        piece.result()
