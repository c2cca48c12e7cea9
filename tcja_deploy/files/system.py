"""What the operating system offers beyond `pathlib`: a cache folder, swapping paths, locking folders, flushing."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

__all__ = ["exchange", "flush", "hold", "locked", "user_cache"]

_PATIENCE = 60.0
"""Seconds to wait for another program that is moving its files into the same folder."""

_AT_FDCWD, _EXCHANGE = -100, 2
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def user_cache() -> Path:
    """The user's cache folder for this program: in `$XDG_CACHE_HOME`, or where the system keeps caches."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "tcja-deploy"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tcja-deploy"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tcja-deploy"
    return Path.home() / ".cache" / "tcja-deploy"


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one system call, so that nobody ever finds one of them missing.

    Returns:
        False if this system or file system cannot do that; nothing has changed then.

    Raises:
        OSError: If it failed for any other reason.
    """
    import ctypes

    try:
        library = ctypes.CDLL(None, use_errno=True)
        a, b = os.fsencode(one), os.fsencode(other)
        if sys.platform == "darwin":
            result = library.renamex_np(a, b, _EXCHANGE)  # RENAME_SWAP has the same value
        else:
            result = library.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _EXCHANGE)
    except (OSError, TypeError, AttributeError):  # no such library, or no such function in it
        return False
    if result == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def hold(folder: Path) -> int | None:
    """Lock a folder for this process as long as it lives, or until the descriptor is closed.

    Returns:
        An open descriptor that holds the lock; None where folders cannot be locked.

    Raises:
        BlockingIOError: If another process, or another descriptor of this one, holds it.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        return None
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    return handle


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes of this program from moving files into a folder; waits for one that is doing so.

    Raises:
        TimeoutError: If a process holds the folder for a minute.
    """
    folder = folder.resolve()
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            handle = hold(folder)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(
                    errno.ETIMEDOUT, "another program keeps this folder locked", str(folder)
                ) from None
            time.sleep(0.01)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def flush(path: Path) -> None:
    """Flush a file or folder to disk, so that a later rename never leaves a name for something empty after a power cut.

    Raises:
        OSError: If a file cannot be flushed, such as on a full disk; it is no error if a folder cannot be.
    """
    with suppress(OSError) if path.is_dir() else nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
