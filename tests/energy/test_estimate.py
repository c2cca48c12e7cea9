"""Energies in closed form, their sums, and what happens to work without a price."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from energy_nets import lines_of, measured, one_layer, small_snn, spikes, total, weights, with_unknown_op

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.count.quantities import Ops
from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.energy.measure import join
from tcja_deploy.energy.price.conventions import (
    CONVENTIONS,
    AccountingOptions,
    ann_lines,
    convention,
    snn_lines,
)
from tcja_deploy.energy.price.estimate import EnergyEstimate, estimate, estimates
from tcja_deploy.energy.price.line import Counterpart
from tcja_deploy.energy.price.memory import MemoryModel
from tcja_deploy.energy.price.paper import FirstLayer
from tcja_deploy.energy.price.prices import quantised_mac
from tcja_deploy.energy.price.strict import CountsAs
from tcja_deploy.energy.report.record import make_report
from tcja_deploy.errors import UnsupportedError, UsageError
from tcja_deploy.hardware_profiles import Unit, load_profile
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.activity.record import Activity, ValueActivity

ASIC, INT8 = load_profile("asic45"), load_profile("asic45-int8")
AC, MAC, MULT = 0.9, 4.6, 3.7  # pJ, Horowitz 2014: fp32 addition, MAC and multiplication at 45 nm
RNG = np.random.default_rng(11)
SAME = (1, 1, 1, 1)


def two_layers(T: int = 3, kind: Kind = Kind.COUNT) -> Graph:
    """A convolution on the input, neurons, and a convolution on spikes."""
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((2, 6, 6), kind))
    x = b.add("first", ir.Conv2d(weights(RNG, 4, 2, 3, 3), padding=SAME), x)
    x = b.add("lif", ir.IF(v_threshold=0.2), x)
    return b.finish(b.add("second", ir.Conv2d(weights(RNG, 5, 4, 3, 3), padding=SAME), x))


@pytest.fixture(scope="module")
def m() -> Measured:
    frames = np.random.default_rng(2).integers(0, 3, (4, 3, 2, 6, 6))
    return measured(two_layers(), frames)


# -- paper -----------------------------------------------------------------------------------------------------------
def test_paper_is_rate_times_steps_times_macs(m: Measured) -> None:
    first, second = m.inventory.trunk
    M1, M2 = 4 * 2 * 9 * 36, 5 * 4 * 9 * 36
    assert (first.macs.dense, second.macs.dense) == (M1, M2)
    T, r1, r2 = 3, m.rate("input").value, m.rate("lif").value
    rest = r2 * T * M2 * AC
    expected = {
        FirstLayer.AC: r1 * T * M1 * AC + rest,
        FirstLayer.MAC_ONCE: M1 * MAC + rest,
        FirstLayer.MAC_NNZ: r1 * T * M1 * MAC + rest,
        FirstLayer.MAC_DENSE: T * M1 * MAC + rest,
    }
    for treatment, energy in expected.items():
        assert total(lines_of(m, "paper", first_layer=treatment)) == pytest.approx(energy, rel=1e-12)
    assert total(
        ann_lines(m, CONVENTIONS["paper"], ASIC.pricing, AccountingOptions(), Counterpart("ANN"))
    ) == pytest.approx((M1 + M2) * MAC)


def test_fractions_of_a_fan_out_lose_nothing() -> None:
    # Stride 2: 9 dense positions of 16 outputs over 49 inputs, 144/49 MACs per spike.
    graph = one_layer(ir.Conv2d(weights(RNG, 1, 1, 3, 3), stride=(2, 2), padding=SAME), (1, 7, 7))
    m = measured(graph, np.ones((1, 1, 1, 7, 7)))
    (layer,) = m.inventory.trunk
    assert m.synops_by_rate(layer).each == Fraction(144, 49)
    assert m.synops_by_rate(layer).total == 144


# -- strict ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "values", "each"),
    [
        (Kind.BINARY, [0, 1], AC),
        (Kind.GRADED, [0, 0.5], MAC),
        (Kind.COUNT, [0, 3], MAC),
        (Kind.REAL, [0, 0.5], MAC),
    ],
)
def test_strict_prices_by_signal_kind(kind: Kind, values: list[float], each: float) -> None:
    graph = one_layer(ir.Conv2d(weights(RNG, 6, 4, 3, 3), padding=SAME), (4, 8, 8), kind=kind)
    x = np.full((1, 1, 4, 8, 8), values[1])
    assert total(lines_of(measured(graph, x), "strict")) == pytest.approx(11_616 * each)
    silent = total(lines_of(measured(graph, 0 * x), "strict"))
    assert silent == pytest.approx(11_616 * MAC if kind is Kind.REAL else 0.0)


def test_event_counts_as_repeated_accumulations() -> None:
    graph = one_layer(ir.Linear(weights(RNG, 10, 3)), (3,), kind=Kind.COUNT)
    m = measured(graph, np.array([[[0, 1, 4]]]))
    assert total(lines_of(m, "strict")) == pytest.approx(20 * MAC)
    assert total(lines_of(m, "strict", counts_as=CountsAs.REPEAT)) == pytest.approx(50 * AC)


def test_strict_neurons_and_pooling_in_closed_form() -> None:
    b = GraphBuilder(T=2)
    x = b.add("input", ir.Input((1, 4, 4), Kind.BINARY))
    x = b.add("pool", ir.MaxPool2d((2, 2), (2, 2)), x)
    x = b.add("flat", ir.Flatten(), x)
    x = b.add("fc", ir.Linear(weights(RNG, 5, 4), weights(RNG, 5)), x)
    graph = b.finish(b.add("lif", ir.LIF(v_threshold=1e6), x))
    m = measured(graph, np.ones((1, 2, 1, 4, 4)))
    by_purpose = dict(estimate(m, "SNN", CONVENTIONS["strict"], ASIC, lines_of(m, "strict")).by_purpose)
    assert by_purpose["synapses"] == pytest.approx(2 * 4 * 5 * AC)
    assert by_purpose["bias"] == pytest.approx(2 * 5 * AC)
    assert by_purpose["neurons"] == pytest.approx(2 * 5 * (MULT + AC + AC))
    assert by_purpose["pooling"] == pytest.approx(2 * 16 * AC)
    ann = total(ann_lines(m, CONVENTIONS["strict"], ASIC.pricing, AccountingOptions(), Counterpart("ANN")))
    assert ann == pytest.approx(
        4 * 5 * MAC + 5 * AC + 16 * AC + 5 * AC
    )  # MACs, bias, pooling, ReLU: one pass


def test_what_happens_once_in_a_window_happens_once_in_the_ann() -> None:
    b = GraphBuilder(T=4)
    x = b.add("mean", ir.TimeMean(), b.add("input", ir.Input((3,), Kind.BINARY)))
    graph = b.finish(b.add("fc", ir.Linear(weights(RNG, 5, 3), weights(RNG, 5)), x))
    m = measured(graph, np.ones((1, 4, 3)))
    ann = total(ann_lines(m, CONVENTIONS["strict"], ASIC.pricing, AccountingOptions(), Counterpart("ANN")))
    assert ann == pytest.approx(15 * MAC + 5 * AC)


# -- memory ----------------------------------------------------------------------------------------------------------
def test_memory_traffic_in_closed_form() -> None:
    b = GraphBuilder(T=2)
    x = b.add("input", ir.Input((8,), Kind.BINARY))
    x = b.add("fc", ir.Linear(weights(RNG, 5, 8)), x)
    graph = b.finish(b.add("lif", ir.IF(v_threshold=1e6), x))
    m = measured(graph, np.array([[[1, 1, 1, 0, 0, 0, 0, 0]] * 2]))
    sops, word = 2 * 3 * 5, 10 / 64  # all buffers fit 8 KiB: 10 pJ for 64 bits
    strict = total(lines_of(m, "strict"))
    weight = sops * 32 * word
    state = 2 * (2 * 5) * 32 * word
    events = 2 * (2 * 3) * 3 * word  # written and read, 3 address bits for 8 inputs
    assert total(lines_of(m, "memory")) == pytest.approx(strict + weight + state + events)
    reused = total(lines_of(m, "memory", memory=MemoryModel(reuse=4)))
    assert reused == pytest.approx(strict + weight / 4 + state + events)
    sums = total(lines_of(m, "memory", memory=MemoryModel(partial_sums=True)))
    assert sums == pytest.approx(strict + weight + state + events + 2 * sops * 32 * word)
    narrow = total(lines_of(m, "memory", memory=MemoryModel(weight_bit=8, state_bit=16)))
    assert narrow == pytest.approx(strict + weight / 4 + state / 2 + events)
    dram = ASIC.pricing.terms[[t.op.value for t in ASIC.pricing.terms].index("dram_read")].price
    assert dram is not None
    with_dram = total(lines_of(m, "memory", memory=MemoryModel(dram=True)))
    assert with_dram == pytest.approx(strict + weight + state + events + 40 * 32 / 64 * dram.value)


def test_memory_of_the_ann_in_closed_form() -> None:
    graph = one_layer(ir.Linear(weights(RNG, 5, 8), weights(RNG, 5)), (8,), T=3)
    m = measured(graph, np.ones((1, 3, 8)))
    lines = ann_lines(m, CONVENTIONS["memory"], ASIC.pricing, AccountingOptions(), Counterpart("ANN"))
    reads = 40 + 5  # weights and biases, one each
    assert total(lines) == pytest.approx(40 * MAC + 5 * AC + (reads + 2 * 8) * 32 * 10 / 64)


def test_the_ann_fetches_no_weights_of_an_attention_it_does_not_have() -> None:
    m = measured(small_snn(), spikes(RNG, 1, 4, 2, 8, 12))
    options = AccountingOptions(memory=MemoryModel(dram=True))
    snn = lines_of(m, "memory", memory=options.memory)
    ann = ann_lines(m, CONVENTIONS["memory"], ASIC.pricing, options, Counterpart("ANN"))
    fetched = [{x.node for x in lines if x.what == "weight fetch"} for lines in (snn, ann)]
    assert fetched[0] - fetched[1] == {"tcja"}
    assert {"conv1", "conv2", "fc"} <= fetched[1]


def test_buffers_beyond_the_largest_memory_are_banks_and_say_so() -> None:
    graph = one_layer(ir.Linear(weights(RNG, 600, 1000)), (1000,))  # 2.3 MiB of weights
    m = measured(graph, np.ones((1, 1, 1000)))
    (line,) = [x for x in lines_of(m, "memory") if x.what == "weight read"]
    assert line.price.pJ is not None
    assert line.price.pJ.value == 50  # 100 pJ for 64 bits from 1 MiB
    assert "banks of the largest listed memory" in line.price.assumption


def test_memory_model_refuses_nonsense() -> None:
    for wrong in ({"reuse": 0}, {"weight_bit": 0}, {"payload_bit": -1}):
        with pytest.raises(UsageError, match="positive"):
            MemoryModel(**wrong)


# -- quantised counterpart --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("T", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (14, 4), (15, 4), (16, 5)]
)
def test_bit_matched_activations(T: int, bits: int) -> None:
    assert Counterpart.bit_matched(T).bits == bits
    assert 2**bits >= T + 1 > 2 ** (bits - 1)


def test_quantised_mac_scales_the_multiplier() -> None:
    price = quantised_mac(INT8.pricing, 4).pJ
    assert price is not None
    assert price.value == pytest.approx(0.2 / 2 + 0.03)
    assert quantised_mac(load_profile("asic22").pricing, 4).pJ is None


# -- sums and intervals ----------------------------------------------------------------------------------------------
def every_estimate(m: Measured) -> tuple[EnergyEstimate, ...]:
    profiles = [ASIC, INT8, *map(load_profile, ("loihi1", "loihi2", "truenorth", "speck", "odin", "cpu"))]
    return estimates(m, list(CONVENTIONS.values()), profiles, AccountingOptions())


def test_parts_nodes_and_entries_add_up(m: Measured) -> None:
    for e in every_estimate(m):
        if e.energy_pJ is not None:
            mean = e.energy_pJ.mean
            assert sum(x for _, x in e.by_purpose) == pytest.approx(mean, rel=1e-12)
            assert sum(x for _, x in e.nodes) == pytest.approx(mean, rel=1e-12)
            assert sum(x.energy_pJ or 0.0 for x in e.entries) == pytest.approx(mean, rel=1e-12)
            assert e.steps == (
                m.inventory.graph.T if e.subject == "SNN" else 1
            )  # the counterparts take one pass
            assert e.per_step_pJ == pytest.approx(mean / e.steps)
            if e.energy_pJ.interval is not None:
                assert e.energy_pJ.interval.low <= mean <= e.energy_pJ.interval.high
            assert e.prices_pJ is not None
            assert e.prices_pJ.low <= mean * (1 + 1e-12)
            assert mean <= e.prices_pJ.high * (1 + 1e-12)


def test_order_of_recordings_does_not_move_a_digit() -> None:
    graph = small_snn()
    x = spikes(np.random.default_rng(3), 6, 4, 2, 8, 12)
    one, other = every_estimate(measured(graph, x, 1)), every_estimate(measured(graph, x[::-1], 4))
    for a, b in zip(one, other, strict=True):
        assert (a.energy_pJ is None) == (b.energy_pJ is None)
        if a.energy_pJ is not None and b.energy_pJ is not None:
            assert a.energy_pJ.mean == pytest.approx(b.energy_pJ.mean, rel=1e-12)
            assert (a.energy_pJ.min, a.energy_pJ.max) == (b.energy_pJ.min, b.energy_pJ.max)


def test_one_recording_has_no_interval() -> None:
    for e in every_estimate(measured(two_layers(), np.ones((1, 3, 2, 6, 6)))):
        assert e.energy_pJ is None or (e.energy_pJ.interval is None and e.energy_pJ.std is None)


# -- unpriced work ---------------------------------------------------------------------------------------------------
def test_loihi_2_has_no_energy_and_says_what_is_missing(m: Measured) -> None:
    (e,) = estimates(m, [CONVENTIONS["hardware"]], [load_profile("loihi2")], AccountingOptions())
    assert e.energy_pJ is None
    assert e.per_step_pJ is None
    assert {"synop", "neuron_update", "static power of one inference"} <= {u.operation for u in e.unpriced}
    assert not e.complete


def test_sigmoids_are_counted_and_listed_not_free() -> None:
    m = measured(small_snn(), spikes(RNG, 2, 4, 2, 8, 12))
    (e, *_) = estimates(m, [CONVENTIONS["strict"]], [ASIC], AccountingOptions())
    assert [(u.what, u.count) for u in e.unpriced] == [("sigmoid", 4 * 6)]


def test_graded_spikes_on_a_chip_without_them() -> None:
    m = measured(small_snn(), spikes(RNG, 2, 4, 2, 8, 12))
    (e,) = estimates(m, [CONVENTIONS["hardware"]], [load_profile("loihi1")], AccountingOptions())
    fc = next(x for x in m.inventory.trunk if x.node == "fc")
    (missing,) = [u for u in e.unpriced if u.operation == "synop_graded"]
    assert missing.count == pytest.approx(m.synops(fc).mean)


def test_all_in_prices_stand_alone(m: Measured) -> None:
    (e,) = estimates(m, [CONVENTIONS["hardware"]], [load_profile("truenorth:all-in")], AccountingOptions())
    assert {purpose for purpose, _ in e.by_purpose} == {"synapses"}


def test_caveats_of_prices_are_carried_along(m: Measured) -> None:
    (inherited,) = estimates(
        m, [CONVENTIONS["hardware"]], [load_profile("loihi2:inherited-loihi1")], AccountingOptions()
    )
    assert any(
        "the price is that of loihi1; the published price is a lower bound" in a
        for a in inherited.assumptions
    )
    assert any("[inherited C]" in source for source in inherited.sources)
    (ranged,) = estimates(m, [CONVENTIONS["hardware"]], [load_profile("loihi1-fitted")], AccountingOptions())
    assert any("geometric mean" in a for a in ranged.assumptions)
    assert ranged.prices_pJ is not None
    assert ranged.prices_pJ.low < ranged.prices_pJ.high


def test_conventions_and_profiles_must_meet(m: Measured) -> None:
    with pytest.raises(UsageError, match="'hardware' needs a profile of kind neuromorphic or processor"):
        estimates(m, [CONVENTIONS["hardware"]], [ASIC], AccountingOptions())
    with pytest.raises(UsageError, match="no chosen convention can use"):
        estimates(m, [CONVENTIONS["paper"]], [ASIC, load_profile("loihi1")], AccountingOptions())
    with pytest.raises(UsageError, match="no convention 'papers'"):
        convention("papers")


# -- against silicon -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("hz", ["11_58", "20_07", "95_93"])
def test_truenorth_power_is_predicted_within_two_per_cent(hz: str) -> None:
    """2**20 neurons with 128 synapses at three measured rates (Akopyan 2015, Fig. 17): 68, 71 and 94 mW."""
    profile = load_profile("truenorth")
    fact = next(q for q in profile.facts if q.name == f"power_at_{hz}_Hz")
    power = fact.bounds(Unit.MW)
    assert power is not None
    steps = 1000  # of 1 ms: one second
    events = round(2**20 * float(hz.replace("_", ".")))
    b = GraphBuilder(steps)
    graph = b.finish(
        b.add("fc", ir.Linear(weights(RNG, 128, 256)), b.add("input", ir.Input((256,), Kind.BINARY)))
    )
    table = np.zeros((2, 4, 1, steps), np.int64)
    table[0, :, 0, 0], table[1, :, 0, 0] = events, 128 * events
    value = ValueActivity("input", (256,), ("", "fc"), table, np.zeros(256, np.int64))
    activity = Activity(np.arange(1), {"input": value}, {"model": graph.hash})
    lines = snn_lines(join(graph, activity), CONVENTIONS["hardware"], profile, AccountingOptions())
    predicted_mW = total(lines) * 1e-12 * 1e3  # pJ in one second
    assert predicted_mW == pytest.approx(power.value, rel=0.02)
    all_in = snn_lines(
        join(graph, activity), CONVENTIONS["hardware"], load_profile("truenorth:all-in"), AccountingOptions()
    )
    error = abs(
        total(all_in) * 1e-9 / power.value - 1
    )  # one constant holds at its own operating point, 20 Hz, only
    assert error < 0.02 if hz == "20_07" else error > 0.3


# -- report and sensitivity ------------------------------------------------------------------------------------------
def test_report_holds_everything_and_refuses_the_uncountable(m: Measured) -> None:
    report = make_report(m, [ASIC, load_profile("loihi1")])
    assert {e.convention for e in report.estimates} == {"paper v1", "strict v1", "memory v1", "hardware v1"}
    assert [row.treatment for row in report.first_layer] == list(FirstLayer)
    assert [t.base.split()[0] for t in report.tornados] == ["strict", "memory"]
    assert [f.profile for f in report.fits] == ["loihi1"]
    sparse = [x for x in m.inventory.trunk if x.event_driven]
    spikes_per_synapse = sum(m.synops(x).mean for x in sparse) / sum(x.macs.border_aware for x in sparse)
    assert report.spikes_per_synapse == pytest.approx(spikes_per_synapse)
    classes = report.layers[0]
    assert (classes.unit or 0) + (classes.integer or 0) + (classes.real or 0) == pytest.approx(1)
    odd = with_unknown_op(m.inventory.graph)
    with pytest.raises(UnsupportedError, match="mystery: there is no counting rule"):
        make_report(Measured(take_inventory(odd), m.activity), [ASIC])
    reported = make_report(
        Measured(take_inventory(odd), m.activity), [ASIC], [CONVENTIONS["paper"]], allow_unsupported=True
    )
    assert [c.node for c in reported.unsupported] == ["mystery"]


def test_energy_of_an_op_count_is_linear() -> None:
    a = Ops(np.array([1, 2, 3]), Fraction(2, 3))
    assert a.total == 4
    assert a.mean == pytest.approx(4 / 3)
