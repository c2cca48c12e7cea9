"""Counts on the recorded run of the authors' own code, and on real recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from energy_nets import Stored

from tcja_deploy.api import load
from tcja_deploy.data import path as shipped
from tcja_deploy.energy.counts import Measured
from tcja_deploy.energy.measure import measure
from tcja_deploy.energy.rates import rates
from tcja_deploy.energy.report import make_report
from tcja_deploy.events import open_data
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.activity.collect import Joined
from tcja_deploy.runtime.activity.record import Measure

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = SHARED / "golden"
NMNIST = SHARED / "data" / "n-mnist"

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden files are not beside the checkout")
needs_nmnist = pytest.mark.skipif(
    not NMNIST.is_dir(), reason="the N-MNIST recordings are not beside the checkout"
)


@pytest.fixture(scope="module")
def dvs128() -> tuple[Measured, dict[str, np.ndarray]]:
    graph = load(GOLDEN / "dvs128_checkpoint_max.pth")
    with np.load(GOLDEN / "dvs128_io.npz") as file:
        recorded = dict(file)
    return measure(graph, Stored(recorded["x"]), counted=fold_batch_norm(graph)), recorded


@needs_golden
def test_spike_counts_equal_the_recorded_ones(dvs128: tuple[Measured, dict[str, np.ndarray]]) -> None:
    m, recorded = dvs128
    expected = {k[6:]: int(v) for k, v in recorded.items() if k.startswith("count_")}
    assert len(expected) == 9
    counted = {name: int(m.activity[name].counts().sum()) for name in expected}
    # Another summation order may flip a spike at the threshold: the README of the golden files allows a few in a million.
    for name, count in expected.items():
        assert abs(counted[name] - count) <= max(3, 5e-6 * count), name


@needs_golden
def test_rates_equal_the_recorded_ones(dvs128: tuple[Measured, dict[str, np.ndarray]]) -> None:
    m, recorded = dvs128
    for row in rates(m).neurons:
        # rate_<module> is the mean output, which for binary spikes is the firing rate; float64, a few flips allowed.
        assert row.rate.mean == pytest.approx(float(recorded[f"rate_{row.name}"]), rel=1e-5)


@needs_golden
def test_energy_report_of_the_golden_network(dvs128: tuple[Measured, dict[str, np.ndarray]]) -> None:
    m, _ = dvs128
    report = make_report(m, [load_profile("asic45")])
    ann = next(e for e in report.estimates if e.convention == "paper v1" and e.subject == "ANN fp32")
    assert ann.energy_pJ is not None
    assert ann.energy_pJ.mean == pytest.approx(841_014_272 * 4.6)
    for row in (
        report.layers
    ):  # every layer of this network is a padded 3x3 convolution or dense: the formula is an upper bound
        assert row.synops.mean <= row.synops_by_rate


@needs_nmnist
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
