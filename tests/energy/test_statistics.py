"""Bootstrap intervals and rates: against closed forms and against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from energy_nets import measured, small_snn, spikes

from tcja_deploy.energy.price.statistics import bootstrap_means, summarise
from tcja_deploy.energy.render.frames import rate_frame
from tcja_deploy.energy.report.rates import rates
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir


def test_bootstrap_of_a_normal_sample_is_near_the_normal_interval() -> None:
    # Percentile bootstrap of a mean of 400 normal numbers: the normal interval up to about a tenth of its width
    # (2,000 resamples; the quantiles of a simulated distribution have that error).
    x = np.random.default_rng(0).normal(5, 2, (400, 1))
    (interval,) = bootstrap_means(x)
    assert interval is not None
    half = 1.96 * x.std(ddof=1) / 20
    assert interval.low == pytest.approx(x.mean() - half, abs=0.2 * half)
    assert interval.high == pytest.approx(x.mean() + half, abs=0.2 * half)


def test_bootstrap_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        (interval,) = bootstrap_means(rng.exponential(1.0, (60, 1)), resamples=400)
        assert interval is not None
        hits += interval.low <= 1.0 <= interval.high
    # Binomial(200, 0.95) lies in 176..200 with probability above 0.9999; percentile intervals of skewed data cover
    # a little less than they state, which the lower end allows for.
    assert 176 <= hits <= 200


def test_same_seed_same_interval_and_columns_do_not_disturb_each_other() -> None:
    x = np.random.default_rng(2).random((50, 3))
    together = bootstrap_means(x)
    assert together == bootstrap_means(x)
    assert together[:1] == bootstrap_means(x[:, :1])
    assert together != bootstrap_means(x, seed=1)


def test_constants_and_single_recordings() -> None:
    (constant,) = summarise(np.full((7, 1), 0.1))
    assert constant.interval is not None
    assert (constant.mean, constant.interval.low, constant.interval.high, constant.std) == (
        0.1,
        0.1,
        0.1,
        pytest.approx(0),
    )
    (single,) = summarise(np.array([[3.0]]))
    assert (single.mean, single.std, single.interval) == (3.0, None, None)


def test_blocks_of_resamples_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from tcja_deploy.energy.price import statistics

    x = np.random.default_rng(3).random((40, 2))
    whole = bootstrap_means(x)
    monkeypatch.setattr(statistics, "_CELLS", 40 * 7)
    assert bootstrap_means(x) == whole


def test_rates_by_hand() -> None:
    b = GraphBuilder(T=2)
    graph = b.finish(b.add("lif", ir.IF(), b.add("input", ir.Input((4,), Kind.REAL))))
    # Neuron 0 always fires, neuron 1 never, neuron 2 once, neuron 3 always but in the first step of the second recording.
    x = np.array([[[1, 0, 0, 1], [1, 0, 1, 1]], [[1, 0, 0, 0], [1, 0, 0, 1]]])
    found = rates(measured(graph, x))
    (row,) = found.neurons
    assert row.rate.mean == pytest.approx((5 / 8 + 3 / 8) / 2)
    assert (row.rate.min, row.rate.max) == pytest.approx((3 / 8, 5 / 8))
    assert row.rate.std == pytest.approx(np.std([5 / 8, 3 / 8], ddof=1))
    assert row.per_step == pytest.approx((3 / 8, 5 / 8))
    assert (row.silent, row.saturated) == (1, 1)
    assert row.per_element == pytest.approx(8 / 8)
    assert sum(row.histogram) == 4
    assert (row.histogram[0], row.histogram[-1]) == (1, 1)


def test_frame_equals_rates_recomputed_by_pandas() -> None:
    graph = small_snn()
    m = measured(graph, spikes(np.random.default_rng(5), 5, 4, 2, 8, 12))
    frame = rate_frame(rates(m)).set_index(["value", "read_by"])
    for name in ("lif1", "lif2", "lif3"):
        counts = pd.DataFrame(m.activity[name].counts()) / m.activity[name].size
        row = frame.loc[(name, "")]
        per_recording = counts.mean(axis=1)
        assert row["rate_mean"] == pytest.approx(per_recording.mean())
        assert row["rate_std"] == pytest.approx(per_recording.std())
        assert [row[f"rate_t{t}"] for t in range(4)] == pytest.approx(counts.mean(axis=0).tolist())
    assert frame.index.get_level_values("read_by").tolist()[3:] == ["conv1", "conv2", "fc"]
    assert frame.loc[("flat", "fc")]["kind"] == "graded"
