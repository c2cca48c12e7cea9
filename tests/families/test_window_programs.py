"""Attention of every family as a window program: what it computes is as near to the float ops as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from family_nets import FAMILIES, net

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.programs import compile_region, program_error
from tcja_deploy.exporters.lava.regions import Region, regions
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.window.program import Program

FLOAT32 = 2e-5
"""What the float side of the comparison rounds: sums of a few thousand numbers below 10 in float32."""
ATTENTION = {
    "tcja": 2, "tla": 2, "cla": 2, "tcja-added": 2, "tcja-heads": 2, "cross": 2, "ma-t": 2, "ma-c": 2, "ma-s": 2, "ma-tcs": 4,
    "ma-stepwise": 2, "att-ms-resnet": 3, "ms-resnet-tcja": 3, "max-resnet": 2, "fsvae-encoder": 2, "fsvae-decoder": 2,
}  # fmt: skip
"""How many regions each family has; all others have none."""


def payloads(signal, T, seed):
    """Windows [T, N, ...] of payloads with their unit and bounds: random ones, silence, and the extremes."""
    rng = np.random.default_rng(seed)
    unit, low, high = (1.0, 0, 1) if signal.kind is Kind.BINARY else (813.7, -5000, 5000)
    shape = (T, *signal.features)
    corners = np.where(rng.random(shape) < 0.5, low, high)
    windows = [
        rng.integers(low, high + 1, shape),
        (rng.random(shape) < 0.05) * high,
        corners,
        0 * corners,
        0 * corners + high,
    ]
    return unit, low, high, np.stack(windows, 1)


@pytest.mark.parametrize("key", FAMILIES)
def test_each_family_has_its_regions(key):
    graph = net(key).graph
    found = regions(graph)
    assert len(found) == ATTENTION.get(key, 0)
    names = [name for region in found for name in region.nodes]
    assert len(set(names)) == len(names)
    left = [node for node in graph if node.name not in names and isinstance(node.op, ir.Sigmoid | ir.TCJA)]
    assert [n.name for n in left] == (
        ["sigmoid"] if key == "fsvae-decoder" else []
    )  # of the picture, on the host
    assert {r.frames for r in found} <= ({1} if key in ("ma-stepwise", "max-resnet") else {graph.T})


@pytest.mark.parametrize("out_unit", [None, 64.0, 4096.0])
@pytest.mark.parametrize("key", ATTENTION)
def test_a_program_is_as_near_to_the_float_ops_as_it_says(key, out_unit):
    graph = net(key).graph
    for number, region in enumerate(regions(graph)):
        signal = graph[region.source].signal
        unit, low, high, window = payloads(signal, graph.T, number)
        compiled = compile_region(graph, region, unit=unit, low=low, high=high, out_unit=out_unit)
        assert out_unit is None or compiled.unit == out_unit
        assert program_error(graph, region, compiled, unit, window) <= compiled.error + FLOAT32
        rounding = 0.0 if out_unit is None else 0.5 / out_unit
        gates = signal.kind is Kind.BINARY
        assert compiled.error <= rounding + (
            5e-4 if gates else 0.08
        )  # streams are up to 6.1 large, gates up to 1
        assert max(compiled.program.magnitudes) < 1 << 62
        assert compiled.program.bits[-1] <= 32


def test_the_table_of_window_programs_md() -> None:
    """Steps, bits, error and bound of the first attention of the families that the page names."""
    page = (Path(__file__).parents[2] / "docs" / "window-programs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+ \(`([\w-]+)`\) \| (\d+) \| (\d+) \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
    assert len(rows) == 10
    for key, steps, bits, error, bound in rows:
        graph = net(key).graph
        region = regions(graph)[0]
        unit, low, high, window = payloads(graph[region.source].signal, graph.T, 0)
        compiled = compile_region(graph, region, unit=unit, low=low, high=high, out_unit=None)
        assert len(compiled.program.description["steps"]) == int(steps), key
        assert max(compiled.program.magnitudes).bit_length() == int(bits), key
        assert compiled.error == pytest.approx(float(bound), rel=0.05), key
        # The float side rounds by the machine's own order of sums.
        assert program_error(graph, region, compiled, unit, window) == pytest.approx(
            float(error), rel=0.05, abs=FLOAT32
        ), key


def test_a_program_survives_its_own_description():
    graph = net("ma-tcs").graph
    region = regions(graph)[0]
    unit, low, high, window = payloads(graph[region.source].signal, graph.T, 0)
    program = compile_region(graph, region, unit=unit, low=low, high=high).program
    again = Program(json.loads(json.dumps(program.description)), program.arrays)
    samples = np.moveaxis(window, 1, 0)
    assert (again.run(samples) == program.run(samples)).all()
    assert again.bounds == program.bounds


def test_a_program_of_one_frame_runs_every_frame_alone():
    graph = net("ma-stepwise").graph
    region = regions(graph)[0]
    compiled = compile_region(graph, region, unit=1, low=0, high=1)
    assert compiled.program.frames == 1
    _, _, _, window = payloads(graph[region.source].signal, graph.T, 5)
    assert program_error(graph, region, compiled, 1, window) <= compiled.error + FLOAT32


def sequence(*ops, kind=Kind.REAL, features=(3, 4, 4)):
    """A graph of ops one after another."""
    builder = GraphBuilder(3)
    value = builder.add("input", ir.Input(features, kind))
    for i, op in enumerate(ops):
        value = builder.add(f"op{i}", op, value)
    return builder.finish(value)


@pytest.mark.parametrize(
    "op",
    [
        ir.Affine(scale=-0.7, offset=0.3), ir.Affine(scale=3.0), ir.Affine(scale=-1.0, offset=1.0),
        ir.Clamp(low=-0.2, high=1.3), ir.Clamp(high=0.5), ir.ReLU(), ir.Slice(axis=2, start=1, stop=3),
        ir.AvgPool2d((2, 2), (2, 2)),
        ir.AvgPool2d((3, 3), (1, 1), (1, 1)), ir.AdaptiveAvgPool2d((2, 2)), ir.MaxPool2d((2, 2), (1, 2), (1, 0)),
        ir.Reduce("sum", (2,), keepdims=True), ir.Flatten(),
        ir.Linear(np.full((2, 4), 0.3, np.float32), np.ones(2, np.float32)),
        ir.BatchNorm2d(*(np.array(v, np.float32) for v in ([1.5, -2, 0.1], [0, 3, -0.2], [0.1, 0, 1], [2, 0.5, 1]))),
    ],
    ids=lambda op: type(op).__name__,
)  # fmt: skip
def test_every_op_by_itself(op):
    graph = sequence(op)
    region = Region("input", (graph.nodes[1].name,), 1)
    compiled = compile_region(graph, region, unit=1000, low=-4000, high=4000)
    rng = np.random.default_rng(0)
    window = np.concatenate([rng.integers(-4000, 4001, (3, 2, 3, 4, 4)), np.full((3, 1, 3, 4, 4), -4000)], 1)
    assert program_error(graph, region, compiled, 1000, window) <= compiled.error + FLOAT32
    assert compiled.error < 2e-3


def test_ops_without_a_rule_are_listed():
    graph = sequence(ir.AdaptiveAvgPool2d((3, 3)), ir.Vote(2))
    region = Region("input", ("op0", "op1"), 1)
    with pytest.raises(UnsupportedError, match=r"(?s)uneven windows") as caught:
        compile_region(graph, region, unit=1, low=-5, high=5)
    assert "op0" in str(caught.value)
