"""Gates that NIR does not have: refused, as constants, or on the host between segments; folders that somebody touched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nir_nets import chain, conv_net, frames_of, normal, small

import tcja_deploy as td
from tcja_deploy.errors import (
    DataError,
    FileFormatError,
    UnsupportedError,
    UsageError,
)
from tcja_deploy.exporters.manifest import SEAL, seal
from tcja_deploy.exporters.nir.artifact import read_nir_artifact
from tcja_deploy.exporters.nir.convolution import diagonal
from tcja_deploy.exporters.nir.gates import divergence, fold_gates, mean_gates
from tcja_deploy.exporters.report import Fidelity
from tcja_deploy.ir import Graph, GraphBuilder, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run


def test_gates_are_refused_with_the_alternatives(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as error:
        td.export(small(), "nir", tmp_path / "n.nir")
    assert "conv.5, conv.9" in error.value.reason
    assert "--gate mean" in error.value.hint
    assert "--gate split" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_mean_gates_need_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="have to be measured"):
        td.export(small(), "nir", tmp_path / "n.nir", gate="mean")
    with pytest.raises(DataError):
        mean_gates(small(), [])


def test_mean_gates_are_the_mean_of_the_gates() -> None:
    """The gate is what the block multiplies spikes by: read off its input and output where there is a spike."""
    graph = small()
    batches = frames_of(graph, 3, 2)
    gates = mean_gates(graph, batches)
    assert set(gates) == {"conv.5", "conv.9"}
    values: dict[str, list[Any]] = {"conv.4": [], "conv.5": []}

    def observe(node: Node, value: torch.Tensor) -> None:
        if node.name in values:
            values[node.name].append(value.numpy().copy())

    for frames in batches:
        run(graph, frames, observe=observe)
    x, y = (np.concatenate(v, 1) for v in values.values())  # [T, N, C, H, W]
    gate = y.max((3, 4))
    assert (x.max((3, 4)) == 1).all(), "a channel without a spike does not show its gate"
    assert np.allclose(gates["conv.5"], gate.mean((0, 1)), atol=1e-6)


def constant(graph: Graph) -> Graph:
    """The network with attention weights of zero: every gate is sigmoid(0) = 1/2 at all times."""
    b = GraphBuilder(graph.T)
    for node in graph:
        op = node.op
        if isinstance(op, ir.TCJA):
            op = replace(op, tla=np.zeros_like(op.tla), cla=np.zeros_like(op.cla))
        b.add(node.name, op, *node.inputs)
    return b.finish(graph.output)


def test_constant_gates_diverge_nowhere(tmp_path: Path) -> None:
    graph = constant(small())
    batches = frames_of(graph)
    report = td.export(graph, "nir", tmp_path / "n.nir", gate="mean", data=batches)
    assert report.comparisons["divergence"].mismatches == 0
    assert report.comparisons["divergence"].predictions_equal == 4
    assert report.agreement is not None
    assert report.agreement.mismatches == 0
    assert {n.fidelity for n in report.nodes if n.op == "TCJA"} == {Fidelity.APPROXIMATED}
    assert "0.500 to 0.500" in next(n.note for n in report.nodes if n.op == "TCJA")


def test_divergence_is_reported_layer_by_layer(tmp_path: Path) -> None:
    graph = small()
    batches = frames_of(graph, 3, 2)
    report = td.export(graph, "nir", tmp_path / "n.nir", gate="mean", data=iter(batches))
    assert report.comparisons["divergence"] == divergence(
        graph, fold_gates(graph, mean_gates(graph, batches)), batches
    )
    text = "\n".join(report.notes)
    assert f"{report.comparisons['divergence'].predictions_equal} of 6 predictions" in text
    for layer in report.comparisons["divergence"].layers:
        assert f"{layer.name}: " in text
    manifest = json.loads((tmp_path / "n.manifest.json").read_text())
    assert manifest["comparisons"]["divergence"]["mismatches"] == report.comparisons["divergence"].mismatches
    # Verified against the network with constant gates, which the file alone lets one rebuild.
    assert td.verify(report.path, graph, batches).mismatches == 0


def test_mean_gates_without_weights_behind(tmp_path: Path) -> None:
    for tail in ((), (ir.IF(),)):
        graph = chain(4, (3, 4, 4), ir.IF(), ir.TCJA(tla=np.zeros((3, 3, 2), np.float32)), *tail)
        with pytest.raises(UnsupportedError, match="weights"):
            td.export(graph, "nir", tmp_path / "n.nir", gate="mean", data=frames_of(graph))


@pytest.mark.parametrize(
    "op",
    [
        {"tla": True, "cla": True},
        {"tla": True},
        {"cla": True},
        {"tla": True, "cla": True, "fusion": "add"},
    ],
)
def test_split_is_exact_for_every_kind_of_gate(op: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    T = 5
    weights = {
        "tla": normal(rng, 4, 4, 3, scale=3.0) if op.get("tla") else None,
        "cla": normal(rng, T, T, 2, scale=3.0) if op.get("cla") else None,
    }
    graph = chain(
        T, (2, 8, 8), ir.Conv2d(normal(rng, 4, 2, 3, 3)), ir.LIF(),
        ir.TCJA(**weights, fusion=op.get("fusion", "multiply")), ir.AvgPool2d((2, 2), (2, 2)), ir.Flatten(),
        ir.Linear(normal(rng, 6, 36)), ir.LIF(), ir.Vote(2), ir.TimeMean(),
    )  # fmt: skip
    batches = frames_of(graph)
    report = td.export(graph, "nir", tmp_path / "net", gate="split", data=batches)
    assert report.agreement is not None
    assert report.agreement.mismatches == 0
    kinds = [e["kind"] for e in json.loads((tmp_path / "net" / "manifest.json").read_text())["nir"]["stages"]]
    assert kinds == ["nir", "host", "nir", "host"]
    for frames in batches:
        result = read_nir_artifact(tmp_path / "net").run(frames)
        assert np.array_equal(result.output, run(graph, frames).numpy())
        assert set(result.spikes) == {n.name for n in graph.neurons}


@pytest.mark.parametrize("groups", [1, 2])
def test_each_channel_gets_its_own_gate(groups: int) -> None:
    """The oracle is a convolution that multiplies each channel where the block was; powers of two round nothing."""
    rng, b = np.random.default_rng(0), GraphBuilder(5)

    def layers(name: str, x: str, *ops: Any) -> str:
        for i, op in enumerate(ops):
            x = b.add(f"{name}.{i}", op, x)
        return x

    x = b.add("input", ir.Input((2, 12, 12)))
    x = layers("first", x, ir.Conv2d(normal(rng, 4, 2, 3, 3)), ir.LIF())
    x = b.add("one", ir.TCJA(normal(rng, 4, 4, 2), None), x)
    second = ir.Conv2d(normal(rng, 6, 4 // groups, 2, 2, scale=2.0), groups=groups)
    x = layers("second", x, ir.MaxPool2d((2, 2), (2, 2)), second, ir.LIF())
    x = b.add("two", ir.TCJA(normal(rng, 6, 6, 2), None), x)
    dense = ir.Linear(normal(rng, 8, 24, scale=3.0))
    x = layers("third", x, ir.AvgPool2d((2, 2), (2, 2)), ir.Flatten(), dense, ir.LIF())
    graph = b.finish(x)
    gates = {
        "one": np.array([1, 0.5, 0.25, 0.125], np.float32),
        "two": np.array([0.125, 1, 0.5, 0.25, 0.5, 1], np.float32),
    }
    explicit = GraphBuilder(5)
    for node in graph:
        gate = gates.get(node.name)
        explicit.add(node.name, node.op if gate is None else diagonal(gate[:, None, None]), *node.inputs)
    frames = rng.poisson(1.0, (5, 4, 2, 12, 12)).astype(np.float32)
    apart = divergence(explicit.finish(graph.output), fold_gates(graph, gates), [frames])
    assert all(layer.spikes > 0 for layer in apart.layers)
    assert apart.mismatches == 0


def test_two_blocks_on_the_same_spikes(tmp_path: Path) -> None:
    rng, b = np.random.default_rng(0), GraphBuilder(4)
    conv = ir.Conv2d(normal(rng, 3, 2, 3, 3))
    x = b.add("lif", ir.LIF(), b.add("conv", conv, b.add("input", ir.Input((2, 8, 8)))))
    one = b.add("one", ir.TCJA(normal(rng, 3, 3, 2), normal(rng, 4, 4, 2)), x)
    two = b.add("two", ir.TCJA(normal(rng, 3, 3, 2), None), x)
    weighted = [b.add(f"{v}.conv", ir.Conv2d(normal(rng, 2, 3, 3, 3)), v) for v in (one, two)]
    graph = b.finish(b.add("out", ir.LIF(), b.add("sum", ir.Add(), *weighted)))
    frames = [rng.poisson(1.0, (4, 3, 2, 8, 8)).astype(np.float32)]
    gates = mean_gates(graph, frames)
    assert set(gates) == {"one", "two"}
    assert not np.allclose(gates["one"], gates["two"], atol=1e-2)
    for gate in ("mean", "split"):
        report = td.export(graph, "nir", tmp_path / gate, gate=gate, data=frames)  # type: ignore[arg-type]
        assert report.agreement is not None
        assert report.agreement.passed


def test_split_of_a_network_that_nir_holds_has_one_segment(tmp_path: Path) -> None:
    graph = conv_net()
    td.export(graph, "nir", tmp_path / "net", gate="split", data=frames_of(graph))
    assert sorted(p.name for p in (tmp_path / "net").iterdir()) == [
        "0.nir",
        "1.tcja",
        "golden.npz",
        "manifest.json",
    ]


def test_split_keeps_neurons_on_nir(tmp_path: Path) -> None:
    graph = chain(4, (3, 4, 4), ir.IF(v_reset=None), ir.TCJA(tla=np.zeros((3, 3, 2), np.float32)))
    with pytest.raises(UnsupportedError, match="soft reset"):
        td.export(graph, "nir", tmp_path / "net", gate="split")
    assert not list(tmp_path.iterdir())


def test_other_attention_runs_on_the_host(tmp_path: Path) -> None:
    """Channel attention in plain ops: NIR holds none of it."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(4)
    x = b.add("input", ir.Input((2, 8, 8)))
    s = b.add("lif", ir.LIF(), b.add("conv", ir.Conv2d(normal(rng, 6, 2, 3, 3)), x))
    z = b.add("squeeze", ir.Reduce("mean", (3, 4)), s)
    gate = b.add("gate", ir.Sigmoid(), b.add("dense", ir.Linear(normal(rng, 6, 6)), z))
    gate = b.add("map", ir.Reshape(("T", "N", 6, 1, 1), (0, 1)), gate)
    y = b.add("gated", ir.Mul(), s, gate)
    f = b.add("fc", ir.Linear(normal(rng, 5, 216)), b.add("flat", ir.Flatten(), y))
    graph = b.finish(b.add("out", ir.LIF(), f))
    report = td.export(graph, "nir", tmp_path / "net", gate="split", data=frames_of(graph))
    assert report.agreement is not None
    assert report.agreement.mismatches == 0
    stages = json.loads((tmp_path / "net" / "manifest.json").read_text())["nir"]["stages"]
    assert [(e["kind"], e["nodes"]) for e in stages] == [
        ("nir", ["conv", "lif"]),
        ("host", ["squeeze", "dense", "gate", "map", "gated"]),
        ("nir", ["flat", "fc", "out"]),
    ]


@pytest.mark.parametrize(
    ("touch", "reason"),
    [
        (lambda f: (f / "manifest.json").unlink(), "there is no manifest.json"),
        (lambda f: (f / "manifest.json").write_text("{}"), "not a manifest"),
        (lambda f: (f / "manifest.json").write_text('{"target": "nir"}'), "not a manifest"),
        (lambda f: rewrite(f, lambda m: m.update(format_version=1)), "has version 1"),
        (lambda f: rewrite(f, lambda m: m.update(nir={"stages": []})), "not exported from"),
        (lambda f: rewrite(f, lambda m: m["nir"]["stages"].append({})), "manifest is damaged"),
        (lambda f: rewrite(f, lambda m: m.pop("nir")), "manifest is damaged"),
        (lambda f: rewrite(f, lambda m: m.update(notes=["x"]), resealed=False), "content has changed"),
        (lambda f: (f / "1.tcja").write_bytes(b"other"), "1.tcja: has 5 bytes"),
        (lambda f: (f / "2.nir").unlink(), "2.nir: is missing"),
        (lambda f: redirect(f, "../outside.nir"), "outside.nir: lies outside the export"),
    ],
)
def test_touched_folders(touch: Any, reason: str, tmp_path: Path) -> None:
    graph = small()
    td.export(graph, "nir", tmp_path / "net", gate="split", verify=False)
    touch(tmp_path / "net")
    with pytest.raises(FileFormatError, match=reason):
        td.verify(tmp_path / "net", graph, frames_of(graph))


def redirect(folder: Path, name: str) -> None:
    """Let the manifest name a file outside of its folder."""
    (folder / "0.nir").rename(folder / name)

    def change(manifest: Any) -> None:
        manifest["nir"]["stages"][0]["file"] = name
        manifest["files"][name] = manifest["files"].pop("0.nir")

    rewrite(folder, change)


def rewrite(folder: Path, change: Any, *, resealed: bool = True) -> None:
    """Change the manifest, and put its own hash right."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    if resealed:
        manifest[SEAL] = seal(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
