"""The shipped networks: every spike in the real Lava, and the accuracy that quantisation costs."""

from __future__ import annotations

import pytest
from golden_files import count_recordings

import tcja_deploy as td
from tcja_deploy.data import path
from tcja_deploy.events import open_data
from tcja_deploy.frontend.load import load

RECORDINGS = 20


def batches(graph, source, limit=None):
    channels, height, width = graph.input_shape
    data = open_data(source, timesteps=graph.T, sensor=(height, width), channels=channels, limit=limit)
    return list(data.batches(50))


@pytest.fixture(scope="module")
def nmnist_bundle(nmnist, tmp_path_factory):
    graph = load(path("nmnist_checkpoint_max.pth"))
    calibration = [frames for frames, _ in batches(graph, nmnist / "Train", 100)]
    folder = tmp_path_factory.mktemp("nmnist") / "bundle"
    report = td.export(graph, "lava", folder, data=calibration, test=batches(graph, nmnist / "Test"))
    return graph, folder, report


@pytest.mark.larger_sets
def test_quantisation_costs_at_most_half_a_point_on_nmnist(nmnist_bundle):
    _, _, report = nmnist_bundle
    accuracy = report.accuracy
    assert accuracy.labelled == 100
    assert accuracy.loss <= 0.5
    assert accuracy.agree >= 98
    assert all(stage.wraps == 0 for stage in report.stages)
    for stage in report.stages:
        assert abs(stage.rate_integer - stage.rate_float) < 0.02 * stage.rate_float, stage.name


@pytest.mark.slow
def test_nmnist_in_lava(nmnist_bundle, nmnist, lava_python):
    graph, folder, _ = nmnist_bundle
    frames = [frames for frames, _ in batches(graph, nmnist / "Test", RECORDINGS)]
    agreement = td.verify(folder, None, frames, python=lava_python, timeout=600)
    assert agreement.samples == min(RECORDINGS, count_recordings(nmnist / "Test"))
    assert agreement.mismatches == 0, agreement.layers
    assert agreement.passed
    assert all(layer.spikes > 0 for layer in agreement.layers)


@pytest.mark.slow
def test_digits_in_lava(tmp_path, lava_python):
    """Lava's own convolution."""
    graph = load(path("digits_checkpoint_max.pth"))
    data = batches(graph, path("digits_test_events.npz"))
    report = td.export(graph, "lava", tmp_path / "b", data=[data[0][0]], test=data)
    assert report.accuracy.labelled == 100
    assert report.accuracy.loss <= 1.0
    frames = [frames for frames, _ in batches(graph, path("digits_test_events.npz"), RECORDINGS)]
    agreement = td.verify(tmp_path / "b", None, frames, python=lava_python, timeout=600)
    assert agreement.samples == RECORDINGS
    assert agreement.mismatches == 0, agreement.layers
    assert all(layer.spikes > 0 for layer in agreement.layers)
