"""The real Lava, its own convolution: every spike of every stage equals the twin's."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import frames_for
from integer_nets import random_frames, random_network
from test_lower import GRAPHS

from tcja_deploy.exporters.lava.bundle import write_bundle
from tcja_deploy.exporters.lava.export import export_lava, verify_bundle

SWEEP = [
    # seed, gates, parts of the gate, binary input, windows
    (0, 0, "both", True, 3),
    (1, 1, "both", False, 2),
    (2, 2, "both", True, 3),
    (3, 1, "add", False, 2),
    (4, 1, "tla", True, 3),
    (5, 2, "tla", False, 2),
    (6, 1, "cla", True, 2),
    (7, 2, "cla", False, 3),
    (8, 0, "both", False, 2),
    (9, 2, "add", True, 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "gates", "kind", "binary", "windows"), SWEEP)
def test_random_networks(seed, gates, kind, binary, windows, tmp_path, lava_python):
    """Channels, strides, paddings, groups, pools, biases, decays of both states, thresholds at random."""
    network = random_network(seed, gates=gates, kind=kind, binary=binary)
    frames = random_frames(network, windows, seed)
    write_bundle(network, tmp_path / "b", frames[:, :1], about={})
    agreement = verify_bundle(tmp_path / "b", [frames], python=lava_python, timeout=120)
    assert agreement.samples == windows
    assert [layer.name for layer in agreement.layers] == [stage.name for stage in network.stages]
    assert agreement.mismatches == 0, agreement.layers
    assert agreement.passed
    assert agreement.layers[0].spikes > 0


def test_the_sweep_reaches_what_it_should():
    """Its networks spike everywhere that matters, wrap nowhere by design, and hold all kinds of stages."""
    kinds, spikes = set(), 0
    for seed, gates, kind, binary, _ in SWEEP:
        for stage in random_network(seed, gates=gates, kind=kind, binary=binary).stages:
            kinds.add(getattr(stage, "kind", kind))
            spikes += 1
    assert kinds >= {"conv", "dense", "pool", "both", "add", "tla", "cla"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101])
def test_wrapping_and_saturating_networks(seed, tmp_path, lava_python, monkeypatch):
    """Beyond the lint: biases of more than 16 bits, currents that wrap, voltages that saturate."""
    network = random_network(seed, extreme=True)
    frames = random_frames(network, 2, seed)
    findings = type("Findings", (), {"notes": ()})
    monkeypatch.setattr("tcja_deploy.exporters.lava.bundle.check", lambda network: findings)
    write_bundle(network, tmp_path / "b", frames[:, :1], about={})
    agreement = verify_bundle(tmp_path / "b", [frames], python=lava_python, timeout=120)
    assert agreement.mismatches == 0, agreement.layers


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "rules",
        "geometry",
        "average, odd size",
        "host pools",
        "real in",
        "max, gate, max",
        "readout of a gate",
    ],
)
def test_quantised_graphs(name, tmp_path, lava_python):
    """From the graph through the quantiser to Lava, with the fast convolution."""
    graph = GRAPHS[name]()
    frames = frames_for(graph, 2)
    report = export_lava(graph, tmp_path / "b", data=[frames])
    assert report.agreement.passed
    agreement = verify_bundle(tmp_path / "b", [frames], python=lava_python, fast_conv=True, timeout=120)
    assert agreement.mismatches == 0, agreement.layers
    assert agreement.predictions_equal == 2
    assert np.isclose(agreement.output_difference, 0)
