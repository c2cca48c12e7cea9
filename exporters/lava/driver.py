"""Running a bundle in the real Lava, in another Python: a subprocess that cannot hang or leave anything behind.

The child monitors itself (time limit, failed processes, vanished parent) and cleans up its processes and shared memory.
If it does not, the parent kills its whole process group and removes the run's shared memory, which has a unique name.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, ToolchainError, UsageError
from tcja_deploy.exporters.lava import environment
from tcja_deploy.exporters.lava.bundle import Bundle, copy_runner
from tcja_deploy.exporters.lava.lint import lint
from tcja_deploy.exporters.lava.schedule import schedule
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stages import SynapseStage

__all__ = ["LavaRun", "run_lava", "shared_memory_need"]

CHANNEL_SLOTS = 4
"""Frames that a Lava channel holds; runner/run_bundle.py uses the same number."""
GRACE = 15.0
"""Seconds in which the child may end itself before its process group is killed."""
MORE_MEMORY = "enlarge /dev/shm (docker run --shm-size=2g, or mount -o remount,size=2g /dev/shm)"
TIMEOUT_CODE = 4
DISK_FULL = 1 << 20
"""Bytes free for temporary files; with fewer, a failure is attributed to a full disk."""

LavaProgress = Callable[[int, int], None]
"""Called with the number of finished time steps and the total."""


@dataclass(frozen=True, slots=True, eq=False)
class LavaRun:
    """Results of a run.

    Attributes:
        stages: Values `[T, N, ...]` of the requested stages by name, uint8 spikes or int32 payloads.
        steps: Time steps that Lava took.
        import_seconds: Seconds for importing lava-dl.
        run_seconds: Seconds for compiling and running.
        total_seconds: Seconds of the whole subprocess.
        shared_bytes: Bytes of shared memory that the channels took.
    """

    stages: dict[str, NDArray[np.integer]]
    steps: int
    import_seconds: float
    run_seconds: float
    total_seconds: float
    shared_bytes: int


def shared_memory_need(network: IntegerNetwork, record: Collection[str]) -> int:
    """Upper estimate of the bytes that the channels of a run take in /dev/shm."""
    elements = channels = 0
    times = schedule(network)
    for index, stage in enumerate(network.stages):
        out = prod(stage.out_shape)
        sizes = [prod(edge.shape) for edge in network.arrives(stage)]
        delayed = [size for size, delay in zip(sizes, times[stage.name].delays, strict=True) if delay]
        elements += sum(sizes) + sum(delayed) + (out if isinstance(stage, LayerStage | SynapseStage) else 0)
        channels += len(sizes) + len(delayed) + 2
        if stage.name in record or index == len(network.stages) - 1:
            elements += out
    page = 4096
    return elements * 4 * CHANNEL_SLOTS + page * 16 * (channels + 4)


def run_lava(
    bundle: Bundle,
    payload: NDArray[np.integer],
    *,
    record: Collection[str] | None = None,
    python: Path | str | None = None,
    fast_conv: bool = False,
    timeout: float = 3600.0,
    progress: LavaProgress | None = None,
) -> LavaRun:
    """Run windows through Lava, one after another in a single run.

    Args:
        bundle: The bundle to run.
        payload: Integers `[T, N, ...]` as `tcja_deploy.runtime.integers.twin.encode` returns them.
        record: Stages to return; None for all.
        python: Interpreter that has lava-dl; None to look for it.
        fast_conv: Whether to replace Lava's convolution loops by matrix products (same integers).
        timeout: Seconds for the whole run.
        progress: Called about four times a second.

    Raises:
        ToolchainError: If there is no environment or too little shared memory, Lava fails, or the time runs out.
        UsageError: If `record` names an unknown stage.
        DataError: If payloads are so large that Lava's sums overflow.
    """
    network = bundle.network
    names = [stage.name for stage in network.stages]
    wanted = names if record is None else [name for name in names if name in record]
    if record is not None and set(record) - set(names):
        raise UsageError(f"the bundle has no stage named {', '.join(sorted(set(record) - set(names)))}")
    interpreter = environment.lava_python(python)
    _check_payload(network, payload)
    _check_shared_memory(network, wanted)
    steps = payload.shape[0] * payload.shape[1] + int(bundle.section["latency"])
    start = time.monotonic()
    try:
        with (
            environment.terminable(),
            tempfile.TemporaryDirectory(prefix="tcja-lava-", ignore_cleanup_errors=True) as name,
        ):
            folder = Path(name)
            memory_name = f"tcja{os.getpid():x}x{secrets.token_hex(3)}"
            copy_runner(folder / "runner")
            (folder / "out").mkdir()
            np.save(folder / "payload.npy", payload.astype(np.int32))
            command = [str(interpreter), "-I", str(folder / "runner" / "run_bundle.py")]
            command += ["--bundle", str(bundle.path.resolve()), "--input", str(folder / "payload.npy")]
            command += ["--output", str(folder / "out"), "--timeout", str(timeout)]
            command += ["--memory-name", memory_name]
            command += ["--record", ",".join(str(names.index(name)) for name in wanted)]
            command += ["--fast-conv"] if fast_conv else []
            code = _supervise(command, folder, memory_name, timeout, steps, progress)
            result = _result(folder)
            if code:
                raise _failure(code, result, folder, timeout)
            stages = {}
            for name in wanted:
                values = np.load(folder / "out" / f"stage_{names.index(name)}.npy")
                shape = payload.shape[1], payload.shape[0], *values.shape[1:]
                stages[name] = values.reshape(shape).swapaxes(0, 1)
    except OSError as error:
        raise ToolchainError(
            f"the files of a run cannot be written or read ({error})",
            where=tempfile.gettempdir(),
            hint="TMPDIR names another folder for them",
        ) from error
    return LavaRun(
        stages,
        int(result["steps"]),
        float(result["import_seconds"]),
        float(result["run_seconds"]),
        time.monotonic() - start,
        int(result["shared_bytes"]),
    )


def _check_payload(network: IntegerNetwork, payload: NDArray[np.integer]) -> None:
    """Check payloads larger than those of the calibration, with which sums may overflow although the lint passed.

    Raises:
        DataError: If sums can overflow.
    """
    peak = int(np.abs(payload).max(initial=0))
    if peak > network.host_input.peak:
        errors = lint(replace(network, host_input=replace(network.host_input, peak=peak))).errors
        if errors:
            raise DataError(
                f"payloads up to {peak} are too large for Lava (calibrated up to {network.host_input.peak}): "
                + "; ".join(errors),
                hint="calibrate on data like these",
            )


def _check_shared_memory(network: IntegerNetwork, wanted: Collection[str]) -> None:
    memory = environment.shared_memory()
    need = shared_memory_need(network, wanted)
    if memory is not None and memory[1] < need:
        raise ToolchainError(
            f"Lava's channels need {need >> 20} MiB of shared memory, but {memory[1] >> 20} MiB are free",
            where=str(environment.SHARED_MEMORY),
            hint=MORE_MEMORY,
        )


def _supervise(
    command: list[str],
    folder: Path,
    memory_name: str,
    timeout: float,
    steps: int,
    progress: LavaProgress | None,
) -> int:
    """Exit code of the child; whatever happens, its process group has ended and its shared memory is freed afterwards."""
    variables = environment.clean_variables()
    variables |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    variables |= {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(folder)}
    with open(folder / "log", "wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=variables,
            cwd=folder,
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout + GRACE
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(0.25)
            if progress is not None:
                progress(_steps_done(folder), steps)
            if time.monotonic() > deadline:
                return TIMEOUT_CODE
    finally:
        _end(child, memory_name)
        if progress is not None:
            progress(_steps_done(folder), steps)


def _end(child: subprocess.Popen[bytes], memory_name: str) -> None:
    """Terminate the child, then kill its whole group, then remove any shared memory that is left."""
    try:
        if child.poll() is None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for segment in environment.SHARED_MEMORY.glob(f"{memory_name}*"):
            segment.unlink(missing_ok=True)


def _steps_done(folder: Path) -> int:
    try:
        return int((folder / "out" / "progress").read_bytes() or b"0")
    except (OSError, ValueError):
        return 0


def _result(folder: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads((folder / "out" / "result.json").read_text())
    except (OSError, ValueError):
        return {}
    return result


def _failure(code: int, result: dict[str, Any], folder: Path, timeout: float) -> ToolchainError:
    """The error for an exit code, with the child's output."""
    if code == TIMEOUT_CODE:
        return ToolchainError(
            f"Lava did not finish within {timeout:g} s (after {_steps_done(folder)} time steps)",
            hint="allow more time, run fewer samples, or use the fast convolution",
        )
    log = (folder / "log").read_text(errors="replace").strip()
    said = str(result.get("error") or "\n".join(log.splitlines()[-15:]) or "it printed nothing")
    if shutil.disk_usage(folder).free < DISK_FULL:
        return ToolchainError(
            f"the disk is full\n{said}", where=str(folder.parent), hint="TMPDIR names another folder"
        )
    if "SIGBUS" in said or "No space left on device" in said:
        return ToolchainError(
            f"the shared memory that Lava's channels live in ran out\n{said}", hint=MORE_MEMORY
        )
    if code < 0:
        name = signal.Signals(-code).name
        return ToolchainError(f"the Lava process was killed by {name}\n{said}")
    return ToolchainError(
        f"Lava failed (exit code {code})\n{said}", hint="`tcja-deploy lava doctor` checks the environment"
    )
