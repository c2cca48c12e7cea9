"""The real Lava, its own convolution: every spike of every stage equals the twin's."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import write_bundle
from graphs import frames_for
from integer_nets import random_dense_network, random_frames, random_network
from test_lower import GRAPHS

import tcja_deploy as td
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.twin import Twin

SWEEP = [
    # seed, gates, parts of the gate, input, windows
    (0, 0, "both", "spikes", 3),
    (1, 1, "both", "counts", 2),
    (2, 2, "both", "spikes", 3),
    (3, 1, "add", "signed", 2),
    (4, 1, "tla", "spikes", 3),
    (5, 2, "tla", "counts", 2),
    (6, 1, "cla", "spikes", 2),
    (7, 2, "cla", "signed", 3),
    (8, 0, "both", "counts", 2),
    (9, 2, "add", "spikes", 2),
]


def case(seed, gates, kind, entry, windows):
    """Network and frames of a row of the sweep."""
    network = random_network(seed, gates=gates, kind=kind, binary=entry == "spikes")
    return network, random_frames(network, windows, seed, signed=entry == "signed")


def equal_in_lava(network, frames, folder):
    """Run a network in Lava; every stage of it must spike and equal the twin."""
    write_bundle(network, folder, frames[:, :1], about={})
    agreement = td.verify(folder, None, [frames])
    assert agreement.samples == frames.shape[1]
    assert [layer.name for layer in agreement.layers] == [stage.name for stage in network.stages]
    assert agreement.mismatches == 0, agreement.layers
    assert agreement.passed
    for layer in agreement.layers:
        assert layer.spikes > 0, layer.name


@pytest.mark.slow
@pytest.mark.usefixtures("quick_lava")
@pytest.mark.parametrize("row", SWEEP, ids=str)
def test_random_networks(row, tmp_path):
    """Channels, kernels, strides, paddings, dilations, groups, pools, biases, decays of both states, thresholds."""
    network, frames = case(*row)
    equal_in_lava(network, frames, tmp_path / "b")


def test_the_sweep_reaches_what_it_should():
    """Every feature occurs in a stage that spikes in part of its neurons, in each of the windows."""
    reached = set()
    for row in SWEEP:
        network, frames = case(*row)
        names = [stage.name for stage in network.stages]
        recorded = Twin(network).run(frames, record=names).recorded
        for stage in network.stages:
            for window in recorded[stage.name].swapaxes(0, 1):
                assert 0 < np.count_nonzero(window) < window.size, (row, stage.name)
            reached |= features(stage, row[2])
    assert reached == {
        *(
            "kernel 3 x 3",
            "kernel 1 x 3",
            "stride",
            "padding",
            "groups",
            "one group a channel",
            "pool",
            "dense",
        ),
        *("dilated rows", "dilated columns", "threshold per channel", "negative bias", "uneven pool"),
        *(f"leak {decay}" for decay in (0, 123, 1024, 2048, 4096)),
        *(f"current {decay}" for decay in (0, 1024, 3001, 4096)),
        *(
            "gate both",
            "gate add",
            "gate tla",
            "gate cla",
            "gate pool max",
            "gate pool sum",
            "gate pool None",
        ),
    }


def features(stage, kind):
    """What a stage is an example of."""
    if not isinstance(stage, LayerStage):
        return {f"gate {kind}", f"gate pool {stage.pool and stage.pool.kind}"}
    found = {f"leak {stage.v_decay}", f"current {stage.i_decay}"}
    found |= {"threshold per channel"} if stage.threshold.ndim else set()
    found |= {"negative bias"} if stage.bias.min() < 0 else set()
    if stage.kind == "dense":
        return found | {"dense"}
    rows, columns = stage.weight.shape[2:]
    if stage.kind == "pool":
        return {"pool", "uneven pool"} if rows != columns else {"pool"}
    there = {
        f"kernel {rows} x {columns}": (rows, columns) in ((3, 3), (1, 3)),
        "stride": max(stage.stride) > 1,
        "padding": max(stage.padding) > 0,
        "groups": stage.groups > 1,
        "one group a channel": stage.groups == stage.in_shape[0] > 1,
        "dilated rows": stage.dilation[0] > 1 < rows,
        "dilated columns": stage.dilation[1] > 1 < columns,
    }
    return found | {name for name, holds in there.items() if holds}


EXTREMES = {
    "leaking currents": lambda: random_network(101, extreme=True),
    "24 bits": lambda: random_network(109, extreme=True),
    "dense": lambda: random_dense_network(100, payload=20000),
}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_lava")
@pytest.mark.parametrize("name", EXTREMES)
def test_wrapping_and_saturating_networks(name, tmp_path, monkeypatch):
    """Beyond the lint: biases of more than 16 bits, sums beyond 24 bits, currents that wrap, saturating voltages."""
    network = EXTREMES[name]()
    frames = random_frames(network, 2, signed=name == "dense")
    findings = type("Findings", (), {"notes": ()})
    monkeypatch.setattr("tcja_deploy.exporters.lava.bundle.check", lambda network: findings)
    equal_in_lava(network, frames, tmp_path / "b")
    first = Twin(network).run(frames).counts[network.stages[0].name]
    assert first.wraps > 0
    assert first.saturations > 0
    assert (first.peak > 1 << 23) == (name == "24 bits")
    assert (np.abs(network.stages[0].bias).max() > 1 << 15) == (name != "dense")


@pytest.mark.slow
@pytest.mark.usefixtures("quick_lava")
@pytest.mark.parametrize(
    "name",
    [
        "maps into dense",
        "many groups",
        "rules",
        "affine neurons",
        "geometry",
        "average, odd size",
        "host pools",
        "real in",
        "max, gate, max",
        "readout of a gate",
    ],
)
def test_quantised_graphs(name, tmp_path):
    """From the graph through the quantiser to Lava, with the fast convolution."""
    graph = GRAPHS[name]()
    frames = frames_for(graph, 2)
    report = td.export(graph, "lava", tmp_path / "b", data=[frames])
    assert report.agreement.passed
    agreement = td.verify(tmp_path / "b", None, [frames], fast_conv=True)
    assert agreement.mismatches == 0, agreement.layers
    assert agreement.predictions_equal == 2
    assert agreement.output_difference == 0
    for layer in agreement.layers:
        assert layer.spikes > 0, layer.name
