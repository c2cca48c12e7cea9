"""The `hardware` convention in closed form, on a chip with round numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from energy_nets import measured, spikes, weights

from tcja_deploy.energy.count.inventory import Drive, Measured
from tcja_deploy.energy.place.placement import place
from tcja_deploy.energy.price.hardware import latency_ns, snn_lines
from tcja_deploy.energy.price.line import Line
from tcja_deploy.hardware_profiles import Profile, load_profile
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir

RNG = np.random.default_rng(6)
T, SYNOP_NS, UPDATE_NS, BARRIER_NS = 4, 2.0, 3.0, 100.0

CHIP = """
schema_version = 1
name = "round"
title = "A chip with round numbers"
kind = "neuromorphic"
version = "1.0.0"
default_pricing = "p"
[sources.us]
title = "This test"
document = "tests/energy/test_chip.py"
[pricing.p]
title = "Round prices"
scope = "marginal"
precision = "native"
[pricing.p.terms]
synop_pJ = { value = 10, SEEN }
neuron_update_pJ = { value = 20, SEEN }
axon_out_pJ = { value = 50, SEEN }
static_mW = { value = 7, SEEN }
[limits]
cores_count = { value = 1, SEEN }
neurons_per_core_count = { value = 5, SEEN }
[timing]
synop_ns = { value = 2, SEEN }
neuron_update_ns = { value = 3, SEEN }
barrier_sync_ns = { value = 100, SEEN }
""".replace("SEEN", 'source = "us", where = "here", evidence = "measured", certainty = "A"')


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    path: Path = tmp_path_factory.mktemp("chip") / "round.toml"
    path.write_text(CHIP)
    return load_profile(path)


@pytest.fixture(scope="module")
def m() -> Measured:
    """Ten neurons read four inputs, six read the ten: two cores of one chip each, four chips."""
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((4,), Kind.BINARY))
    x = b.add("lif_a", ir.LIF(v_threshold=0.3), b.add("a", ir.Linear(weights(RNG, 10, 4)), x))
    x = b.add("lif_b", ir.LIF(v_threshold=0.3), b.add("b", ir.Linear(weights(RNG, 6, 10)), x))
    return measured(b.finish(x), spikes(RNG, 3, T, 4, rate=0.6))


def only(lines: list[Line], what: str) -> list[Line]:
    return [x for x in lines if x.what == what]


def test_latency_is_that_of_the_busiest_layer(m: Measured, chip: Profile) -> None:
    fit = place(m.inventory, chip)
    assert (fit.cores, fit.chips) == (4, 4)
    spans = []
    for source, neurons, size in (("input", 5, 10), ("lif_a", 3, 6)):
        events = float(m.events(Drive(source)).mean())
        spans.append(T * (events / T * size / 2 * SYNOP_NS + neurons * UPDATE_NS + BARRIER_NS))
    found = latency_ns(m, chip, fit)
    assert found is not None
    assert found[0] == round(max(spans))
    assert "maxima" not in found[1]
    (static,) = only(
        snn_lines(m, chip), "static power"
    )  # 1 mW is 1 pJ a nanosecond; four chips wait together
    assert static.energies() == pytest.approx(np.full(3, 7.0 * 4 * found[0]))


def test_messages_go_to_every_slice_of_the_reader(m: Measured, chip: Profile) -> None:
    (line,) = only(
        snn_lines(m, chip), "messages"
    )  # what the host sends into the first layer is not among them
    assert line.node == "b"
    assert line.energies() == pytest.approx(2 * 50.0 * m.events(Drive("lif_a")))


def test_updates_cost_between_idle_and_active(m: Measured) -> None:
    loihi = load_profile("loihi1")
    first, _ = only(snn_lines(m, loihi), "updates")
    assert first.price.pJ is not None
    assert (first.price.pJ.low, first.price.pJ.value, first.price.pJ.high) == (52, 81, 81)
    assert first.ops.total == 3 * 10 * T
