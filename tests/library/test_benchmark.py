"""Targets side by side: each with what it gives by itself, refusals with their reasons, measured energy beside estimates.

What docs/benchmark.md shows of it is run here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tcja_deploy as td
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.library import benchmark as benchmarks
from tcja_deploy.library.benchmark_report import BenchmarkReport
from tcja_deploy.library.target_choice import chosen_targets
from tcja_deploy.meters import Meter, find_meters

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth"
DATA = ROOT / "tests" / "data" / "n-mnist" / "Test"
TARGET_TEXTS = ["onnx:batch_first=true", "onnx-step", "nir", "nir:gate=split", "lava"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkReport:
    """All targets, without an environment of Lava."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TCJA_DEPLOY_LAVA_PYTHON", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return td.benchmark(MODEL, DATA, targets=TARGET_TEXTS, turns=2, progress=False, limit=2)


def test_a_row_per_target(found: BenchmarkReport) -> None:
    itself, *rows = found.rows
    assert [r.target for r in rows] == TARGET_TEXTS
    assert itself.accuracy == 1.0
    for row in rows:
        if row.target in ("nir", "lava"):
            assert row.measurement is None
        else:
            assert row.accuracy == 1.0
            assert row.moved == (0, itself_steps(row))
            assert row.measurement is not None
            assert row.measurement.turns == 2
            assert row.measurement.milliseconds > 0
            assert row.size is not None
            assert row.size > 4 * found.network.parameters  # weights as float32, and more


def itself_steps(row: Any) -> int:
    graph = td.load(MODEL)
    return 2 * graph.T * sum(int(np.prod(n.signal.features)) for n in graph.neurons)


def test_what_refuses_and_what_cannot_run_says_why(found: BenchmarkReport) -> None:
    by_name = {r.target: r for r in found.rows}
    assert by_name["nir"].note.startswith("NIR has no primitive for the TCJA gate")
    assert by_name["nir"].size is None
    lava = by_name["lava"]
    assert "tcja-deploy lava setup" in lava.note
    assert lava.size is not None
    assert lava.moved is not None
    assert 0 < lava.moved[0] < 0.05 * lava.moved[1]  # 8-bit weights move some


def test_energies_are_those_of_the_network(found: BenchmarkReport) -> None:
    alone = td.energy(
        MODEL, DATA, conventions=["paper", "strict"], profiles=["asic45"], progress=False, limit=2
    )
    expected = [e.energy_pJ.mean for e in alone.estimates if e.subject == "SNN" and e.energy_pJ is not None]
    record = json.loads(found.document(".json"))
    for row in record["benchmark"]:
        refused = row["target"] == "nir"
        assert [row["energy_0_pJ"], row["energy_1_pJ"]] == ([None, None] if refused else expected)


def test_documents(found: BenchmarkReport, tmp_path: Path) -> None:
    for suffix in (".html", ".json", ".csv", ".tex", ".md"):
        assert "onnx-step" in found.save(tmp_path / f"table{suffix}").read_text()
    assert r"\toprule" in found.document(".tex")
    assert "nir:gate=split" in found.document(".md")
    assert found.frame()["target"].tolist() == ["the network itself", *TARGET_TEXTS]
    assert found.measured == ""


def test_measured_beside_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that takes one joule whenever it is looked at."""
    zone = tmp_path / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text("262143328850")
    (zone / "energy_uj").write_text("0")
    meter = find_meters(tmp_path / "powercap")
    assert isinstance(meter, Meter)
    real = Path.read_text

    def read_text(self: Path, *args: Any, **more: Any) -> str:
        text = real(self, *args, **more)
        if self.name == "energy_uj":
            self.write_text(str((int(text) + 1_000_000) % 262143328850))
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(benchmarks, "find_meters", lambda: meter)
    report = td.benchmark(
        MODEL, DATA, targets=["onnx"], measure=True, turns=3, batch_size=2, progress=False, limit=4
    )
    for row in report.rows:
        assert row.measurement is not None
        # two batches a turn, one joule each, four recordings
        assert row.measurement.joules == {"RAPL package-0": 0.5}
    assert report.measured.startswith("Measured: RAPL package-0")
    (table,) = report.tables()
    assert "Measured (RAPL package-0)" in [c.head for c in table.columns]
    assert json.loads(report.document(".json"))["benchmark"][1]["measured_0_pJ"] == 0.5e12
    assert "Measured: RAPL package-0" in report.document(".md")


def test_where_nothing_can_be_measured_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from tcja_deploy.meters import NoMeter

    monkeypatch.setattr(benchmarks, "find_meters", lambda: NoMeter("RAPL: there is none"))
    report = td.benchmark(MODEL, DATA, targets=["onnx"], measure=True, turns=1, progress=False, limit=1)
    assert "Nothing measured: RAPL: there is none." in str(report).replace("\n", " ")


def test_targets_in_words() -> None:
    assert [c.label for c in chosen_targets([])] == list(TARGETS)
    (lava,) = chosen_targets(["lava:gate_bits=7,per_channel=true,margin=1.5,threshold_rule=ties"])
    assert lava.options == {"gate_bits": 7, "per_channel": True, "margin": 1.5, "threshold_rule": "ties"}
    for wrong in (
        "oonx", "onnx:opset", "onnx:opset=many", "onnx:gate=split", "lava:per_channel=yes", "lava:gate_bits=99",
        "lava:test=data", "nir:gate=none",
    ):  # fmt: skip
        with pytest.raises(UsageError):
            chosen_targets([wrong])
    with pytest.raises(UsageError, match="twice"):
        chosen_targets(["onnx", "onnx"])
    with pytest.raises(UsageError, match="nothing"):
        td.benchmark(MODEL, DATA, turns=0)
