"""The documentation page agrees with the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tcja_deploy.api import load
from tcja_deploy.data import path as shipped
from tcja_deploy.energy.measure import measure
from tcja_deploy.energy.price.estimate import EnergyEstimate
from tcja_deploy.energy.report.record import make_report
from tcja_deploy.energy.report.reproduce import reproduce
from tcja_deploy.events import open_data
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.passes.fold import fold_batch_norm

DOCS = Path(__file__).parents[2] / "docs"


def test_generated_parts_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate_energy", DOCS / "generate_energy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for page in module.PARTS:
        assert module.filled(page) == (DOCS / page).read_text(encoding="utf-8"), (
            "run python docs/generate_energy.py"
        )


def test_numbers_of_the_published_comparison() -> None:
    from tcja_deploy import zoo

    page = (DOCS / "energy.md").read_text(encoding="utf-8")
    found = reproduce(
        [(n, zoo.build(n)) for n in ("ncaltech101", "dvs128", "cifar10dvs")], load_profile("asic45")
    )
    for network in found.networks:
        assert f"| {network.steps} | {network.macs:,} | {1e3 * network.ann_J:.3f} mJ |" in page
    for i in found.implied:
        if i.rate is not None and i.interval is not None:
            ends = f"{100 * i.interval.low:.2f} to {100 * i.interval.high:.2f} %"
            assert f"| `{i.treatment.value}` | {100 * i.rate:.2f} % | {ends} |" in page


@pytest.mark.slow
@pytest.mark.larger_sets
def test_the_measured_comparison_is_what_is_measured(nmnist: Path) -> None:
    """Every cell of the table, measured again."""
    graph = load(shipped("nmnist_checkpoint_max.pth"))
    data = open_data(nmnist / "Test", timesteps=graph.T, sensor=(34, 34))
    m = measure(graph, data, counted=fold_batch_norm(graph))
    report = make_report(m, [load_profile("asic45"), load_profile("asic45-int8")])
    page = (DOCS / "energy.md").read_text(encoding="utf-8")

    def cell(e: EnergyEstimate) -> str:
        assert e.energy_pJ is not None
        return f"{'' if e.complete else '≥ '}{three(e.energy_pJ.mean)} µJ"

    def three(pJ: float) -> str:
        return f"{pJ / 1e6:#.3g}".rstrip(".")

    ratios = {}
    for name in ("paper", "strict", "memory"):
        snn, ann, snn8, ann8, qnn = (e for e in report.estimates if e.convention.startswith(name))
        assert snn.energy_pJ is not None
        assert ann.energy_pJ is not None
        interval = snn.energy_pJ.interval
        assert interval is not None
        ratio = f"{ann.energy_pJ.mean / snn.energy_pJ.mean:.1f}"
        ratios[name] = ratio
        row = (f"`{name}`", cell(snn), f"{three(interval.low)} to {three(interval.high)}", cell(ann), ratio,
               cell(snn8), cell(ann8), cell(qnn))  # fmt: skip
        assert f"| {' | '.join(row)} |" in page
    assert f"The factor of {float(ratios['paper']):.0f} is the published" in page
    assert (
        f"makes it {ratios['strict']}; with on-chip memory and no weight reuse it is {ratios['memory']}."
        in page
    )
    assert f"{report.spikes_per_synapse:.2f}\nspikes per synapse" in page


@pytest.mark.parametrize(
    "option", ["--allow-uncounted", "--weight-bit", "--state-bit", "--payload-bit", "--reproduce"]
)
def test_options_in_the_page_exist(option: str) -> None:
    import inspect

    from tcja_deploy.cli.energy import energy

    assert option[2:].replace("-", "_") in inspect.signature(energy).parameters
    pages = [(DOCS / page).read_text(encoding="utf-8") for page in ("energy.md", "reference/conventions.md")]
    assert any(option in page for page in pages)
