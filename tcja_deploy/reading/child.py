"""Foreign parsers in a process of their own: one that loops for ever, grows without end or crashes does no harm here.

Libraries in C (HDF5, onnxruntime, onnx's checker) promise nothing about damaged files. They work in a fresh process with limits
on memory and time, in a process group that is killed as a whole, and answer with JSON and arrays.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import IO

from tcja_deploy import errors
from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.reading.limits import RAISE, current_limits
from tcja_deploy.reading.messages import HEAD, Message, packed, unpacked

__all__ = ["Child", "ForeignError"]

_START = 120.0
"""Seconds that importing the parser may take."""

_BLOCK = 1 << 20


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold more than a few pages, so that arrays pass in fewer rounds (Linux)."""
    if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _BLOCK)


class ForeignError(Exception):
    """What a foreign parser raised, in its own words."""


class Child:
    """A process that answers requests.

    Args:
        work: `module:function` of this package; the function gives what answers (`worker.Handler`).
        where: The file it is about, for errors.
        what: The name of the parser, for errors.
        seconds: Time for each answer; that of the limits if not given, and never more.
    """

    def __init__(self, work: str, *, where: str, what: str, seconds: float = math.inf) -> None:
        self._limits, self._where, self._what = current_limits(), where, what
        self._seconds = min(seconds, self._limits.seconds)
        self._ready = False
        begin = "; ".join(
            (
                "import sys, json",
                "sys.path[:] = json.loads(sys.argv[1])",
                "from tcja_deploy.reading.worker import serve",
                "serve(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))",
            )
        )
        path = json.dumps([p for p in sys.path if p and os.path.isabs(p)])
        arguments = [path, work, str(self._limits.memory), str(self._seconds)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", begin, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd="/", bufsize=0,
        )  # fmt: skip

        _widen(self._process.stdout)

    @property
    def alive(self) -> bool:
        """Whether it can be asked again; a request that exceeds a limit ends it."""
        return self._process.returncode is None

    def ask(self, message: Message, *, where: str = "", seconds: float = math.inf) -> Message:
        """The answer to a request.

        Args:
            message: The request.
            where: The file that this request is about, if not that of the process.
            seconds: Time for this answer; that of all answers if not given, and never more.

        Raises:
            FileFormatError: If it takes longer or more memory than the limits, or the process dies.
            DeployError: What the handler raised on purpose.
            ForeignError: What the parser raised.
        """
        self._where = where or self._where
        most = min(seconds, self._seconds)
        try:
            if not self._ready:
                self._exchange(b"", _START)
                self._ready = True
            content = self._exchange(packed(message), most)
            facts, arrays = unpacked(content)
        except BaseException as error:
            self.close()
            if isinstance(error, ValueError):
                raise self._failed("gave no answer that can be read", "") from error
            raise
        if "error" in facts:
            said = {key: str(facts["error"].get(key, "")) for key in ("class", "reason", "where", "hint")}
            kind = getattr(errors, said["class"], None)
            if not (isinstance(kind, type) and issubclass(kind, DeployError)):
                kind = FileFormatError
            raise kind(said["reason"], where=said["where"], hint=said["hint"])
        if "failure" in facts:
            raise ForeignError(str(facts["failure"]))
        return facts, arrays

    def _exchange(self, request: bytes, seconds: float) -> bytes:
        """Write one message and read one, within `seconds`."""
        end = time.monotonic() + seconds
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None or stdin.closed:
            raise self._failed("has ended", "")
        outgoing, incoming = stdin.fileno(), stdout.fileno()
        os.set_blocking(outgoing, False)
        left, answer, length = memoryview(request), bytearray(), -1
        most = self._limits.memory
        with selectors.DefaultSelector() as selector:
            if request:
                selector.register(outgoing, selectors.EVENT_WRITE)
            selector.register(incoming, selectors.EVENT_READ)
            while length < 0 or len(answer) < HEAD + length:
                ready = selector.select(max(0.0, end - time.monotonic()))
                if not ready:
                    raise self._failed(f"takes more than {seconds:.3g} s on this", RAISE)
                for key, _ in ready:
                    if key.fd == outgoing:
                        try:
                            left = left[os.write(outgoing, left[:_BLOCK]) :]
                        except BrokenPipeError:
                            left = left[:0]
                        if not left:
                            selector.unregister(outgoing)
                    else:
                        block = os.read(incoming, _BLOCK)
                        if not block:
                            raise self._died()
                        answer += block
                if length < 0 and len(answer) >= HEAD:
                    length = int.from_bytes(answer[:HEAD], "little")
                    if length > most:
                        raise self._failed("gives more than the limit on memory", RAISE)
        return bytes(answer[HEAD:])

    def _died(self) -> FileFormatError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        if code is not None and -code == signal.SIGXCPU:
            return self._failed(f"takes more than {self._seconds:.3g} s on this", RAISE)
        gigabytes = f"{self._limits.memory / (1 << 30):g} GB"
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return self._failed(f"crashes on this ({name}), or needs more than {gigabytes}", RAISE)
        return self._failed(f"needs more than {gigabytes} for this", RAISE)

    def _failed(self, reason: str, hint: str) -> FileFormatError:
        return FileFormatError(f"{self._what} {reason}", where=self._where, hint=hint)

    def close(self) -> None:
        """End the process and whatever it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None and self._process.returncode is None:
            self.close()
