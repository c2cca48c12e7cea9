"""The driver against the real Lava: right results, and nothing left behind whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from integer_nets import random_frames, random_network
from lava_leftovers import leftovers

from tcja_deploy.errors import DataError, FileFormatError, ToolchainError, UsageError
from tcja_deploy.exporters.lava import bundle as bundles
from tcja_deploy.exporters.lava import driver, environment
from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.exporters.lava.driver import run_lava, shared_memory_need
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork, Readout
from tcja_deploy.runtime.integers.twin import Twin, encode


def zeros(bundle):
    """An empty window."""
    return np.zeros((bundle.network.frames, 1, *bundle.network.host_input.out_shape), int)


@pytest.fixture
def small(tmp_path):
    network = random_network(1, gates=1, binary=False)
    write_bundle(network, tmp_path / "b", random_frames(network, 1), about={})
    return read_bundle(tmp_path / "b")


@pytest.fixture
def crashing(tmp_path, monkeypatch):
    """A bundle that the lint would refuse: Lava keeps 129 groups as -127 and fails in one of its
    processes."""
    layer = LayerStage(
        "conv",
        "conv",
        (129, 4, 4),
        np.ones((129, 1, 1, 1), int),
        np.zeros(129, int),
        np.asarray(1),
        groups=129,
    )
    network = IntegerNetwork("net", 4, HostInput((129, 4, 4), True, 1), (layer,), Readout())
    findings = bundles.check(
        replace(network, stages=(replace(layer, weight=np.ones((129, 129, 1, 1), int), groups=1),))
    )
    monkeypatch.setattr(bundles, "check", lambda network: findings)
    write_bundle(network, tmp_path / "b", random_frames(network, 1), about={})
    return read_bundle(tmp_path / "b")


@pytest.mark.parametrize("fast_conv", [False, True])
def test_every_value_of_several_windows(small, lava_python, clean, fast_conv):
    network = small.network
    frames = random_frames(network, 3, seed=1)
    names = [stage.name for stage in network.stages]
    seen = []
    result = run_lava(
        small,
        encode(network.host_input, frames),
        python=lava_python,
        fast_conv=fast_conv,
        progress=lambda done, total: seen.append((done, total)),
    )
    expected = Twin(network).run(frames, record=names).recorded
    assert list(result.stages) == names
    for name in names:
        assert expected[name].any(), name
        np.testing.assert_array_equal(result.stages[name], expected[name])
    assert result.steps == 3 * 8 + small.section["latency"]
    assert seen[-1] == (result.steps, result.steps)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_memory_estimate_covers_what_lava_takes(small, lava_python, clean):
    network = small.network
    payload = encode(network.host_input, random_frames(network, 1))
    for record in (None, [network.stages[-1].name]):
        used = run_lava(small, payload, python=lava_python, record=record)
        names = [stage.name for stage in network.stages] if record is None else record
        assert list(used.stages) == names
        need = shared_memory_need(network, names)
        assert used.shared_bytes <= need <= used.shared_bytes + (4 << 20)


def test_unknown_stages_are_refused(small):
    with pytest.raises(UsageError, match="no stage named nowhere"):
        run_lava(small, zeros(small), record=["nowhere"])


def test_payloads_that_lava_would_overflow_on_are_refused(lava_python, tmp_path):
    layer = LayerStage("n", "dense", (2,), np.full((2, 2), 100), np.zeros(2, int), np.asarray(1))
    network = IntegerNetwork("net", 4, HostInput((2,), False, 1000), (layer,), Readout())
    write_bundle(network, tmp_path / "b", np.ones((4, 1, 2), int), about={})
    bundle = read_bundle(tmp_path / "b")
    with pytest.raises(DataError, match=r"payloads up to 200000 are too large for Lava .*32 bits"):
        run_lava(bundle, np.full((4, 1, 2), 200_000), python=lava_python)


def test_a_failing_process_gives_its_traceback(crashing, lava_python, clean):
    payload = np.ones((4, 1, 129, 4, 4), int)
    start = time.monotonic()
    with pytest.raises(
        ToolchainError, match=r"a Lava process raised an exception\n(.|\n)*Traceback"
    ) as caught:
        run_lava(crashing, payload, python=lava_python)
    assert "conv" in caught.value.reason
    assert time.monotonic() - start < 60


def test_a_timeout_ends_the_run(small, lava_python, clean):
    network = small.network
    long = np.tile(encode(network.host_input, random_frames(network, 1)), (1, 4000, 1, 1, 1))
    with pytest.raises(ToolchainError, match=r"did not finish within 6 s"):
        run_lava(small, long, python=lava_python, timeout=6.0, record=[network.stages[-1].name])


def test_a_child_that_ignores_its_end_is_killed(tmp_path, clean, monkeypatch, small):
    """The parent's own time limit, with a child that never answers: its whole group goes."""
    stubborn = tmp_path / "python"
    stubborn.write_text(
        "#!/bin/sh\ntrap '' TERM\nsleep 600 &\nwhile true; do sleep 1; done # run_bundle.py\n"
    )
    stubborn.chmod(0o755)
    monkeypatch.setattr(driver, "GRACE", 1.0)
    with pytest.raises(ToolchainError, match="did not finish within 1 s"):
        run_lava(small, zeros(small), python=stubborn, timeout=1.0)


SCRIPT = """
    import sys
    from pathlib import Path
    import numpy as np
    from tcja_deploy.exporters.lava.bundle import read_bundle
    from tcja_deploy.exporters.lava.driver import run_lava
    bundle = read_bundle(Path(sys.argv[1]))
    shape = bundle.network.host_input.out_shape
    payload = np.ones((bundle.network.frames, 4000, *shape), int)
    last = bundle.network.stages[-1].name
    run_lava(bundle, payload, record=[last], progress=lambda done, total: done and print(done, flush=True))
"""


@pytest.fixture
def running(small, lava_python, clean):
    """A long run in another process, well under way."""
    variables = os.environ | {environment.VARIABLE: str(lava_python)}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(small.path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
        start_new_session=True,
    ) as process:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process
        assert leftovers(process.pid) == set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_control_c_leaves_nothing(running):
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(30) != 0
    assert "KeyboardInterrupt" in running.stderr.read()


def test_sigterm_leaves_nothing(running, clean):
    """As timeout(1) and batch systems stop a job: the signal goes to this process only."""
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait(30) == 128 + signal.SIGTERM


def test_nobody_is_left_when_all_who_could_clean_up_are_killed(running, clean):
    """The processes of a run die with their leader, and Python's resource tracker frees the shared memory."""
    (folder,) = clean.iterdir()
    leader = leader_of(folder)
    running.kill()
    os.kill(leader, signal.SIGKILL)
    running.wait(30)
    end = time.monotonic() + 20
    while leftovers(running.pid) and time.monotonic() < end:
        time.sleep(0.2)
    shutil.rmtree(folder)


def test_a_killed_child_is_reported(running, clean):
    (folder,) = clean.iterdir()
    os.kill(leader_of(folder), signal.SIGKILL)  # what the system does when memory runs out
    running.wait(30)
    assert "was killed by SIGKILL" in running.stderr.read()


def leader_of(folder: Path) -> int:
    """The process that started all others of a run."""
    (leader,) = (
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and is_leader(entry, str(folder))
    )
    return leader


def is_leader(entry: Path, folder: str) -> bool:
    with contextlib.suppress(OSError):
        command = (entry / "cmdline").read_bytes().decode()
        return folder in command and os.getpgid(int(entry.name)) == int(entry.name)
    return False


def test_a_vanished_parent_ends_the_run(small, lava_python, tmp_path, monkeypatch):
    """Nobody is left to clean up: the child has to notice."""
    variables = os.environ | {environment.VARIABLE: str(lava_python), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(small.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout.readline()
        assert leftovers(process.pid)
        process.kill()
    end = time.monotonic() + 20
    while leftovers(process.pid) and time.monotonic() < end:
        time.sleep(0.2)
    assert leftovers(process.pid) == set()


def test_a_folder_for_temporary_files_that_is_missing_or_full(small, lava_python, clean, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(clean / "missing"))
    with pytest.raises(ToolchainError, match="cannot be written or read") as caught:
        run_lava(small, zeros(small), python=lava_python)
    assert "TMPDIR" in caught.value.hint
    monkeypatch.setattr("tempfile.tempdir", str(clean))
    monkeypatch.setattr(driver, "DISK_FULL", 1 << 62)
    with pytest.raises(ToolchainError, match="the disk is full"):
        run_lava(small, zeros(small), python=sys.executable)


def test_too_little_shared_memory_is_said_before_the_start(small, lava_python, clean, monkeypatch):
    monkeypatch.setattr(environment, "shared_memory", lambda: (64 << 20, 1 << 20))
    with pytest.raises(ToolchainError, match=r"need \d+ MiB of shared memory, but 1 MiB are free") as caught:
        run_lava(small, zeros(small), python=lava_python)
    assert "--shm-size" in caught.value.hint


def run_with_shared_memory(bundle, lava_python, folder, size):
    """A one-window run in a mount namespace with a small /dev/shm, the check before the start switched
    off."""
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    try:
        allowed = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no unshare")
    if allowed.returncode:
        pytest.skip("this system lets no user mount a file system of their own")
    blind = "from tcja_deploy.exporters.lava import environment; environment.shared_memory = lambda: None\n"
    code = blind + textwrap.dedent(SCRIPT).replace("4000", "1").replace("record=[last], ", "")
    inside = f'{mount} && "$@"; code=$?; ls /dev/shm >&2; exit $code'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, "sh", sys.executable, "-c", code, str(bundle.path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {environment.VARIABLE: str(lava_python), "TMPDIR": str(folder)},
    )


@pytest.mark.parametrize(("side", "size", "bus_error"), [(8, "40k", False), (100, "1m", True)])
def test_shared_memory_that_runs_out(lava_python, tmp_path, side, size, bus_error):
    """Either the semaphores do not fit, or a process dies when it first touches its channel (SIGBUS)."""
    layer = LayerStage(
        "conv", "conv", (4, side, side), np.ones((4, 4, 1, 1), int), np.zeros(4, int), np.asarray(1)
    )
    network = IntegerNetwork("net", 4, HostInput((4, side, side), True, 1), (layer,), Readout())
    write_bundle(network, tmp_path / "b", random_frames(network, 1), about={})
    bundle = read_bundle(tmp_path / "b")
    answer = run_with_shared_memory(bundle, lava_python, tmp_path, size)
    assert answer.returncode == 1
    assert "the shared memory that Lava's channels live in ran out" in answer.stderr
    assert ("SIGBUS" in answer.stderr) == bus_error
    assert answer.stderr.strip().endswith(
        "--shm-size=2g, or mount -o remount,size=2g /dev/shm)"
    )  # nothing left


def test_the_estimated_shared_memory_is_enough(small, lava_python, tmp_path):
    size = shared_memory_need(small.network, [stage.name for stage in small.network.stages])
    answer = run_with_shared_memory(small, lava_python, tmp_path, size)
    assert answer.returncode == 0, answer.stderr


def test_a_damaged_bundle_stops_before_lava(small):
    (small.path / "segment_0.net").write_bytes(b"")
    with pytest.raises(FileFormatError, match="damaged"):
        read_bundle(small.path)


def test_an_interpreter_without_lava(small, clean):
    with pytest.raises(ToolchainError, match="Lava failed") as caught:
        run_lava(small, zeros(small), python=sys.executable)
    assert "No module named 'lava'" in caught.value.reason
    assert "lava doctor" in caught.value.hint
