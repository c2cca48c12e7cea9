"""Inputs that are not what the network declares, and networks without anything sparse: nothing is free."""

from __future__ import annotations

import numpy as np
import pytest
from energy_nets import Stored, measured, one_layer, weights

from tcja_deploy.energy.measure import measure
from tcja_deploy.energy.place.placement import place
from tcja_deploy.energy.price.conventions import CONVENTIONS, AccountingOptions
from tcja_deploy.energy.price.estimate import Entry, estimates
from tcja_deploy.energy.price.hardware import latency_ns
from tcja_deploy.energy.price.strict import CountsAs
from tcja_deploy.energy.render.documents import FORMATS, rates_document, report_document
from tcja_deploy.energy.report.record import make_report
from tcja_deploy.hardware_profiles import Profile, load_profile
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir

RNG = np.random.default_rng(4)
ASIC, LOIHI = load_profile("asic45"), load_profile("loihi1")
OUT = 10


def dense(kind: Kind) -> Graph:
    """Four inputs, ten outputs: an input that is not zero costs ten operations."""
    return one_layer(ir.Linear(weights(RNG, OUT, 4)), (4,), kind=kind)


def synapses(kind: Kind, values: list[float], profile: Profile, counts_as: CountsAs) -> tuple[Entry, ...]:
    m = measured(dense(kind), np.array([[values]]))
    name = "strict" if profile is ASIC else "hardware"
    found, *_ = estimates(m, [CONVENTIONS[name]], [profile], AccountingOptions(counts_as=counts_as))
    return tuple(e for e in found.entries if e.purpose == "synapses")


@pytest.mark.parametrize("profile", [ASIC, LOIHI], ids=lambda p: p.name)
def test_fractions_among_event_counts_are_not_free(profile: Profile) -> None:
    spikes, rest = synapses(Kind.COUNT, [0, 3, 0.25, -2], profile, CountsAs.REPEAT)
    assert (spikes.count, spikes.price_pJ) == (OUT * 5, 0.9 if profile is ASIC else 23.6)
    assert (rest.count, rest.price_pJ) == (OUT, 4.6 if profile is ASIC else None)


@pytest.mark.parametrize("profile", [ASIC, LOIHI], ids=lambda p: p.name)
def test_numbers_where_spikes_are_declared_are_not_priced_as_spikes(profile: Profile) -> None:
    spikes, rest = synapses(Kind.BINARY, [1, 3, 0.25, -1], profile, CountsAs.MAC)
    assert (spikes.count, spikes.price_pJ) == (OUT * 2, 0.9 if profile is ASIC else 23.6)
    assert (rest.count, rest.price_pJ) == (OUT * 2, 4.6 if profile is ASIC else None)


@pytest.mark.parametrize("kind", [Kind.BINARY, Kind.COUNT])
def test_inputs_as_declared_have_one_line(kind: Kind) -> None:
    (line,) = synapses(kind, [0, 1, 1, 0], ASIC, CountsAs.REPEAT)
    assert line.count == OUT * 2


def test_repeated_spikes_take_their_time() -> None:
    """Loihi 1 is sent three spikes for an event count of 3, so the layer is busy three times as long."""

    def busy(count: int) -> int:
        m = measured(dense(Kind.COUNT), np.full((1, 1, 4), count))
        found = latency_ns(m, LOIHI, place(m.inventory, LOIHI))
        assert found is not None
        assert "maxima" in found[1]  # 3.5 ns is the published maximum of a synaptic operation
        return found[0]

    assert busy(3) - busy(1) == pytest.approx(2 * 4 * OUT * 3.5, abs=1)


@pytest.mark.parametrize(("kind", "value"), [(Kind.REAL, 1), (Kind.BINARY, 0)])
def test_networks_that_spike_nowhere_have_reports(kind: Kind, value: int) -> None:
    """Dense numbers alone; spikes that never come, which cost nothing at all."""
    m = measure(dense(kind), Stored(np.full((2, 1, 4), value)))
    report = make_report(m, [ASIC, LOIHI])
    assert report.rates.neurons == ()
    assert len(report.rates.inputs) == (kind is Kind.BINARY)
    for suffix in FORMATS:
        assert report_document(report, suffix)
        assert rates_document(report.rates, {}, suffix)
