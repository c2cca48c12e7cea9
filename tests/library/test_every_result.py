"""Every function of the Python interface that finds something out: quiet, with a bar, and a result that shows itself.

A function that is new has to be here, since the list is compared with the package's.
"""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import tcja_deploy as td
from tcja_deploy.exporters.lava.tuning.tune import TuneOptions
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.library import progress
from tcja_deploy.library.result import Result
from tcja_deploy.library.schemas import DOCUMENTS, schema_text

MODEL = "tcja_deploy/data/digits_checkpoint_max.pth"
NO_RESULTS = {"load", "open_data", "DeployError", "__version__"}
"""A graph, recordings, an error and a text."""


def net() -> Graph:
    rng = np.random.default_rng(0)
    b = GraphBuilder(4)
    x = b.add("flat", ir.Flatten(), b.add("input", ir.Input((2, 6, 6), Kind.BINARY)))
    x = b.add("spikes", ir.LIF(), b.add("sum", ir.Linear(rng.normal(0, 0.3, (12, 72)).astype(np.float32)), x))
    x = b.add("classes", ir.Linear(rng.normal(0, 0.5, (3, 12)).astype(np.float32)), x)
    return b.finish(b.add("mean", ir.TimeMean(), b.add("out", ir.LIF(), x)))


GRAPH = net()
DATA = (
    (np.random.default_rng(1).random((4, 6, 2, 6, 6)) < 0.3).astype(np.float32),
    np.arange(6) % 3,
)

CALLS: dict[str, Callable[[Path], Result]] = {
    "benchmark": lambda folder: td.benchmark(GRAPH, DATA, targets=["onnx"], turns=1),
    "compare": lambda folder: td.compare({"a": GRAPH, "b": GRAPH}, DATA),
    "energy": lambda folder: td.energy(GRAPH, DATA),
    "export": lambda folder: td.export(GRAPH, "onnx", folder / "a.onnx", data=DATA),
    "inspect": lambda folder: td.inspect(GRAPH),
    "neurobench": lambda folder: td.neurobench(GRAPH, DATA),
    "rates": lambda folder: td.rates(GRAPH, DATA),
    "stream": lambda folder: td.stream(GRAPH, DATA),
    "tune": lambda folder: td.tune(GRAPH, DATA, options=TuneOptions(epochs=2)),
    "verify": lambda folder: td.verify(_exported(folder), GRAPH, DATA),
}
DOCUMENTED = {
    "benchmark": "benchmark", "compare": "comparison", "energy": "energy-report", "export": "export",
    "inspect": "inspection", "neurobench": "neurobench", "rates": "firing-rates", "stream": "stream", "tune": "tuning",
    "verify": "verification",
}  # fmt: skip


def _exported(folder: Path) -> Path:
    return td.export(GRAPH, "onnx", folder / "v.onnx", verify=False, progress=False).path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_all_are_here() -> None:
    assert set(CALLS) | NO_RESULTS == set(td.__all__)
    assert set(DOCUMENTED.values()) <= set(DOCUMENTS)


@pytest.mark.parametrize("name", CALLS)
def test_a_result(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(progress, "Console", lambda file: Console(file=terminal))
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    found = CALLS[name](tmp_path)
    assert isinstance(found, Result)
    if name != "inspect":  # a graph is loaded already
        assert terminal.getvalue(), "no bar"
    assert capsys.readouterr().out == ""
    assert "<table>" in found._repr_html_()
    assert len(str(found)) > 50
    frame = found.frame()
    assert len(frame)
    assert found.plot().has_data()
    assert len({plot.key for plot in found.plots()}) == len(found.plots())
    for suffix in (".html", ".json", ".csv", ".tex", ".md"):
        assert found.save(tmp_path / f"result{suffix}").stat().st_size > 50
    record = json.loads((tmp_path / "result.json").read_text())
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads(schema_text(DOCUMENTED[name]))
    jsonschema.validate(record, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", CALLS)
def test_no_bar_if_none_is_wanted(name: str) -> None:
    offered = getattr(td, name)
    offered = offered if inspect.isfunction(offered) else sys.modules["tcja_deploy.library.accounting"].energy
    parameters = inspect.signature(offered).parameters
    assert (
        "progress" in parameters
        or "Unpack[RunArguments]" in str(parameters.get("running"))
        or name == "inspect"
    )


QUIET = """
import sys, tempfile, pathlib
import tcja_deploy as td
model, folder = sys.argv[1], pathlib.Path(tempfile.mkdtemp())
import numpy as np
graph = td.load(model)
data = (np.random.default_rng(0).random((graph.T, 2, *graph.input_shape)) < 0.05).astype(np.float32)
td.inspect(model)
td.rates(graph, data)
td.energy(graph, data)
td.stream(graph, data)
td.export(graph, "onnx", folder / "a.onnx", data=data)
td.verify(folder / "a.onnx", graph, data)
td.compare([graph, graph], data)
try:
    import spikingjelly
except ModuleNotFoundError:
    pass
else:
    import torch
    from spikingjelly.activation_based import layer, neuron
    net = torch.nn.Sequential(layer.Flatten(), layer.Linear(8, 4), neuron.LIFNode(step_mode="s"))
    td.load(net, input_shape=(2, 2, 2), timesteps=3, prove=True)
"""


def test_nothing_is_warned_about(tmp_path: Path) -> None:
    """All warnings are shown here, and there are none but those of the script's own import of SpikingJelly."""
    (tmp_path / "quiet.py").write_text(QUIET)
    model = Path(__file__).resolve().parents[2] / MODEL
    words = [sys.executable, "-W", "always", "quiet.py", str(model)]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = [line for line in ran.stderr.splitlines() if "spikingjelly" not in line and "jit" not in line]
    assert ran.stdout == ""
    assert told == [], ran.stderr
