"""Counts on the recorded run of the authors' own code, and on real recordings."""

from __future__ import annotations

import numpy as np
import pytest
from energy_nets import Stored
from golden_files import NMNIST, Golden

from tcja_deploy.api import load
from tcja_deploy.data import path as shipped
from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.measure import measure
from tcja_deploy.energy.report.rates import rates
from tcja_deploy.energy.report.record import make_report
from tcja_deploy.events import open_data
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.activity.collect import Joined
from tcja_deploy.runtime.activity.measures import Measure


@pytest.fixture(scope="module")
def dvs128(golden: Golden) -> tuple[Measured, Golden]:
    graph = load(golden.checkpoint)
    return measure(graph, Stored(golden.frames.swapaxes(0, 1)), counted=fold_batch_norm(graph)), golden


def test_spike_counts_equal_the_recorded_ones(dvs128: tuple[Measured, Golden]) -> None:
    m, recorded = dvs128
    expected = recorded.counts
    assert len(expected) == 9
    counted = {name: int(m.activity[name].counts().sum()) for name in expected}
    # Another summation order may flip a spike at the threshold: the README of the golden files allows a few in a million.
    for name, count in expected.items():
        assert abs(counted[name] - count) <= max(3, 5e-6 * count), name


def test_rates_equal_the_recorded_ones(dvs128: tuple[Measured, Golden]) -> None:
    m, recorded = dvs128
    for row in rates(m).neurons:
        # rate_<module> is the mean output, which for binary spikes is the firing rate; float64, a few flips allowed.
        assert row.rate.mean == pytest.approx(float(recorded.rates[row.name]), rel=1e-5)


def test_energy_report_of_the_golden_network(dvs128: tuple[Measured, Golden]) -> None:
    m, golden = dvs128
    channels = len(load(golden.checkpoint)["conv.0.0"].op.constants()["weight"])
    sides = [64, 32, 16, 8]  # of the convolutions between spiking maps
    convolutions = 9 * (2 * channels * 128**2 + channels**2 * sum(side**2 for side in sides))
    macs = convolutions + (16 * channels) * (4 * channels) + (4 * channels) * 110
    assert channels != 128 or macs == 841_014_272
    report = make_report(m, [load_profile("asic45")])
    ann = next(e for e in report.estimates if e.convention == "paper v1" and e.subject == "ANN fp32")
    assert ann.energy_pJ is not None
    assert ann.energy_pJ.mean == pytest.approx(macs * 4.6)
    for row in (
        report.layers
    ):  # every layer of this network is a padded 3x3 convolution or dense: the formula is an upper bound
        assert row.synops.mean <= row.synops_by_rate


@pytest.mark.larger_sets
@pytest.mark.slow
def test_a_thousand_real_recordings_in_one_call() -> None:
    graph = load(shipped("nmnist_checkpoint_max.pth"))
    parts = [open_data(NMNIST / split, timesteps=graph.T, sensor=(34, 34)) for split in ("Train", "Test")]
    m = measure(graph, Joined(parts), counted=fold_batch_norm(graph), batch_size=8)
    assert len(m) == 1000
    # The input holds every event once: frames of equal numbers of events, counted by the payload.
    test = parts[1]
    payload = m.activity["input"].counts(Measure.PAYLOAD).sum(1)
    for i in (0, 50, 99):
        assert payload[900 + i] == int(test[i][0].sum())
    report = make_report(m, [load_profile("asic45")])
    spread = report.rates.neurons[0].rate
    assert spread.interval is not None
    assert spread.interval.low < spread.mean < spread.interval.high
    assert spread.interval.high - spread.interval.low < 4 * (spread.std or 0) / np.sqrt(1000) * 1.2
    assert report.spikes_per_synapse is not None
    assert report.spikes_per_synapse > 0
