"""What the Lava tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lava_leftovers import leftovers
from preloaded import PreloadedLava

from tcja_deploy.errors import ToolchainError
from tcja_deploy.exporters.lava import environment, verify

sys.path.insert(0, str(Path(__file__).parents[2] / "runtime"))  # the random integer networks


@pytest.fixture(scope="session")
def lava_python() -> Path:
    """An interpreter with lava-dl; the test is skipped where there is none."""
    try:
        return environment.lava_python()
    except ToolchainError as error:
        pytest.skip(f"no Lava environment ({error.reason}); run `tcja-deploy lava setup`")


@pytest.fixture(scope="session")
def preloaded(lava_python):
    """A process that has imported lava-dl, once for all tests that only ask what Lava computes."""
    with PreloadedLava(lava_python) as lava:
        yield lava


@pytest.fixture
def quick_lava(preloaded, monkeypatch):
    """Lets `verify` run Lava in forks of one process instead of a new one each."""
    monkeypatch.setattr(verify, "run_lava", preloaded.run)


@pytest.fixture
def clean(tmp_path, monkeypatch):
    """The folder for temporary files; checks that none is left there, and no shared memory or process."""
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc to look for processes")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield temporary
    assert leftovers() == set()
    assert list(temporary.iterdir()) == []
