"""What the export writes, refuses and reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nir_nets import chain, conv_net, frames_of, normal, small

import tcja_deploy as td
from tcja_deploy.errors import (
    DataError,
    ExportError,
    FileFormatError,
    UnsupportedError,
    UsageError,
)
from tcja_deploy.exporters.nir.artifact import read_nir_artifact
from tcja_deploy.exporters.nir.convolution import portable
from tcja_deploy.exporters.nir.emit import emit
from tcja_deploy.exporters.nir.target import NIR
from tcja_deploy.exporters.pipeline import run_export
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.runtime.sequence import evaluate, run
from tcja_deploy.unsupported import Unsupported


# -- convolutions ------------------------------------------------------------------------------------------------
@settings(max_examples=150)
@given(
    st.integers(1, 4), st.integers(1, 4), st.tuples(*[st.integers(0, 3)] * 4), st.tuples(*[st.integers(1, 2)] * 2),
    st.tuples(*[st.integers(1, 2)] * 2), st.sampled_from([1, 2]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_portable_convolutions_compute_the_same(
    kh: int, kw: int, padding: Any, stride: Any, dilation: Any, groups: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    whole = np.round(
        normal(rng, 4, 4 // groups, kh, kw, scale=5.0)
    )  # whole numbers: sums are exact in any order
    op = ir.Conv2d(whole, np.round(normal(rng, 4, scale=5.0)), stride, padding, dilation, groups)
    x = torch.from_numpy(rng.integers(0, 5, (2, 4, 11, 12)).astype(np.float32))
    try:
        written, _ = portable(op)
    except Unsupported:
        heights, widths = kh - padding[0] - padding[2], kw - padding[1] - padding[3]
        if dilation != (1, 1):
            heights, widths = (
                d * (k - 1) + 1 - p for d, k, p in
                ((dilation[0], kh, padding[0] + padding[2]), (dilation[1], kw, padding[1] + padding[3]))
            )  # fmt: skip
        assert (heights - widths) % 2 == 1
        return
    assert written.weight.shape[2] == written.weight.shape[3]
    assert written.padding[:2] == written.padding[2:]
    assert written.groups == 1
    assert torch.equal(evaluate(written, x), evaluate(op, x))


def test_ordinary_convolutions_stay_as_they_are() -> None:
    op = ir.Conv2d(normal(np.random.default_rng(0), 4, 2, 3, 3), padding=(1, 1, 1, 1), dilation=(2, 2))
    assert portable(op) == (op, "")


# -- one file ----------------------------------------------------------------------------------------------------
def test_files_and_manifest(tmp_path: Path) -> None:
    graph = conv_net()
    report = td.export(graph, "nir", tmp_path / "net", data=frames_of(graph))
    assert report.path == tmp_path / "net.nir"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.golden.npz", "net.manifest.json", "net.nir"]
    assert set(report.files) == set(tmp_path.iterdir())
    manifest = json.loads((tmp_path / "net.manifest.json").read_text())
    assert manifest["target"] == "nir"
    assert manifest["nir"]["dt"] == 1e-4
    assert manifest["nir"]["gate"] == "refuse"
    assert manifest["parity"]["mismatches"] == 0
    assert manifest["model"]["sha256"] == graph.hash
    golden = np.load(tmp_path / "net.golden.npz")
    assert np.array_equal(run(graph, golden["input"]).numpy(), golden["output"])
    assert np.array_equal(read_nir_artifact(report.path).run(golden["input"]).output, golden["output"])


def test_the_file_says_what_it_means(tmp_path: Path) -> None:
    graph = conv_net(neuron=ir.LIF(tau=4.0, v_threshold=0.5, v_reset=-0.5, decay_input=False))
    report = td.export(graph, "nir", tmp_path / "net.nir", dt=1e-3, verify=False)
    written = nir.read(report.path)  # with its own check of all shapes
    noted = json.loads(written.metadata["tcja_deploy"])
    assert (noted["dt"], noted["T"], noted["input_kind"], noted["readout"]) == (
        1e-3,
        10,
        "count",
        [["TimeMean"]],
    )
    assert noted["model_sha256"] == graph.hash
    lif = written.nodes["lif.1"]
    assert np.unique(lif.tau) == 4e-3
    assert (np.unique(lif.r), np.unique(lif.v_leak), np.unique(lif.v_reset)) == (1.0, 0.0, 0.0)
    # u = (v + 0.5) / 4 reaches (0.5 + 0.5) / 4, written as the number before it.
    assert np.unique(lif.v_threshold) == np.nextafter(np.float32(0.25), np.float32(0))
    assert report.agreement is None


def test_round_trip_gives_the_network_back(tmp_path: Path) -> None:
    graph = conv_net(pool=ir.MaxPool2d((2, 2), (2, 2)))
    td.export(graph, "nir", tmp_path / "net.nir", verify=False)
    read = load_nir(tmp_path / "net.nir")
    assert [type(n.op) for n in read] == [type(n.op) for n in graph]
    for ours, theirs in zip(graph, read, strict=True):
        for name, value in ours.op.constants().items():
            assert np.array_equal(value, theirs.op.constants()[name]), (ours.name, name)


def test_an_export_of_a_read_file_is_the_same_file(tmp_path: Path) -> None:
    td.export(conv_net(), "nir", tmp_path / "a.nir", verify=False)
    td.export(load_nir(tmp_path / "a.nir"), "nir", tmp_path / "b.nir", verify=False)
    a, b = nir.read(tmp_path / "a.nir"), nir.read(tmp_path / "b.nir")
    assert list(a.nodes) == list(b.nodes)
    assert sorted(a.edges) == sorted(b.edges)
    for name, node in a.nodes.items():
        for key, value in node.to_dict().items():
            assert np.array_equal(value, b.nodes[name].to_dict()[key]), (name, key)


def test_nothing_is_overwritten_or_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = conv_net()
    td.export(graph, "nir", tmp_path / "net.nir", verify=False)
    before = (tmp_path / "net.nir").read_bytes()
    with pytest.raises(ExportError, match="something at this path"):
        td.export(graph, "nir", tmp_path / "net.nir", verify=False)

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nir, "write", fail)
    with pytest.raises(ExportError):
        td.export(graph, "nir", tmp_path / "net.nir", verify=False, force=True)
    with pytest.raises(ExportError):
        td.export(small(), "nir", tmp_path / "split", gate="split", verify=False)
    assert (tmp_path / "net.nir").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_arguments(tmp_path: Path) -> None:
    graph = conv_net()
    with pytest.raises(UsageError, match="unknown gate"):
        td.export(graph, "nir", tmp_path / "n.nir", gate="drop")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a time step"):
        td.export(graph, "nir", tmp_path / "n.nir", dt=0.0)
    with pytest.raises(DataError, match="no samples"):
        td.export(graph, "nir", tmp_path / "n.nir", data=[])
    td.export(graph, "nir", tmp_path / "n.nir", verify=False)
    with pytest.raises(DataError, match="no samples"):
        td.verify(tmp_path / "n.nir", graph, [])
    with pytest.raises(UsageError, match="no runner"):
        td.verify(tmp_path / "n.nir", graph, frames_of(graph), runner="brian")
    other = conv_net(gain=2.0)
    with pytest.raises(FileFormatError, match="not exported from the given network"):
        td.verify(tmp_path / "n.nir", other, frames_of(graph))
    nir.write(tmp_path / "foreign.nir", nir.NIRGraph.from_list(nir.Linear(np.ones((2, 2), np.float32))))
    with pytest.raises(FileFormatError, match="not written by tcja-deploy"):
        td.verify(tmp_path / "foreign.nir", graph, frames_of(graph))


def test_progress_counts_samples(tmp_path: Path) -> None:
    graph, seen = conv_net(), []
    run_export(
        NIR,
        graph,
        tmp_path / "n.nir",
        data=frames_of(graph, 2, 3),
        progress=lambda _, done: seen.append(done),
    )
    assert seen == [2, 4, 6]


def test_names_that_readers_would_confuse(tmp_path: Path) -> None:
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((2,), Kind.REAL))
    for name in ("a.b", "a_b", "for", "a/b", "output", "ü"):
        x = b.add(name, ir.Linear(np.eye(2, dtype=np.float32)), x)
    graph = b.finish(b.add("spikes", ir.IF(), x))
    x = np.ones((3, 1, 2), np.float32)
    report = td.export(graph, "nir", tmp_path / "n.nir", data=[x])
    for runner in ("norse", "spikingjelly"):
        pytest.importorskip({"norse": "norse.torch", "spikingjelly": "spikingjelly"}[runner])
        assert td.verify(report.path, graph, [x], runner=runner).mismatches == 0


# -- what NIR cannot hold ------------------------------------------------------------------------------------------
def test_every_obstacle_is_named() -> None:
    b = GraphBuilder(4)
    x = b.add("input", ir.Input((4, 8, 8), Kind.REAL))
    pooled = b.add("pool", ir.MaxPool2d((2, 2), (2, 2)), x)
    uneven = b.add("uneven", ir.Conv2d(np.ones((4, 4, 2, 3), np.float32)), pooled)
    gated = b.add("sigmoid", ir.Sigmoid(), uneven)
    product = b.add("mul", ir.Mul(), gated, uneven)
    soft = b.add("soft", ir.LIF(v_reset=None), product)
    shifted = b.add("shift", ir.Affine(1.0, 2.0), soft)
    squeezed = b.add("adaptive", ir.AdaptiveAvgPool2d((2, 1)), shifted)
    mean = b.add("mean", ir.AvgPool2d((2, 1), (2, 1), (1, 0), count_include_pad=False), squeezed)
    graph = b.finish(b.add("spikes", ir.IF(), b.add("turn", ir.Permute((0, 1, 3, 4, 2)), mean)))
    with pytest.raises(UnsupportedError) as error:
        emit(graph, 1e-4, {})
    text = str(error.value)
    assert "NIR cannot express 9 nodes" in text
    for part in (
        "pool: NIR has no max-pooling; of binary spikes it is a logical or, but these are real",
        "uneven: the kernel (2, 3)",
        "sigmoid: NIR has no primitive for Sigmoid",
        "mul: NIR has no primitive for Mul",
        "soft: a spike lowers this membrane by the threshold (soft reset)",
        "shift: NIR has no constant offset",
        "adaptive: [3, 2] does not divide into [2, 1] equal windows",
        "mean: NIR's average counts the padded zeros",
        "turn: NIR has no primitive for Permute",
    ):
        assert part in text


def test_integrators_of_nothing_doubled_values_and_sums_as_result() -> None:
    with pytest.raises(UnsupportedError, match="computes nothing"):
        emit(chain(3, (4,), ir.LI(0.0)), 1e-4, {})
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((4,), Kind.REAL))
    with pytest.raises(UnsupportedError, match="no double edges"):
        emit(b.finish(b.add("twice", ir.Add(), x, x)), 1e-4, {})
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((2, 3, 3), Kind.REAL))
    graph = b.finish(b.add("sum", ir.Add(), x, b.add("spikes", ir.IF(), x)))
    frames = np.random.default_rng(0).normal(size=(3, 2, 2, 3, 3)).astype(np.float32)
    assert np.array_equal(run(load_nir(emit(graph, 1e-4, {}).graph, 3, dt=1e-4), frames), run(graph, frames))


@pytest.mark.parametrize(
    "op",
    [
        ir.AvgPool2d((2, 2), (2, 2)),
        ir.AvgPool2d((3, 3), (1, 1), (1, 1)),
        ir.AdaptiveAvgPool2d((2, 4)),
        ir.AdaptiveAvgPool2d((8, 8)),
        ir.Affine(0.3),
        ir.BatchNorm2d(*(np.arange(1, 5, dtype=np.float32),) * 4),
        ir.LI(0.25),
        ir.LI(0.25, decay_input=False, v_leak=0.5),
        ir.LI(0.0, decay_input=False),
        ir.Flatten(),
    ],
)
def test_ops_as_results(op: Any) -> None:
    graph = chain(3, (4, 8, 8), op)
    frames = np.random.default_rng(0).poisson(1.0, (3, 2, 4, 8, 8)).astype(np.float32)
    read = load_nir(emit(graph, 1e-4, {}).graph, 3, dt=1e-4)
    # Sums of up to nine numbers below 10 in another order, and normalisation as one multiplication.
    assert np.abs(run(read, frames).numpy() - run(graph, frames).numpy()).max() < 1e-5


@pytest.mark.parametrize("factor", [ir.AvgPool2d((2, 2), (2, 2)), ir.AvgPool2d((3, 3), (1, 1), (1, 1))])
@pytest.mark.parametrize("behind", ["conv", "linear", "neuron", "pool", "norm", "affine"])
def test_factors_arrive_behind_pooling(factor: ir.AvgPool2d, behind: str) -> None:
    rng = np.random.default_rng(0)
    tail: dict[str, tuple[Any, ...]] = {
        "conv": (ir.Conv2d(normal(rng, 3, 4, 3, 3)),),
        "linear": (ir.Flatten(), ir.Linear(normal(rng, 5, 4 * (16 if factor.padding == (0, 0) else 64)))),
        "neuron": (ir.PLIF(0.3, decay_input=False),),
        "pool": (ir.AdaptiveAvgPool2d((2, 2)), ir.Flatten(), ir.Linear(normal(rng, 5, 16))),
        "norm": (ir.BatchNorm2d(*(np.arange(1, 5, dtype=np.float32),) * 4),),
        "affine": (ir.Affine(2.0), ir.IF(2.5)),
    }
    graph = chain(4, (4, 8, 8), factor, *tail[behind])
    frames = rng.poisson(1.0, (4, 2, 4, 8, 8)).astype(np.float32)
    read = load_nir(emit(graph, 1e-4, {}).graph, 4, dt=1e-4)
    got, expected = run(read, frames).numpy(), run(graph, frames).numpy()
    # Weights divided by 4 or 9, rounded once; sums of numbers below 100.
    assert np.abs(got - expected).max() < 1e-4


# -- without the package -------------------------------------------------------------------------------------------
def test_without_nir_there_is_a_hint() -> None:
    code = (
        "import sys; sys.modules['nir'] = None\n"
        "from tcja_deploy.errors import ToolchainError\n"
        "from tcja_deploy.exporters.targets import TARGETS\n"
        "from tcja_deploy.nir_file.load import load_nir\n"
        "try:\n    TARGETS['nir'].translate(None, None, None, None)\n"
        "except ToolchainError as error:\n    print(error.hint)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "pip install 'tcja-deploy[nir]'\n"
