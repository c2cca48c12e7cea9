"""The Python interface: `load`, `export`, `verify`."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import DataError, FileFormatError, UsageError
from tcja_deploy.exporters.report import ExportReport, Fidelity
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.frontend import load as frontend
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.runtime import sequence
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.version import torch_version
from tcja_deploy.zoo.modules import to_module


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "checkpoint_max.pth"
    arch = zoo.events34(channels=(4, 6, 6), T=4, hidden=20)
    torch.save({"net": to_module(arch, zoo.random_state(arch, seed=3)).state_dict()}, path)
    return path


def net() -> nn.Module:
    return nn.Sequential(layer.Conv2d(2, 3, 3, step_mode="m"), neuron.IFNode(step_mode="m")).eval()


def test_importing_is_light() -> None:
    code = "import sys, tcja_deploy; print(sorted(set(sys.modules) & {'torch', 'numpy', 'onnx', 'h5py', 'pandas', 'typer'}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n"


def test_what_the_package_offers() -> None:
    functions = {
        "benchmark",
        "compare",
        "energy",
        "export",
        "inspect",
        "load",
        "neurobench",
        "open_data",
        "rates",
        "stream",
        "tune",
        "verify",
    }
    assert set(td.__all__) == {"DeployError", "__version__"} | functions
    for name in ("export", "load", "verify"):
        assert inspect.getdoc(getattr(td, name))
    here, there = (inspect.signature(f).parameters for f in (td.load, frontend.load))
    assert {*there, "progress"} == set(here)
    assert all(here[name].default == there[name].default for name in there)


def test_from_checkpoint_to_verified_model(checkpoint: Path, tmp_path: Path) -> None:
    graph = td.load(str(checkpoint))
    assert isinstance(graph, Graph)
    report = td.export(graph, "onnx", str(tmp_path / "m.onnx"))
    assert isinstance(report, ExportReport)
    assert report.agreement is not None
    assert report.agreement.passed
    assert report.agreement.samples == 4
    assert all(f.is_file() for f in report.files)
    assert {n.fidelity for n in report.nodes} == {Fidelity.EXACT}
    agreement = td.verify(tmp_path / "m.onnx", graph)
    assert isinstance(agreement, Agreement)
    assert agreement.as_dict() == report.agreement.as_dict()
    own = td.verify(str(tmp_path / "m.onnx"), graph, [synthetic_frames(graph, 2, seed=7)], bound=1e-3)
    assert (own.samples, own.bound) == (2, 1e-3)


def test_targets(checkpoint: Path, tmp_path: Path) -> None:
    graph = td.load(checkpoint)
    with pytest.raises(UsageError, match="unknown target 'tflite'") as caught:
        td.export(graph, "tflite", tmp_path / "m")
    for target in TARGETS:
        assert target in caught.value.hint
        assert f'"{target}"' in (inspect.getdoc(td.export) or "")
    with pytest.raises(UsageError, match="target onnx has no option no_such_option"):
        td.export(graph, "onnx", tmp_path / "m", no_such_option=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["batches", "graph", "target", "artifact", "options"])
def test_no_other_argument_is_taken_for_an_option(name: str, checkpoint: Path, tmp_path: Path) -> None:
    """Also not names that the functions below these have."""
    given: Any = {name: []}
    if name != "target":
        with pytest.raises(UsageError, match=f"target onnx has no option {name}"):
            td.export(checkpoint, "onnx", tmp_path / "net.onnx", **given)
    td.export(checkpoint, "onnx", tmp_path / "net.onnx", verify=False)
    if name != "artifact":
        with pytest.raises(UsageError, match=f"verifying target onnx has no option {name}"):
            td.verify(tmp_path / "net.onnx", checkpoint, **given)


def test_verify_without_the_network(checkpoint: Path, tmp_path: Path) -> None:
    td.export(td.load(checkpoint), "onnx", tmp_path / "m.onnx", verify=False)
    with pytest.raises(UsageError, match="exported from is needed"):
        td.verify(tmp_path / "m.onnx")
    with pytest.raises(FileFormatError):
        td.verify(checkpoint)


def test_live_module() -> None:
    graph = td.load(net(), input_shape=(2, 8, 8), timesteps=3)
    assert graph.T == 3
    assert graph.input.signal.kind is Kind.COUNT


@pytest.mark.parametrize("kind", ["binary", "count", "graded", "real", Kind.REAL])
def test_input_kind(kind: str) -> None:
    graph = td.load(net(), input_shape=(2, 8, 8), timesteps=3, input_kind=kind)
    assert graph.input.signal.kind is Kind(kind)
    frames = synthetic_frames(graph, 1)
    assert (kind == "binary") <= bool(np.isin(frames, (0, 1)).all())


def test_input_kind_that_makes_no_sense() -> None:
    with pytest.raises(UsageError, match="no signal kind 'spikes'"):
        td.load(net(), input_shape=(2, 8, 8), timesteps=3, input_kind="spikes")


def test_input_kind_of_a_checkpoint(checkpoint: Path) -> None:
    """The authors' scripts fix what frames hold, but people train their networks on other frames."""
    counts, real = td.load(checkpoint), td.load(checkpoint, input_kind="real")
    assert (counts.input.signal.kind, real.input.signal.kind) == (Kind.COUNT, Kind.REAL)
    frames = synthetic_frames(counts, 1)
    assert torch.equal(sequence.run(real, frames), sequence.run(counts, frames))
    assert real.hash != counts.hash


def test_arguments_that_a_source_has_no_use_for(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="a module already fixes arch"):
        td.load(net(), input_shape=(2, 8, 8), timesteps=3, arch="dvs128")
    with pytest.raises(UsageError, match="a checkpoint already fixes batch_first"):
        td.load(checkpoint, batch_first=True)
    with pytest.raises(UsageError, match="a checkpoint has no use for dt"):
        td.load(checkpoint, dt=1e-3)


def test_every_error_is_a_deploy_error(checkpoint: Path) -> None:
    for call in (
        lambda: td.load("nothing.pth"),
        lambda: td.load(checkpoint, timesteps=9),
        lambda: td.load(net()),
        lambda: td.verify("nothing.onnx"),
    ):
        with pytest.raises(td.DeployError) as caught:
            call()
        assert caught.value.reason
        assert str(caught.value).startswith(caught.value.where)


def test_arguments_of_another_kind(checkpoint: Path, tmp_path: Path) -> None:
    graph = td.load(checkpoint)
    frames = synthetic_frames(graph, 2)
    with pytest.raises(UsageError, match="input"):
        td.export(net(), "onnx", tmp_path / "m.onnx")  # as for load: a module does not tell its frames
    with pytest.raises(UsageError, match="holds no recordings that this can read"):
        td.export(graph, "onnx", tmp_path / "m.onnx", data=7)
    with pytest.raises(UsageError, match="limit are about recordings, but there are none"):
        td.export(graph, "onnx", tmp_path / "m.onnx", limit=2)
    assert not list(tmp_path.iterdir())
    td.export(graph, "onnx", tmp_path / "m.onnx", data=frames)
    assert td.verify(tmp_path / "m.onnx", checkpoint, [frames]).passed
    with pytest.raises(UsageError, match="read already"):
        td.verify(tmp_path / "m.onnx", graph, loading={"timesteps": 4})
    assert td.verify(tmp_path / "m.onnx", graph, frames).samples == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_frames_that_are_not_finite(value: float, checkpoint: Path, tmp_path: Path) -> None:
    """A membrane of NaN never spikes: everything would agree."""
    graph = td.load(checkpoint)
    frames = synthetic_frames(graph, 2)
    frames[0, 0, 0, 0, 0] = value
    with pytest.raises(DataError, match="not finite"):
        td.export(graph, "onnx", tmp_path / "m.onnx", data=[frames])
    assert not list(tmp_path.iterdir())


def test_a_model_in_any_form_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    """A path and a module give what the graph of each gives."""
    td.export(checkpoint, "onnx", tmp_path / "path.onnx", verify=False)
    td.export(td.load(checkpoint), "onnx", tmp_path / "graph.onnx", verify=False)
    assert (tmp_path / "path.onnx").read_bytes() == (tmp_path / "graph.onnx").read_bytes()
    loading = {"timesteps": 3, "input_shape": (2, 8, 8)}
    report = td.export(net(), "onnx", tmp_path / "module.onnx", loading=loading)
    assert report.agreement is not None
    assert report.agreement.passed


def test_the_build_of_torch_is_named_without_importing_it() -> None:
    assert torch_version() == torch.__version__
    code = "import sys; from tcja_deploy.version import torch_version; torch_version(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
