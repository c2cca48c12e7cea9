"""A target of a few lines, put into the table: it exports and verifies like those that ship."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.artifacts import artifact_target
from tcja_deploy.cli import app as cli
from tcja_deploy.cli.targets import target_options
from tcja_deploy.errors import ExportError, FileFormatError, UnsupportedError, UsageError
from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.pipeline import run_export
from tcja_deploy.exporters.report import Fidelity, NodeReport
from tcja_deploy.exporters.target import Bounded, Check, ExportProgress, Target, Translation, option
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir_file import load_graph, save_graph
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.reference import Reference
from tcja_deploy.runtime.sequence import run, run_with_spikes
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.unsupported import Unsupported, UnsupportedParts

# -- the target: what a folder of its own would hold -----------------------------------------------------------------------
MAGIC = b"scratch\n"


@dataclass(frozen=True)
class ScratchOptions:
    """Options of an export."""

    shift: float = field(default=0.0, metadata=option("What is added to every threshold."))


class ScratchTranslation(Translation):
    """The folded graph as a file of this program, behind a line that says what it is."""

    def __init__(self, network: Prepared, options: ScratchOptions) -> None:
        found = UnsupportedParts()
        for node in network.trained:
            if isinstance(node.op, ir.LI):
                found.add(node.name, Unsupported("is a leaky integrator"))
        found.raise_if_any(UnsupportedError, "scratch cannot express {}", noun="node")
        self._network, self._shift = network, options.shift
        self.reference = Reference(network.folded)
        self.nodes = tuple(NodeReport(n.name, type(n.op).__name__, Fidelity.EXACT) for n in network.trained)
        self.notes = ("a target for tests",)
        self.about = {"shift": options.shift}

    def write(self, artifact: Path) -> None:
        inner = artifact.with_suffix(".tcja")
        save_graph(shifted(self._network.folded, self._shift), inner)
        artifact.write_bytes(MAGIC + inner.read_bytes())
        inner.unlink()

    def golden(self, sample: np.ndarray) -> dict[str, Any]:
        return {"input": sample, "output": self.reference.run_sample(sample).output}

    def check(self, artifact: Path, frames: FrameBatches, bound: float, progress: ExportProgress) -> Check:
        return Check(compared(artifact, self.reference, frames, Bounded(bound), progress))


def verify(
    artifact: Path, network: Prepared, frames: FrameBatches, options: Bounded, progress: ExportProgress
) -> Agreement:
    return compared(artifact, Reference(network.folded), frames, options, progress)


def compared(
    artifact: Path, reference: Reference, frames: FrameBatches, options: Bounded, progress: ExportProgress
) -> Agreement:
    inner = artifact.with_name("read.tcja")
    inner.write_bytes(artifact.read_bytes().removeprefix(MAGIC))
    graph, total = load_graph(inner), Agreement((), 0, 0, 0.0, options.bound)
    inner.unlink()
    for batch in frames:
        result = run_with_spikes(graph, batch)
        total += reference.compare(batch, *result, bound=options.bound, first_sample=total.samples)
        progress("verifying", total.samples)
    return total


SCRATCH = Target(
    name="scratch",
    title="Scratch",
    about="a graph behind a line",
    suffix=".scratch",
    runtime="the sequence runtime",
    options=ScratchOptions,
    verification=Bounded,
    translate=lambda network, frames, options, progress: ScratchTranslation(network, options),
    recognise=lambda path: path.is_file() and path.read_bytes().startswith(MAGIC),
    verify=verify,
)
# -- its end ---------------------------------------------------------------------------------------------------------------


def shifted(graph: Graph, shift: float) -> Graph:
    """Neurons that fire later."""
    from dataclasses import replace

    nodes = (
        replace(n, op=replace(n.op, v_threshold=n.op.v_threshold + shift))
        if isinstance(n.op, ir.Neuron)
        else n
        for n in graph
    )
    return replace(graph, nodes=tuple(nodes))


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> str:
    """The one line in the table."""
    monkeypatch.setitem(TARGETS, SCRATCH.name, SCRATCH)
    return SCRATCH.name


@pytest.fixture(scope="module")
def graph() -> Graph:
    return zoo.build("events34", channels=(4, 6, 6), T=4, hidden=16)


def test_export_and_verify(scratch: str, graph: Graph, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    report = run_export(
        TARGETS[scratch], graph, tmp_path / "net", progress=lambda doing, done: told.append((doing, done))
    )
    assert [f.name for f in report.files] == ["net.golden.npz", "net.manifest.json", "net.scratch"]
    assert report.agreement is not None
    assert report.agreement.passed
    assert told[-1] == ("verifying", 4)
    manifest = json.loads((tmp_path / "net.manifest.json").read_text())
    assert (manifest["target"], manifest["format_version"]) == ("scratch", 2)
    assert manifest["parity"] == report.agreement.as_dict()
    assert manifest["comparisons"]["folding"]["samples"] == 1
    assert manifest["scratch"] == {"shift": 0.0}
    golden = np.load(tmp_path / "net.golden.npz")
    assert np.array_equal(golden["output"], run(load_folded(graph), golden["input"]).numpy())
    assert artifact_target(report.path) is SCRATCH
    assert td.verify(report.path, graph, [synthetic_frames(graph, 2, seed=9)]).passed
    with pytest.raises(ExportError, match="something at this path"):
        td.export(graph, scratch, tmp_path / "net")


def load_folded(graph: Graph) -> Graph:
    from tcja_deploy.passes import fold_batch_norm

    return fold_batch_norm(graph)


def test_what_is_verified_is_not_in_place_yet(
    scratch: str, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    original = ScratchTranslation.check

    def check(self: ScratchTranslation, artifact: Path, *rest: Any) -> Check:
        seen.append([p.name for p in tmp_path.iterdir() if not p.name.startswith(".")])
        manifest = json.loads(artifact.with_name("net.manifest.json").read_text())
        assert manifest["parity"] is None
        assert artifact.with_name("net.golden.npz").is_file()
        return original(self, artifact, *rest)

    monkeypatch.setattr(ScratchTranslation, "check", check)
    td.export(graph, scratch, tmp_path / "net")
    assert seen == [[]]


def test_one_that_differs_is_written_and_says_so(scratch: str, graph: Graph, tmp_path: Path) -> None:
    report = td.export(graph, scratch, tmp_path / "net", shift=0.5)
    assert report.agreement is not None
    assert not report.agreement.passed
    parity = json.loads((tmp_path / "net.manifest.json").read_text())["parity"]
    assert parity["passed"] is False
    assert parity["mismatches"] > 0


def test_what_it_cannot_express_and_options_it_does_not_have(
    scratch: str, graph: Graph, tmp_path: Path
) -> None:
    builder = GraphBuilder(3)
    integrator = builder.add("membrane", ir.LI(0.5), builder.add("input", ir.Input((4,), Kind.COUNT)))
    with pytest.raises(UnsupportedError, match="1 node:\n  - membrane: is a leaky integrator"):
        td.export(builder.finish(integrator), scratch, tmp_path / "net")
    with pytest.raises(UsageError, match="target scratch has no option opset"):
        td.export(graph, scratch, tmp_path / "net", opset=17)
    (tmp_path / "other").write_bytes(b"something")
    with pytest.raises(FileFormatError, match="not an artifact") as caught:
        td.verify(tmp_path / "other", graph)
    assert SCRATCH.about in caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_the_command_line_offers_its_options(scratch: str) -> None:
    got: list[object] = []

    @target_options(lambda name: TARGETS[name].options, "--target {}")
    def command(model: str, given: dict[str, Any] = {}) -> None:  # noqa: B006
        got.append((model, given))

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, ["m", "--shift", "0.25"])
    assert result.exit_code == 0, result.output
    assert got == [("m", {"shift": 0.25})]


def test_through_the_command_line(scratch: str, graph: Graph, tmp_path: Path) -> None:
    save_graph(graph, tmp_path / "net.tcja")
    wanted = ["export", str(tmp_path / "net.tcja"), "-t", scratch, "-o", str(tmp_path / "out.scratch")]
    done = CliRunner().invoke(cli, wanted)
    assert done.exit_code == 0, done.output
    assert "the sequence runtime agrees" in done.output
    assert "note: a target for tests" in done.output
    check = ["verify", str(tmp_path / "out.scratch"), "-m", str(tmp_path / "net.tcja"), "--bound", "0"]
    assert CliRunner().invoke(cli, check).exit_code == 0
    refused = CliRunner().invoke(cli, [*check, "--backend", "twin"]).exception
    assert isinstance(refused, UsageError)
    assert "does not apply to this artifact" in refused.reason


def test_normalisations_are_folded_once(
    scratch: str, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folding, verifying and measuring what folding changes share one folded network."""
    from tcja_deploy.passes import fold

    merged: list[object] = []
    original = fold._merge
    monkeypatch.setattr(fold, "_merge", lambda op, norm: merged.append(norm) or original(op, norm))
    norms = sum(isinstance(n.op, ir.BatchNorm1d | ir.BatchNorm2d) for n in graph)
    for i, name in enumerate(("onnx", "onnx-step", "lava", scratch)):
        merged.clear()
        td.export(graph, name, tmp_path / f"m{i}")
        assert len(merged) == norms, name
