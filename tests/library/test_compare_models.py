"""Models side by side: the numbers of each alone, differences by a paired bootstrap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tcja_deploy as td
from tcja_deploy.energy.price.statistics import RESAMPLES, SEED, bootstrap_ratio
from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.library.comparison import facts_of

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth"
DATA = ROOT / "tests" / "data" / "n-mnist" / "Test"


@pytest.fixture(scope="module")
def found() -> Any:
    graph = td.load(MODEL)
    return td.compare({"with file": MODEL, "graph": graph}, DATA, progress=False)


def test_each_has_the_numbers_it_has_alone(found: Any) -> None:
    alone = td.energy(MODEL, DATA, conventions=["paper", "strict"], profiles=["asic45"], progress=False)
    snn = [e.energy_pJ for e in alone.estimates if e.subject == "SNN"]
    ann = [e.energy_pJ.mean for e in alone.estimates if e.subject != "SNN"]
    for network in found.comparison.networks:
        assert [p.energy_pJ for p in network.priced] == snn
        assert [p.ann_pJ for p in network.priced] == ann
    rates = alone.report.rates
    spikes = sum(r.rate.mean * r.elements for r in rates.neurons) / sum(r.elements for r in rates.neurons)
    assert found.comparison.networks[0].rate.mean == pytest.approx(spikes, rel=1e-12)
    assert found.comparison.networks[0].synops.mean == pytest.approx(
        sum(r.synops.mean for r in alone.report.layers), rel=1e-12
    )


def test_a_network_does_not_differ_from_itself(found: Any) -> None:
    for d in found.comparison.differences:
        expected = 0.0 if d.quantity == "accuracy" else 1.0
        assert (d.value, d.interval.low, d.interval.high) == (expected, expected, expected)


def test_what_is_about_one_model_is_told_under_its_name(found: Any) -> None:
    for name in ("with file", "graph"):
        assert found.facts[f"{name}, graph hash"] == td.load(MODEL).hash
        assert f"{name}, engine" in found.facts
    assert found.facts["with file, model file"] == str(MODEL)
    assert "engine" not in found.facts
    assert {"data SHA-256", "frames split by", "torch", "profiles"} <= set(found.facts)
    own = {
        "model": "net.py:net", "code_sha256": "1", "weights_key": "ema", "silence": "none spikes", "frames": "fractions",
    }  # fmt: skip
    shared = {"frames split by": "number", "recordings": "4"}
    assert facts_of("a", own | shared) == {f"a, {k}": v for k, v in own.items()} | shared


def test_paired_intervals_are_those_of_draws_in_pairs() -> None:
    rng = np.random.default_rng(1)
    below = rng.uniform(1, 9, 40)
    above = below * rng.uniform(0.45, 0.55, 40)
    interval = bootstrap_ratio(above, below)
    assert interval is not None
    draws = np.random.default_rng(SEED).multinomial(40, np.full(40, 1 / 40), size=RESAMPLES)
    by_hand = [(d * above).sum() / (d * below).sum() for d in draws]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))
    assert (
        interval.high - interval.low < 0.05
    )  # unpaired, the spread of the recordings alone would make it 0.2 wide
    assert bootstrap_ratio(above[:1], below[:1]) is None


def test_documents_and_the_plot(found: Any, tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    assert r"\toprule" in found.document(".tex")
    record = json.loads(found.document(".json"))
    assert record["comparison"][0]["model"] == "with file"
    assert len(record["differences"]) == len(found.comparison.differences)
    assert found.plot().get_ylabel() == "accuracy / %"
    assert "<svg" in found.save(tmp_path / "a.html").read_text()


def test_wrong_comparisons(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="different names"):
        td.compare([], DATA)
    ends = (b for b in [np.zeros((10, 1, 2, 34, 34), np.float32)])
    with pytest.raises(DataError):
        td.compare([MODEL, MODEL], ends, progress=False)
