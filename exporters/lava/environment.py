"""The environment of the real Lava: finding Python 3.10, building the environment, and diagnosing problems.

lava-dl 0.6.0 runs on Python 3.10 only and pins NumPy 1 and torch 2.3, so it can never share an environment
with this program. It gets one of its own in the user's cache folder, made once by `tcja-deploy lava setup`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tcja_deploy.errors import ToolchainError
from tcja_deploy.files.system import user_cache

__all__ = [
    "Diagnosis",
    "diagnose",
    "environment_folder",
    "find_python310",
    "lava_python",
    "setup",
    "shared_memory",
]

VARIABLE = "TCJA_DEPLOY_LAVA_PYTHON"
"""Environment variable that names an interpreter with lava-dl, used instead of the cached environment."""

REQUIREMENTS = ("lava-nc==0.10.0", "lava-dl==0.6.0", "torch==2.3.1", "numpy==1.26.4")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
MARKER = "tcja-deploy.json"
PROBE = (
    "import json, sys; from importlib.metadata import version; from lava.lib.dl import netx;"
    "print('\\n' + json.dumps({n: version(n) for n in ('lava-nc', 'lava-dl', 'torch', 'numpy', 'h5py')}))"
)
SHARED_MEMORY = Path("/dev/shm")


def environment_folder() -> Path:
    """Folder of the environment for these requirements, whether it exists or not."""
    digest = hashlib.sha256("\n".join(REQUIREMENTS).encode()).hexdigest()[:12]
    return user_cache() / f"lava-{digest}"


def interpreter(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def clean_variables() -> dict[str, str]:
    """This process's environment variables without those that redirect Python's imports."""
    drop = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {key: value for key, value in os.environ.items() if key not in drop}


def _ask(command: list[str], timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env=clean_variables(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def python_version(python: Path | str) -> str:
    """Version of an interpreter, such as "3.10.13"; empty if it does not run."""
    answer = _ask([str(python), "-I", "-c", "import platform; print(platform.python_version())"])
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _candidates() -> Iterator[Path]:
    for name in ("python3.10", "python3", "python"):
        found = shutil.which(name)
        if found:
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/3.10*/bin/python"), reverse=True)
    uv = shutil.which("uv")
    if uv:
        answer = _ask([uv, "python", "find", "3.10"])
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    if sys.platform == "win32" and (launcher := shutil.which("py")):
        answer = _ask([launcher, "-3.10", "-c", "import sys; print(sys.executable)"])
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())


def find_python310(python: Path | str | None = None) -> Path:
    """A Python 3.10 interpreter: the given one, or one from PATH, pyenv, uv or the Windows launcher.

    Raises:
        ToolchainError: If none is found.
    """
    if python is not None:
        found = shutil.which(str(python))
        version = python_version(found) if found else ""
        if not version.startswith("3.10."):
            raise ToolchainError(
                f"this is {'Python ' + version if version else 'no working Python interpreter'}",
                where=str(python),
                hint="lava-dl 0.6.0 needs Python 3.10",
            )
        return Path(str(found))
    for candidate in _candidates():
        if python_version(candidate).startswith("3.10."):
            return candidate
    raise ToolchainError(
        "found no Python 3.10 on PATH, in pyenv or through uv; lava-dl 0.6.0 runs on no other version",
        hint="install one (`uv python install 3.10`, `pyenv install 3.10`, or the package python3.10-venv) and "
        "run `tcja-deploy lava setup`, or name one with --python; everything but Lava itself works without",
    )


def lava_python(python: Path | str | None = None) -> Path:
    """The interpreter with lava-dl: the given one, the one in TCJA_DEPLOY_LAVA_PYTHON, or that of the cached environment.

    Raises:
        ToolchainError: If none is found, or the one named does not exist.
    """
    named, where = (python, "--python") if python is not None else (os.environ.get(VARIABLE), VARIABLE)
    if named:
        found = shutil.which(str(named))
        if not found:
            raise ToolchainError("there is no such interpreter", where=f"{where}: {named}")
        return Path(found)
    folder = environment_folder()
    if (folder / MARKER).is_file() and interpreter(folder).exists():
        return interpreter(folder)
    raise ToolchainError(
        "the Lava environment has not been built",
        where=str(folder),
        hint=f"run `tcja-deploy lava setup`, or set {VARIABLE} to an interpreter that has lava-dl 0.6.0",
    )


def probe(python: Path) -> dict[str, str]:
    """Versions of the packages that matter, after importing them there.

    Raises:
        ToolchainError: If the import fails.
    """
    answer = _ask([str(python), "-I", "-c", PROBE], timeout=180.0)
    try:
        versions: dict[str, str] = json.loads(answer.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = answer.stderr.strip().splitlines()
        raise ToolchainError(
            f"lava-dl cannot be imported: {lines[-1] if lines else f'exit code {answer.returncode}'}",
            where=str(python),
            hint=(
                "run `tcja-deploy lava setup --rebuild`"
                if python == interpreter(environment_folder())
                else f"install lava-dl 0.6.0 there, or run `tcja-deploy lava setup` and name no interpreter ({VARIABLE})"
            ),
        ) from None
    return versions


def setup(
    python: Path | str | None = None,
    *,
    rebuild: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Build the environment unless it exists; a failure leaves nothing behind.

    Args:
        python: A Python 3.10, or None to look for one.
        rebuild: Whether to build it again if it exists.
        say: Called with a description of each step.

    Returns:
        The environment's interpreter.

    Raises:
        ToolchainError: If there is no Python 3.10 or a step fails (with the end of its output).
    """
    folder = environment_folder()
    if (folder / MARKER).is_file() and not rebuild:
        say(f"the environment is there: {folder}")
        return interpreter(folder)
    base = find_python310(python)
    say(f"Python 3.10: {base}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            terminable(),
            tempfile.TemporaryDirectory(prefix=f"{folder.name}.building-", dir=folder.parent) as scratch,
        ):
            _build(base, Path(scratch), say)
            if folder.exists():
                shutil.rmtree(folder)
            (Path(scratch) / "venv").rename(folder)
    except OSError as error:
        raise ToolchainError(f"cannot build the environment ({error.strerror})", where=str(folder)) from error
    return interpreter(folder)


def _build(base: Path, scratch: Path, say: Callable[[str], None]) -> None:
    """Build the environment in `scratch / "venv"`; temporary files go into `scratch` too."""
    building = scratch / "venv"
    say("creating the environment")
    _step([str(base), "-I", "-m", "venv", str(building)], scratch, "creating the virtual environment failed")
    inner = str(interpreter(building))
    pip = [inner, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if sys.platform == "linux":
        say("installing torch 2.3.1 for CPUs")
        code, _ = _run([*pip, "--retries", "0", "--index-url", CPU_INDEX, "torch==2.3.1+cpu"], scratch)
        if code:
            say(
                "the CPU wheel is not available; torch is installed from the default index (2.5 GB with CUDA)"
            )
    say("installing " + " ".join(REQUIREMENTS))
    _step([*pip, *REQUIREMENTS], scratch, "installing lava-dl failed")
    say("importing lava-dl")
    versions = probe(interpreter(building))
    (building / MARKER).write_text(json.dumps({"python": str(base), "versions": versions}) + "\n")


def _run(command: list[str], temporary: Path) -> tuple[int, str]:
    """Exit code and output of a set-up step; on interruption, the step and the processes it started are killed."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_variables() | {"TMPDIR": str(temporary), "TEMP": str(temporary)},
        start_new_session=True,
    )
    with process:
        try:
            output, _ = process.communicate()
        finally:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            elif process.returncode is None:
                process.kill()
    return process.returncode, output


def _step(command: list[str], temporary: Path, reason: str) -> None:
    code, output = _run(command, temporary)
    if code:
        tail = "\n".join(output.strip().splitlines()[-8:])
        raise ToolchainError(f"{reason}:\n{tail}", where=" ".join(command[:4]))


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within the block, SIGTERM ends this process as Ctrl-C does, so that clean-up runs.

    An existing handler, such as that of the command line, is kept.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def shared_memory() -> tuple[int, int] | None:
    """Size and free bytes of the shared memory that holds Lava's channels; None if there is no /dev/shm."""
    if not SHARED_MEMORY.is_dir():
        return None
    facts = os.statvfs(SHARED_MEMORY)
    return facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Result of one check.

    Attributes:
        subject: What was checked.
        good: Whether it is as it should be.
        finding: What was found.
        advice: What to do about it; empty if nothing.
    """

    subject: str
    good: bool
    finding: str
    advice: str = ""


def diagnose() -> list[Diagnosis]:
    """Check everything that running Lava depends on, in the order in which to repair it."""
    found: list[Diagnosis] = []
    try:
        python = lava_python()
    except ToolchainError as error:
        try:
            base = find_python310()
            found.append(Diagnosis("Python 3.10", True, f"{python_version(base)} at {base}"))
        except ToolchainError as missing:
            found.append(Diagnosis("Python 3.10", False, missing.reason, missing.hint))
        found.append(Diagnosis("Lava environment", False, f"{error.where}: {error.reason}", error.hint))
    else:
        by = VARIABLE if os.environ.get(VARIABLE) else "built by `tcja-deploy lava setup`"
        found.append(Diagnosis("Lava environment", True, f"{python} ({by})"))
        found.append(_diagnose_import(python))
    memory = shared_memory()
    if memory is None:
        found.append(
            Diagnosis("shared memory", True, "no /dev/shm on this system; its size cannot be checked")
        )
    else:
        size, free = memory
        enough = free >= 256 << 20
        advice = "" if enough else "large networks need more: start the container with --shm-size=2g"
        found.append(
            Diagnosis("shared memory", enough, f"{free >> 20} MiB free of {size >> 20} in /dev/shm", advice)
        )
    return found


def _diagnose_import(python: Path) -> Diagnosis:
    subject = "import of lava-dl"
    try:
        versions = probe(python)
    except ToolchainError as error:
        return Diagnosis(subject, False, error.reason, error.hint)
    good = all(versions[name] == version for name, version in (item.split("==") for item in REQUIREMENTS[:2]))
    advice = "" if good else "results were verified with " + " and ".join(REQUIREMENTS[:2])
    return Diagnosis(
        subject, good, ", ".join(f"{name} {version}" for name, version in versions.items()), advice
    )
