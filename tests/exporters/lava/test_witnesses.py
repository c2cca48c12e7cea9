"""Trained networks with branches and attention: what quantisation costs them, and every value in the real Lava."""

from __future__ import annotations

import pytest

import tcja_deploy as td
from tcja_deploy.data import path
from tcja_deploy.events import open_data
from tcja_deploy.frontend.load import load

WITNESSES = {
    "ms_resnet_tcja_digits.tcja": 94,
    "cross_convolution_digits.tcja": 94,
    "ma_snn_space_digits.tcja": 94,
}
"""Networks with what they recognise at least of the shipped 100 recordings, in float."""
RECORDINGS = 20


def batches(graph, limit=None):
    data = open_data(
        path("digits_test_events.npz"), timesteps=graph.T, sensor=(34, 34), channels=2, limit=limit
    )
    return list(data.batches(50))


@pytest.mark.slow
@pytest.mark.parametrize("name", WITNESSES)
def test_a_trained_network_keeps_its_accuracy_and_is_exact_in_lava(name, tmp_path, lava_python):
    """Calibrated on half of the recordings: at most one more is wrong of 100. 20 of them in Lava, by matrix products."""
    graph = load(path(name))
    data = batches(graph)
    report = td.export(graph, "lava", tmp_path / "b", data=[data[0][0]], test=data)
    assert report.accuracy.labelled == 100
    assert report.accuracy.float_correct >= WITNESSES[name]
    assert report.accuracy.loss <= 1.0
    assert report.accuracy.agree >= 95
    assert all(stage.wraps == 0 for stage in report.stages)
    frames = [frames for frames, _ in batches(graph, RECORDINGS)]
    agreement = td.verify(tmp_path / "b", None, frames, python=lava_python, timeout=600, fast_conv=True)
    assert agreement.samples == RECORDINGS
    assert agreement.mismatches == 0, agreement.layers
    assert agreement.passed
