"""The process in which a foreign parser works: takes limits, answers requests, ends when no more requests come."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from tcja_deploy.errors import DeployError
from tcja_deploy.reading.limits import Limits, limited
from tcja_deploy.reading.messages import HEAD, Message, packed, unpacked

__all__ = ["Handler", "serve"]

Handler = Callable[[Message], Message]
"""Answers one request; keeps what it needs between two of them."""


def serve(work: str, memory: int, seconds: float) -> None:
    """Answer requests on standard input, on what was standard output.

    Args:
        work: `module:function`; the function gives a `Handler`.
        memory: Bytes that this process may allocate.
        seconds: Processor time that it may use for an answer on each core.
    """
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what native code prints goes nowhere
    os.dup2(nowhere, 2)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this process
    _end_with_parent()
    for what, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_AS, memory + _MAPPED),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
    module, _, name = work.partition(":")
    with limited(Limits(memory, seconds)):
        handler: Handler = getattr(importlib.import_module(module), name)()
    answers.write(packed(({"ready": True}, {})))
    answers.flush()
    requests = sys.stdin.buffer
    while (content := _message(requests)) is not None:
        _allow(seconds)
        try:
            with limited(Limits(memory, seconds)):
                answer = handler(unpacked(content))
            text = packed(answer)
        except DeployError as error:
            said = {
                "class": type(error).__name__,
                "reason": error.reason,
                "where": error.where,
                "hint": error.hint,
            }
            text = packed(({"error": said}, {}))
        except MemoryError:
            os._exit(_OUT_OF_MEMORY)
        except Exception as error:  # the parsers' exceptions have no common base
            out = "bad_alloc" in str(error) or "allocate memory" in str(error)
            if out:
                os._exit(_OUT_OF_MEMORY)
            text = packed(({"failure": f"{type(error).__name__}: {error}"[:2000]}, {}))
        answers.write(text)
        answers.flush()


_OUT_OF_MEMORY = 77
_MAPPED = 8 << 30
"""Bytes of address space for libraries and stacks of threads, which are mapped, not allocated."""


def _message(stream: BinaryIO) -> bytes | None:
    head = stream.read(HEAD)
    if len(head) < HEAD:
        return None
    length = int.from_bytes(head, "little")
    content = stream.read(length)
    return content if len(content) == length else None


def _allow(seconds: float) -> None:
    """Processor time for one more answer, on all cores: a second safeguard beside the parent's clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + seconds * (os.cpu_count() or 1)) + 5
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _end_with_parent() -> None:
    """Be killed when the parent dies, whatever this process is doing then (Linux)."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
