"""What commands import: nothing heavy before it is needed. Lists of modules, because times are another machine's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from golden_files import DATA

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.ir_file import save_graph
from tcja_deploy.runtime.activity.file import load_activity

HEAVY = frozenset(
    (
        "torch",
        "torchvision",
        "spikingjelly",
        "norse",
        "snntorch",
        "tonic",
        "onnx",
        "onnxruntime",
        "nir",
        "nirtorch",
        "h5py",
        "numba",
        "llvmlite",
        "scipy",
        "pandas",
        "matplotlib",
        "PIL",
        "faery",
    )
)
SHIPPED = Path(__file__).parents[2] / "tcja_deploy/data/digits_checkpoint_max.pth"
NMNIST = SHIPPED.with_name("nmnist_checkpoint_max.pth")

RUN = """
import sys
from tcja_deploy.cli import main
sys.argv = ["tcja-deploy", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    code = ended.code or 0
else:
    code = 0
print("imported", code, *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def imported(*command: str, code: int = 0, timeout: float = 60) -> set[str]:
    """Top-level modules that a command has imported at its end."""
    ran = subprocess.run(
        [sys.executable, "-c", RUN, *command], capture_output=True, text=True, timeout=timeout, check=True
    )
    word, ended, *names = ran.stderr.splitlines()[-1].split()
    assert (word, int(ended)) == ("imported", code), ran.stderr
    return set(names)


@pytest.mark.parametrize("command", ["--help", "export --help", "profiles list"])
def test_what_needs_no_model_imports_no_numpy(command: str) -> None:
    assert not imported(*command.split()) & (HEAVY | {"numpy"})


def test_inspecting_a_graph_computes_nothing(tmp_path: Path) -> None:
    save_graph(zoo.build("events34", channels=(2, 2, 2), T=2, hidden=4), tmp_path / "m.tcja")
    names = imported("inspect", str(tmp_path / "m.tcja"))
    assert not names & HEAVY
    assert "numpy" in names


def test_inspecting_a_checkpoint_needs_no_torch() -> None:
    assert not imported("inspect", str(SHIPPED)) & HEAVY


def test_mistakes_are_told_before_anything_is_imported(tmp_path: Path) -> None:
    assert not imported("verify", str(tmp_path / "nothing.onnx"), code=3) & HEAVY
    assert not imported("export", str(SHIPPED), "-t", "nothing", code=2) & HEAVY


def test_the_event_engine_counts_without_torch_what_torch_counts(tmp_path: Path) -> None:
    """Gates, votes and all: the whole command on a network of the paper."""
    data, counts = DATA / "n-mnist" / "Test", tmp_path / "counts.npz"
    command = (
        "rates",
        str(NMNIST),
        "--data",
        str(data),
        "--limit",
        "10",
        "--engine",
        "events",
        "--save",
        str(counts),
    )
    assert "torch" not in imported(*command, timeout=300)  # the first process compiles
    expected = td.rates(NMNIST, data, limit=10, engine="torch", progress=False)
    assert load_activity(counts).same_as(expected.activity.activity)
