"""What an estimate hangs on: the bars of a tornado against sums in closed form and full recounts."""

from __future__ import annotations

import numpy as np
import pytest
from energy_nets import lines_of, measured, one_layer, small_snn, spikes, total, weights

from tcja_deploy.energy.price.conventions import AccountingOptions, convention
from tcja_deploy.energy.price.memory import MemoryModel
from tcja_deploy.energy.report.sensitivity import tornado
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.ir import ops as ir

ASIC = load_profile("asic45")
AC = 0.9  # pJ, Horowitz 2014: fp32 addition at 45 nm
RNG = np.random.default_rng(11)
SAME = (1, 1, 1, 1)


def test_tornado_bars_contain_the_base_and_are_sorted() -> None:
    m = measured(small_snn(bias=True), spikes(RNG, 5, 4, 2, 8, 12))
    for name in ("strict", "memory"):
        t = tornado(m, convention(name), ASIC, AccountingOptions())
        assert t.base_pJ == pytest.approx(total(lines_of(m, name)))
        assert [b.swing for b in t.bars] == sorted((b.swing for b in t.bars), reverse=True)
        for bar in t.bars:
            assert bar.low_pJ <= t.base_pJ * (1 + 1e-9)
            assert bar.high_pJ >= t.base_pJ * (1 - 1e-9)
    names = {b.name for b in t.bars}
    assert {"graded spikes", "attention", "neuron updates", "weight reuse", "accumulators in memory"} <= names


@pytest.mark.parametrize("memory", [MemoryModel(), MemoryModel(dram=True, partial_sums=True)])
def test_what_is_left_out_takes_its_memory_traffic_along(memory: MemoryModel) -> None:
    m = measured(small_snn(bias=True), spikes(RNG, 2, 4, 2, 8, 12))
    options = AccountingOptions(memory=memory)
    bars = {b.name: b for b in tornado(m, convention("memory"), ASIC, options).bars}
    lines = lines_of(m, "memory", memory=memory)
    block = total([x for x in lines if x.node == "tcja"])  # all that the attention block does
    assert bars["attention"].swing == pytest.approx(block)
    bias = total([x for x in lines if x.what in ("bias", "weight read: bias")])
    assert bars["bias"].swing == pytest.approx(bias)


def test_borders_bar_equals_a_full_recount() -> None:
    # All work of a one-layer net is synaptic, so the bar must equal the energy at the mean dense fan-out.
    graph = one_layer(ir.Conv2d(weights(RNG, 6, 4, 3, 3), padding=SAME), (4, 8, 8), T=2)
    m = measured(graph, spikes(RNG, 3, 2, 4, 8, 8))
    (bar,) = [
        b for b in tornado(m, convention("strict"), ASIC, AccountingOptions()).bars if b.name == "borders"
    ]
    (layer,) = m.inventory.trunk
    assert bar.high_pJ == pytest.approx(m.synops_by_rate(layer).mean * AC)
