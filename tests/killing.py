"""Processes that are killed exactly between two system calls."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

WATCHED = (
    "os.rename",
    "os.link",
    "os.symlink",
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.chmod",
    "ctypes.dlsym",
)
"""Audit events of calls that change names, raised just before each; `os.replace` is an `os.rename` as well, and looking up
`renameat2` comes just before its call."""


def killed_at(k: int, work: Callable[[], object], watched: tuple[str, ...] = WATCHED) -> bool:
    """Do work in another process that is killed just before the k-th watched call, or after the k-th `fsync`.

    Returns:
        Whether it came that far; if not it has finished.
    """
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if "torch" in sys.modules:  # its threads are not in this process, and would be waited for
            sys.modules["torch"].set_num_threads(1)
        count = 0

        def one(event: str, _: Any = None) -> None:
            nonlocal count
            if event in watched:
                count += 1
                if count == k:
                    os.kill(os.getpid(), signal.SIGKILL)

        flush = os.fsync

        def fsync(handle: int) -> None:
            flush(handle)
            one(watched[0])

        os.fsync = fsync
        sys.addaudithook(one)
        try:
            work()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(9)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False
