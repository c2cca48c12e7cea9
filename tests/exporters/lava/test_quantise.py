"""Quantisation: the formulas, the budget, and what each improvement is there for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphs import Builder, frames_for
from test_lower import GRAPHS

from tcja_deploy.errors import DataError, UnsupportedError, UsageError
from tcja_deploy.exporters.lava.accuracy import evaluate
from tcja_deploy.exporters.lava.lint import lint
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.exporters.lava.rounding import compensated
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.stage_runners import integer_gate
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.sequence import run

PLAIN = LavaOptions(correct_bias=False, wide_input=False)


def one_neuron(*weights, bias=None, **rule):
    """A dense network: one binary input per weight, one neuron each."""
    b = GraphBuilder(8)
    x = b.add("input", ir.Input((len(weights),), Kind.BINARY))
    offset = None if bias is None else np.full(len(weights), bias, np.float32)
    x = b.add("weights", ir.Linear(np.diag(weights).astype(np.float32), offset), x)
    return b.finish(b.add("spikes", ir.LIF(**rule), x))


def ones(graph):
    return np.ones((graph.T, 1, *graph.input_shape), np.float32)


def test_the_formulas():
    """tau = 2: weights halved; S = 127 * 2 / max|w| rounded to (threshold + 1/64); W = floor(S w / 2 + 1/2)."""
    graph = one_neuron(1.0, -0.3, 0.7, bias=0.25)
    (layer,) = quantise(graph, [ones(graph)], PLAIN).network.stages
    scale = 253 + 1 / 64  # 127 / 0.5 = 254: the largest threshold + 1/64 below it is 253 + 1/64
    assert layer.threshold == 253
    np.testing.assert_array_equal(np.diag(layer.weight), np.floor(scale * np.array([0.5, -0.15, 0.35]) + 0.5))
    np.testing.assert_array_equal(layer.bias, np.floor(scale * np.full(3, 0.125) + 0.5))
    assert layer.v_decay == 2048
    assert layer.i_decay == 4096


@pytest.mark.parametrize(
    ("rule", "decay", "gain"),
    [
        ({"tau": 4.0}, 1024, 0.25),
        ({"tau": 4.0, "decay_input": False}, 1024, 1.0),
        ({"v_threshold": 0.5}, 2048, 1.0),
        ({"v_threshold": 0.5, "v_reset": -0.5}, 2048, 0.5),
    ],
)
def test_rules_enter_scale_and_decay(rule, decay, gain):
    graph = one_neuron(0.9, **rule)
    (layer,) = quantise(graph, [ones(graph)], PLAIN).network.stages
    assert layer.v_decay == decay
    assert layer.threshold == np.floor(127 / (0.9 * gain) - 1 / 64)


@pytest.mark.parametrize("weight", [2.0, 4 / 3, 8 / 7, 16 / 15])
def test_the_ties_rule_fires_at_the_threshold(weight):
    """Weights with which the membrane reaches 1 exactly, after 1, 2, 3 and 4 steps."""
    graph = one_neuron(weight, 1.99)
    expected = run(graph, ones(graph)).numpy()
    found = Twin(quantise(graph, [ones(graph)], replace(PLAIN, threshold_rule="ties")).network).run(
        ones(graph)
    )
    np.testing.assert_array_equal(found.payload, expected)
    assert expected[:, 0, 0].any()


def two_synapses(weight, **rule):
    """Two synapses that read the same spike, each with half the weight, and their neuron."""
    b = GraphBuilder(8)
    x = b.add("input", ir.Input((1,), Kind.BINARY))
    half = np.full((1, 1), weight / 2, np.float32)
    sums = [b.add(name, ir.Linear(half, None), x) for name in ("one", "other")]
    return b.finish(b.add("spikes", ir.LIF(**rule), b.add("sum", ir.Add(), *sums)))


def summed_spikes(weight, **rule):
    """The input added to itself, times half the weight, and a neuron: no synapse."""
    b = GraphBuilder(8)
    x = b.add("input", ir.Input((1,), Kind.BINARY))
    b.add("half", ir.Affine(weight / 2, 0.0), b.add("sum", ir.Add(), x, x))
    return b.finish(b.add("spikes", ir.LIF(**rule), "half"))


POPULATIONS = pytest.mark.parametrize("made", [one_neuron, two_synapses, summed_spikes])


@POPULATIONS
@pytest.mark.parametrize("weight", [2.0, 1.99, 2.01])
@pytest.mark.parametrize("rule", ["ties", "unbiased"])
def test_a_strict_neuron_does_not_fire_at_the_threshold(made, weight, rule):
    """A weight of two lifts the membrane to 1 exactly in the first step; whichever rule the other neurons follow."""
    graph = made(weight, strict=True)
    options = replace(PLAIN, threshold_rule=rule)
    found = Twin(quantise(graph, [ones(graph)], options).network).run(ones(graph))
    expected = run(graph, ones(graph)).numpy()
    np.testing.assert_array_equal(found.payload, expected)
    assert expected[0].any() == (weight > 2)


@POPULATIONS
def test_sums_honour_ties_as_layers_do(made):
    graph = made(2.0)
    found = Twin(quantise(graph, [ones(graph)], replace(PLAIN, threshold_rule="ties")).network).run(
        ones(graph)
    )
    assert found.payload.all()


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(
    "options", [LavaOptions(), LavaOptions(per_channel=True, compensate=True)], ids=["default", "fine"]
)
def test_the_budget_holds_and_the_networks_stay_close(name, options):
    graph = GRAPHS[name]()
    frames = frames_for(graph, 3)
    quantised = quantise(graph, [frames[:, :1], frames[:, 1:]], options)
    accuracy = evaluate(graph, quantised, [(frames, None)])
    assert lint(quantised.network).errors == ()
    for stage, report in zip(quantised.network.stages, accuracy.stages, strict=True):
        assert report.name == stage.name
        assert report.wraps == 0
        if isinstance(stage, LayerStage):
            assert np.abs(stage.weight).max() <= 127
            assert np.abs(stage.bias).max() < 1 << 15
            assert stage.threshold.max() < 1 << 17
            assert report.threshold == stage.threshold.max()
        if report.disagreement is not None:
            # eight bits move some spikes; half of them would mean a wrong scale, sign or order
            assert report.disagreement < 0.5 * max(report.rate_float, report.rate_integer, 0.02), report


def test_wide_input_makes_the_first_layer_exact():
    graph = GRAPHS["plain"]()
    frames = frames_for(graph, 4)
    errors, rates = {}, {}
    for wide in (False, True):
        quantised = quantise(graph, [frames], replace(PLAIN, wide_input=wide))
        first = evaluate(graph, quantised, [(frames, None)]).stages[0]
        errors[wide], rates[wide] = first.rounding, first.disagreement
        assert quantised.network.host_input.limbs == ((128, 1) if wide else (1,))
        assert np.abs(quantised.network.stages[0].weight).max() <= 127
    assert errors[True] < errors[False] / 16
    assert rates[True] < rates[False]


@pytest.mark.parametrize(("levels", "scale"), [(256, 255), (17, 64), (16, 60), (65, 64), (66, 255), (2, 64)])
def test_real_inputs_take_no_more_steps_than_their_levels_need(levels, scale):
    graph = GRAPHS["real in"]()
    rng = np.random.default_rng(0)
    picture = rng.integers(0, levels, (1, 3, *graph.input_shape)).astype(np.float32) / np.float32(levels - 1)
    frames = np.repeat(picture, graph.T, 0)
    quantised = quantise(graph, [frames])
    assert quantised.network.host_input.scale == quantised.network.host_input.unit == scale
    assert quantise(graph, [frames], LavaOptions(input_scale=100)).network.host_input.scale == 100
    if scale < 255:
        fine = quantise(graph, [frames], LavaOptions(input_scale=255))
        assert quantised.stages[0].rounding < fine.stages[0].rounding / 2


def test_averages_of_real_inputs_keep_their_denominator():
    graph = Builder((2, 8, 8), kind=Kind.REAL).pool("avg", (2, 2)).conv(4).lif().done()
    frames = np.ones((graph.T, 1, 2, 8, 8), np.float32) / 4
    host = quantise(graph, [frames]).network.host_input
    assert (host.scale, host.unit) == (64, 256)


def test_wide_input_with_groups():
    graph = Builder((4, 6, 6)).conv(8, groups=2).lif().done()
    frames = frames_for(graph)
    wide = quantise(graph, [frames], replace(PLAIN, wide_input=True))
    assert wide.stages[0].weight_max > 127
    assert wide.network.stages[0].weight.shape == (8, 8, 3, 3)
    accuracy = evaluate(graph, wide, [(frames, None)])
    assert accuracy.stages[0].disagreement < 1e-3


def test_input_is_not_repeated_where_the_budget_leaves_no_room():
    """The host's pool multiplies payloads by 144, so that currents and not weights bound the scale."""
    graph = Builder((2, 128, 128), T=2).add(ir.AdaptiveAvgPool2d((48, 48))).conv(2, gain=9).lif().done()
    network = quantise(graph, [frames_for(graph, 1) * 50]).network
    assert network.host_input.limbs == (1,)
    assert network.host_input.unit == 144


def test_compensated_rounding_lowers_the_error_on_correlated_inputs():
    rng = np.random.default_rng(0)
    common = rng.random((5000, 1)) < 0.3
    inputs = ((rng.random((5000, 40)) < 0.2) | common).astype(np.float64)
    weight = rng.normal(0, 30, (16, 40))
    nearest = np.floor(weight + 0.5)
    better = compensated(weight, [inputs], 127)
    error = [np.square(inputs @ (w - weight).T).mean() for w in (nearest, better)]
    assert error[1] < 0.5 * error[0]
    assert np.abs(better).max() <= 127
    assert np.abs(better - weight).max() < 4


def test_compensated_rounding_keeps_groups_and_silent_inputs_apart():
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 30, (4, 3))
    silent = compensated(weight, [np.zeros((10, 3))], 127)
    np.testing.assert_array_equal(silent, np.floor(weight + 0.5))
    rows = [(rng.random((500, 3)) < 0.4).astype(float) for _ in range(2)]
    grouped = compensated(weight, rows, 127)
    for k in range(2):
        np.testing.assert_array_equal(
            grouped[2 * k : 2 * k + 2], compensated(weight[2 * k : 2 * k + 2], [rows[k]], 127)
        )


def test_bias_correction_removes_the_mean_error():
    graph = GRAPHS["plain"]()
    frames = frames_for(graph, 6)
    shift = {}
    for correct in (False, True):
        quantised = quantise(graph, [frames], replace(PLAIN, correct_bias=correct))
        stages = evaluate(graph, quantised, [(frames, None)]).stages
        shift[correct] = sum(abs(s.rate_integer - s.rate_float) for s in stages)
    assert shift[True] < shift[False]


@pytest.mark.parametrize("name", ["gate", "gate, max", "gate, average", "average, gate"])
@pytest.mark.parametrize("bits", [4, 6, 10])
def test_gates_stay_within_their_bound(name, bits):
    """Half a step of the gate, a quarter of half a step of the table's argument, and the rounding of the weights."""
    graph = GRAPHS[name]()
    quantised = quantise(graph, [frames_for(graph)], LavaOptions(gate_bits=bits))
    gate = next(stage for stage in quantised.network.stages if isinstance(stage, GateStage))
    op = next(node.op for node in graph if isinstance(node.op, ir.TCJA))
    rng = np.random.default_rng(0)
    area = gate.in_shape[1] * gate.in_shape[2]
    counts = rng.integers(0, area + 1, (graph.T, 5, gate.in_shape[0]))
    exact = op.gate((counts / area).astype(np.float32))
    error = np.abs(integer_gate(gate, counts) / gate.one - exact).max()
    assert (
        error <= 0.5 / gate.one + 0.25 * 2.0**-9 + 0.25 * 2.0**-10
    )  # 2**-14 a weight, tens of weights near one
    assert gate.one == 1 << bits
    report = next(stage for stage in quantised.stages if stage.kind == "gate")
    assert 0 < report.rounding <= error + 0.5 / gate.one


def test_the_table_saturates_without_a_jump():
    for bits in (1, 6, 14):
        graph = GRAPHS["gate"]()
        quantised = quantise(graph, [frames_for(graph)], LavaOptions(gate_bits=bits, per_channel=True))
        gate = next(stage for stage in quantised.network.stages if isinstance(stage, GateStage))
        assert gate.table[0] == 0
        assert gate.table[-1] == gate.one


def test_margin_and_percentile_move_the_scale():
    graph = Builder((2, 10, 10)).conv(4, gain=0.2).lif(v_threshold=0.1).done()
    frames = frames_for(graph, 8) * 400  # currents, not weights, bound the scale
    scales = [
        quantise(graph, [frames], replace(PLAIN, **change)).stages[0].scale
        for change in ({}, {"margin": 2.0}, {"percentile": 50.0, "margin": 1.0}, {"margin": 1.0})
    ]
    assert scales[1] == pytest.approx(scales[0] * 1.25 / 2, rel=0.01)
    assert scales[3] == pytest.approx(scales[0] * 1.25, rel=0.05)
    assert scales[2] >= scales[3] * 0.85  # a peak in the middle would wrap, so it shrinks until nothing does


def test_a_layer_without_room_is_refused():
    graph = Builder((2, 6, 6)).conv(2).lif(v_threshold=1e-5).done()
    with pytest.raises(UnsupportedError, match="no scale fits"):
        quantise(graph, [frames_for(graph)], PLAIN)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gate_bits": 0}, "gate bits"),
        ({"gate_bits": 15}, "gate bits"),
        ({"threshold_rule": "best"}, "threshold rule"),
        ({"margin": 0.9}, "wrapping"),
        ({"percentile": 0.0}, "percentile"),
        ({"input_scale": 0}, "input scale"),
    ],
)
def test_options_that_make_no_sense(change, words):
    with pytest.raises(UsageError, match=words):
        LavaOptions(**change)


def test_no_data():
    graph = GRAPHS["plain"]()
    with pytest.raises(DataError, match="no calibration data"):
        quantise(graph, [])
    with pytest.raises(DataError, match="shape"):
        quantise(graph, [np.ones((6, 2, 3, 3, 3))])


def test_accuracy_counts_labels():
    graph = GRAPHS["plain"]()
    frames = frames_for(graph, 6)
    quantised = quantise(graph, [frames])
    truth = run(graph, frames).numpy().argmax(1)
    labels = truth.copy()
    labels[0], labels[1] = (labels[0] + 1) % 3, -1
    accuracy = evaluate(graph, quantised, [(frames[:, :4], labels[:4]), (frames[:, 4:], labels[4:])])
    found = Twin(quantised.network).run(frames).values.argmax(1)
    assert (accuracy.samples, accuracy.labelled, accuracy.float_correct) == (6, 5, 4)
    assert accuracy.agree == (found == truth).sum()
    assert accuracy.integer_correct == ((found == labels) & (labels >= 0)).sum()
    assert accuracy.loss == pytest.approx(100 * (4 - accuracy.integer_correct) / 5)


def test_large_calibration_sets_are_thinned_evenly(monkeypatch):
    graph = GRAPHS["plain"]()
    frames = frames_for(graph, 9)
    everything = quantise(graph, [frames])
    assert (everything.samples, everything.offered) == (9, 9)
    monkeypatch.setattr("tcja_deploy.exporters.lava.calibration.CALIBRATION_BYTES", 3 * graph.T * 4 * 12 * 10)
    thinned = quantise(graph, [frames])
    assert (thinned.samples, thinned.offered) == (3, 9)
    same = quantise(graph, [frames[:, [0, 4, 8]]])
    for one, other in zip(thinned.network.stages, same.network.stages, strict=True):
        np.testing.assert_array_equal(one.bias, other.bias)
    monkeypatch.setattr("tcja_deploy.exporters.lava.quantise_layer.CHUNK_BYTES", 1)
    chunked = quantise(graph, [frames])
    assert chunked.stages == thinned.stages
