"""The page on SpikingJelly's energy models: every one of their counts follows from the counts here, without a remainder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    pytest.importorskip("spikingjelly.activation_based.op_counter", reason="SpikingJelly is not installed")
    spec = importlib.util.spec_from_file_location(
        "generate_energy_models", DOCS / "generate_energy_models.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_true(generator: ModuleType) -> None:
    assert (DOCS / "energy-models.md").read_text(encoding="utf-8") == generator.page(), (
        "python docs/generate_energy_models.py"
    )


@pytest.mark.parametrize(("seed", "kernel", "stride"), [(0, 3, 2), (3, 5, 3), (4, 3, 1)])
def test_their_counts_follow_from_ours(generator: ModuleType, seed: int, kernel: int, stride: int) -> None:
    net, x = generator.network(seed, kernel=kernel, stride=stride), generator.spikes(seed)
    measured = generator.ours(net, x).activity
    found = generator.reconcile(net, x, measured, generator.their_reports(net, x))
    assert found[0].ours > 0
    for count in found:
        assert count.theirs == count.derived, (count.model, count.what)
    differing = {c.model for c in found if c.theirs != c.ours}
    assert differing == {"Simple", "Lemaire", "NeuroMC", "SpikeSim"}  # Simple in its accumulations alone
