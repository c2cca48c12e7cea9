"""Finding Python 3.10, building the environment, and what the doctor says; with stand-ins for the
interpreters."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcja_deploy.errors import ToolchainError
from tcja_deploy.exporters.lava import environment

# A stand-in for Python 3.10: answers what it is asked, makes the folder that venv would make, and "installs"
# by a mark.
STAND_IN = """#!{python}
import os, sys, shutil
from pathlib import Path
words = sys.argv[1:]
if words and words[0] == "-I":
    words = words[1:]
if "platform.python_version()" in " ".join(words):
    print("{version}")
elif words[:2] == ["-m", "venv"]:
    if "{fails}" == "venv":
        sys.exit("no ensurepip")
    target = Path(words[2]) / "bin"
    target.mkdir(parents=True)
    shutil.copy(__file__, target / "python")
elif words[:2] == ["-m", "pip"]:
    if "{fails}" == "pip" or "https://download.pytorch.org/whl/cpu" in words:
        sys.exit("no such wheel: lava")
    print("installed", *words[-4:])
elif words and words[0] == "-c":
    if "{fails}" == "import":
        sys.exit("ModuleNotFoundError: No module named 'lava'")
    print('{{"lava-nc": "{nc}", "lava-dl": "0.6.0", "torch": "2.3.1", "numpy": "1.26.4", "h5py": "3"}}')
"""


def stand_in(folder: Path, name="python3.10", *, version="3.10.13", fails="", nc="0.10.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(STAND_IN.format(python=sys.executable, version=version, fails=fails, nc=nc))
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with nothing: empty PATH, home and cache."""
    for name in ("bin", "home", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("PYENV_ROOT", environment.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def test_without_python310_the_message_says_what_to_install(bare):
    with pytest.raises(ToolchainError, match=r"found no Python 3\.10") as caught:
        environment.setup()
    assert "uv python install 3.10" in caught.value.hint
    assert caught.value.exit_code == 11
    assert list((bare / "cache").iterdir()) == []


def test_another_version_on_the_path_does_not_count(bare):
    stand_in(bare / "bin", "python3.10", version="3.11.7")  # such as a shim
    stand_in(bare / "bin", "python3", version="3.12.1")
    with pytest.raises(ToolchainError, match="found no"):
        environment.find_python310()
    right = stand_in(bare / "bin", "python")
    assert environment.find_python310() == right


def test_pyenv_and_uv_are_searched(bare):
    uv = bare / "bin" / "uv"
    uv.write_text(f"#!/bin/sh\necho {bare / 'uv' / 'python'}\n")
    uv.chmod(0o755)
    managed = stand_in(bare / "uv", "python")
    assert environment.find_python310() == managed
    pyenv = stand_in(bare / "home" / ".pyenv" / "versions" / "3.10.9" / "bin", "python")
    assert environment.find_python310() == pyenv


def test_a_named_interpreter_must_be_310(bare):
    wrong = stand_in(bare / "x", version="3.9.1")
    with pytest.raises(ToolchainError, match=r"this is Python 3\.9\.1"):
        environment.find_python310(wrong)
    with pytest.raises(ToolchainError, match="no working Python"):
        environment.find_python310(bare / "missing")
    right = stand_in(bare / "y")
    assert environment.find_python310(right) == right


def test_setup_builds_once(bare):
    stand_in(bare / "bin")
    said = []
    python = environment.setup(say=said.append)
    folder = environment.environment_folder()
    assert python == folder / "bin" / "python"
    assert folder.parent == bare / "cache" / "tcja-deploy"
    assert json.loads((folder / "tcja-deploy.json").read_text())["versions"]["lava-nc"] == "0.10.0"
    assert any("CPU wheel is not available" in text for text in said)
    assert environment.lava_python() == python
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    (bare / "bin" / "python3.10").unlink()
    assert environment.setup() == python  # there already
    with pytest.raises(ToolchainError, match="found no"):
        environment.setup(rebuild=True)
    assert environment.lava_python() == python  # the old one stays


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("venv", "creating the virtual environment failed:\nno ensurepip"),
        ("pip", "installing lava-dl failed:\nno such wheel: lava"),
        ("import", "lava-dl cannot be imported: ModuleNotFoundError: No module named 'lava'"),
    ],
)
def test_a_failed_setup_leaves_nothing(bare, fails, words):
    stand_in(bare / "bin", fails=fails)
    with pytest.raises(ToolchainError) as caught:
        environment.setup()
    assert words in caught.value.reason
    assert list((bare / "cache" / "tcja-deploy").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_setup_leaves_nothing(bare, number, monkeypatch):
    """Only this process gets the signal; its step, what that started, and its temporary files go with it."""
    python = stand_in(bare / "bin")
    started = bare / "started"
    hang = f'import subprocess, tempfile; tempfile.mkdtemp(); open("{started}", "w").close();'
    hang += 'subprocess.run(["/bin/sleep", "4242"])'
    python.write_text(python.read_text().replace("target = Path", f"{hang}\n    target = Path"))
    (bare / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(bare / "tmp"))
    code = "from tcja_deploy.exporters.lava.environment import setup; setup()"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        try:
            end = time.monotonic() + 60
            while not started.exists() and time.monotonic() < end:
                time.sleep(0.05)
            assert sleepers()
            process.send_signal(number)
            assert process.wait(30) != 0
        finally:
            process.kill()  # where the signal did nothing
    assert sleepers() == []
    assert list((bare / "cache" / "tcja-deploy").iterdir()) == []
    assert list((bare / "tmp").iterdir()) == []


def sleepers() -> list[str]:
    """Processes of the test above."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes() == b"/bin/sleep\x004242\x00":
                found.append(entry.name)
    return found


def test_a_half_built_folder_is_not_used(bare):
    folder = environment.environment_folder()
    stand_in(folder / "bin", "python")
    with pytest.raises(ToolchainError, match="has not been built") as caught:
        environment.lava_python()
    assert "tcja-deploy lava setup" in caught.value.hint
    stand_in(bare / "bin")
    environment.setup()
    assert environment.lava_python() == folder / "bin" / "python"


def test_the_variable_and_the_argument_come_first(bare, monkeypatch):
    one, other = stand_in(bare / "one"), stand_in(bare / "other")
    monkeypatch.setenv(environment.VARIABLE, str(one))
    assert environment.lava_python() == one
    assert environment.lava_python(other) == other
    monkeypatch.setenv(environment.VARIABLE, str(bare / "missing"))
    with pytest.raises(ToolchainError, match="no such interpreter") as caught:
        environment.lava_python()
    assert environment.VARIABLE in caught.value.where


def subjects(good):
    return [item.subject for item in environment.diagnose() if item.good is good]


def test_the_doctor_on_a_bare_machine(bare, monkeypatch):
    monkeypatch.setattr(environment, "shared_memory", lambda: (64 << 20, 60 << 20))
    found = {item.subject: item for item in environment.diagnose()}
    assert subjects(False) == ["Python 3.10", "Lava environment", "shared memory"]
    assert "uv python install" in found["Python 3.10"].advice
    assert "tcja-deploy lava setup" in found["Lava environment"].advice
    assert found["shared memory"].finding == "60 MiB free of 64 in /dev/shm"
    assert "--shm-size" in found["shared memory"].advice


def test_the_doctor_on_a_healthy_machine(bare, monkeypatch):
    monkeypatch.setattr(environment, "shared_memory", lambda: (8 << 30, 8 << 30))
    stand_in(bare / "bin")
    environment.setup()
    assert subjects(False) == []
    assert subjects(True) == ["Lava environment", "import of lava-dl", "shared memory"]


def test_the_doctor_names_broken_and_foreign_environments(bare, monkeypatch):
    monkeypatch.setenv(environment.VARIABLE, str(stand_in(bare / "one", fails="import")))
    (broken,) = (item for item in environment.diagnose() if item.subject == "import of lava-dl")
    assert not broken.good
    assert "No module named 'lava'" in broken.finding
    assert broken.advice.startswith(
        "install lava-dl 0.6.0 there"
    )  # building the cached one again would not help
    monkeypatch.setenv(environment.VARIABLE, str(stand_in(bare / "two", nc="0.9.0")))
    (other,) = (item for item in environment.diagnose() if item.subject == "import of lava-dl")
    assert not other.good
    assert "lava-nc==0.10.0" in other.advice


def test_the_real_environment(lava_python):
    assert environment.probe(lava_python)["lava-dl"] == "0.6.0"


def command(*words, **variables):
    return subprocess.run(
        [sys.executable, "-m", "tcja_deploy", "lava", *words],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        check=False,
    )


def test_the_commands(bare):
    answer = command("doctor")
    assert answer.returncode == 11
    assert "PROBLEM Python 3.10: found no Python 3.10" in answer.stdout
    assert "-> install one (`uv python install 3.10`" in answer.stdout
    answer = command("setup")
    assert answer.returncode == 11
    assert "error: found no Python 3.10" in answer.stderr
    stand_in(bare / "bin")
    answer = command("setup")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == f"ready: {environment.lava_python()}"
    answer = command("doctor", "--json")
    found = json.loads(answer.stdout)
    assert {item["subject"]: item["good"] for item in found}["import of lava-dl"] is True
