"""Kernels in a forked child: it has none of its parent's threads, and makes its own."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tcja_deploy.runtime.threads import share


@pytest.mark.skipif(sys.platform == "win32", reason="needs a fork")
def test_a_forked_child_makes_threads_of_its_own() -> None:
    seen: list[int] = []

    def kernel(low: int, high: int) -> None:
        seen.extend(range(low, high))

    share(kernel, 40, 3)  # the parent's pool exists before the fork
    assert sorted(seen) == list(range(40))
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for ever
        seen.clear()
        share(kernel, 40, 3)
        os._exit(0 if sorted(seen) == list(range(40)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
