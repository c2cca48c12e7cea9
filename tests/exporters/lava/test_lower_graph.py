"""Graphs with branches as integer stages: what each construct computes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs import Builder, frames_for
from torch.nn import functional

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.accuracy import evaluate
from tcja_deploy.exporters.lava.float_graph import FloatMeeting
from tcja_deploy.exporters.lava.lower import lower
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.ir import Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.stages import HOST, NeuronStage, RelayStage, SynapseStage
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.sequence import run


def recorded(graph, frames, **options):
    network = quantise(graph, [frames], LavaOptions(**options)).network
    return network, Twin(network).run(frames, record=[stage.name for stage in network.stages]).recorded


def branches(*, kind=Kind.COUNT, seed=0):
    """A spiking convolution, and a second one of the same shape after it."""
    b = Builder((2, 6, 6), T=6, kind=kind, seed=seed)
    b.conv(4).lif()
    first = b.x
    b.conv(4).lif()
    return b, first, b.x


@pytest.mark.parametrize("inverted", [False, True])
def test_products_of_spikes_are_exact(inverted):
    b, first, second = branches()
    if inverted:
        second = b.graph.add("not", ir.Affine(-1.0, 1.0), second)
    b.x = b.graph.add("both", ir.Mul(), first, second)
    b.conv(3).lif()
    graph = b.done()
    network, values = recorded(graph, frames_for(graph, 3))
    a, c = (values[n] for n in (first, network_second(network)))
    assert np.array_equal(values["both"], a * (1 - c) if inverted else a * c)
    assert 0 < values["both"].mean() < 1


def network_second(network):
    """The second population by its name."""
    return [stage.name for stage in network.stages if stage.name.endswith(".lif")][1]


def test_sums_of_spikes_are_exact():
    b, first, second = branches()
    b.x = b.graph.add("sum", ir.Add(), first, second)
    b.conv(3).lif()
    graph = b.done()
    network, values = recorded(graph, frames_for(graph, 3))
    assert isinstance(next(s for s in network.stages if s.name == "sum"), RelayStage)
    assert np.array_equal(values["sum"], values[first].astype(int) + values[network_second(network)])
    assert values["sum"].max() == 2


def test_a_stream_of_real_numbers_is_the_float_one_to_its_rounding():
    """No neuron before the last: the integer stream differs by weight and payload rounding alone."""
    b = Builder((2, 8, 8), T=4)
    b.conv(4)
    stem = b.x
    b.conv(4, kernel=(1, 1), padding=(0, 0, 0, 0), stride=(2, 2))
    b.graph.add("again", ir.Affine(0.5, 0.0), b.x)
    short = b.x
    b.x = stem
    b.conv(4, stride=(2, 2))
    b.x = b.graph.add("sum", ir.Add(), b.x, short, "again")
    b.add(ir.LIF()).add(ir.Flatten()).linear(3)
    graph = b.done()
    frames = frames_for(graph, 3)
    seen = {}
    run(graph, frames, observe=lambda node, value: seen.update({node.name: value.numpy()}))
    quantised = quantise(graph, [frames], LavaOptions(correct_bias=False))
    network = quantised.network
    neuron = next(s for s in network.stages if isinstance(s, NeuronStage))
    values = Twin(network).run(frames, record=list(neuron.inputs)).recorded
    unit = next(r.scale for r in quantised.stages if r.name == neuron.name)
    found = (sum(values[n].astype(float) for n in neuron.inputs) + neuron.bias.reshape(-1, 1, 1)) / unit
    exact = seen["sum"] * 0.5  # the gain of tau = 2
    assert np.abs(found - exact).max() < 0.03 * np.abs(exact).max()
    assert any(isinstance(s, SynapseStage) and s.stride == (2, 2) for s in network.stages)


def test_the_room_of_a_stream_is_its_peak_with_the_bias_in_it():
    """2**16 - 1 integers for the peak and its margin: as many as 17 bits have; the bias needs none besides."""
    b = Builder((2, 6, 6), T=4)
    b.add(ir.Conv2d(b.weights(4, 2, 3, 3), np.full(4, 3.0, np.float32), padding=(1, 1, 1, 1)))
    stem = b.x
    b.lif().conv(4)
    branch, b.x = b.x, stem
    b.x = b.graph.add("sum", ir.Add(), b.x, branch)
    b.lif().add(ir.Flatten()).linear(3)
    graph = b.done()
    frames = frames_for(graph, 3)
    seen = {}
    run(graph, frames, observe=lambda node, value: seen.update({node.name: value.numpy()}))
    network = quantise(graph, [frames]).network
    relay = next(s for s in network.stages if s.name == stem)
    assert relay.unit == pytest.approx(((1 << 16) - 1) / (LavaOptions().margin * np.abs(seen[stem]).max()))
    assert relay.bits == 17


def test_a_soft_reset_keeps_what_is_above_the_threshold():
    """A constant input of 0.72 thresholds fires floor(7.2) times in 10 steps, every second step with a hard reset."""
    counts = {}
    for reset in (None, 0.0):
        b = Builder((1,), T=10, kind=Kind.BINARY)
        b.add(ir.Linear(np.full((1, 1), 0.72, np.float32), None)).add(ir.IF(v_reset=reset))
        graph = b.done()
        _, values = recorded(graph, np.ones((10, 1, 1), np.float32), wide_input=False)
        counts[reset] = int(next(iter(v for k, v in values.items() if k.endswith(".if"))).sum())
    assert counts == {None: 7, 0.0: 5}


@pytest.mark.parametrize("seed", range(3))
def test_soft_resets_spike_as_the_float_network_does(seed):
    b = Builder((2, 6, 6), T=8, seed=seed)
    b.conv(4).lif(v_reset=None).conv(4).lif(v_reset=None).add(ir.Flatten()).linear(4).lif(v_reset=None)
    graph = b.done()
    frames = frames_for(graph, 6)
    quantised = quantise(graph, [frames])
    measured = evaluate(graph, quantised, [(frames, None)])
    spiking = [s for s in measured.stages if s.disagreement is not None]
    assert len(spiking) == 3
    assert spiking[0].disagreement < 0.01
    assert all(abs(s.rate_float - s.rate_integer) < 0.02 for s in spiking[:2])


def refused_integrator(b):
    b.conv(2).add(ir.LI(0.5, v_leak=1.0))


def refused_average(b):
    b.conv(2).lif(v_reset=None).add(ir.AdaptiveAvgPool2d((4, 4))).conv(2).lif()


def refused_inverted(b):
    b.conv(2).lif()
    one = b.graph.add("one", ir.Affine(-1.0, 1.0), b.x)
    other = b.graph.add("other", ir.Affine(-1.0, 1.0), b.x)
    b.x = b.graph.add("neither", ir.Mul(), one, other)
    b.conv(2).lif()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (refused_integrator, "leaks to 1"),
        (refused_inverted, "inverted spikes only"),
        (refused_average, "windows of different sizes"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(build, words):
    b = Builder((2, 6, 6))
    build(b)
    graph = b.done()
    with pytest.raises(UnsupportedError, match=words):
        quantise(graph, [frames_for(graph)])


def test_an_identity_shortcut_keeps_the_unit_of_its_stream():
    b = Builder((2, 6, 6))
    b.conv(4)
    stem = b.x
    b.lif().conv(4)
    b.x = b.graph.add("sum", ir.Add(), b.x, stem)
    after = b.x
    b.lif().conv(4)
    b.x = b.graph.add("more", ir.Add(), b.x, after)
    b.lif().add(ir.Flatten()).linear(3)
    graph = b.done()
    network = quantise(graph, [frames_for(graph, 3)]).network
    units = {network.edges[name].unit for name in (stem, "sum")}
    assert len(units) == 1
    relay = next(s for s in network.stages if s.name == "sum")
    assert stem in relay.inputs  # as it is, without a relay that rescales
    assert HOST not in relay.inputs


def test_a_value_added_to_itself_counts_twice():
    b = Builder((2, 6, 6))
    b.conv(4)
    b.x = b.graph.add("twice", ir.Add(), b.x, b.x)
    b.lif().add(ir.Flatten()).linear(3)
    graph = b.done()
    frames = frames_for(graph, 3)
    quantised = quantise(graph, [frames])
    measured = evaluate(graph, quantised, [(frames, None)])
    assert next(s.disagreement for s in measured.stages if s.disagreement is not None) < 0.01


def test_an_input_in_another_shape_gets_room_once():
    """Attention on maps that a reshape makes of the input plans for payloads like those of the same maps as input."""

    def attended(b):
        x = b.x
        b.add(ir.Reduce("mean", (3, 4), True)).add(ir.Sigmoid())
        b.x = b.graph.add("gated", ir.Mul(), x, b.x)
        return b.conv(4).lif().done()

    direct = attended(Builder((8, 3, 3)))
    shaped = attended(Builder((2, 6, 6)).add(ir.Reshape(("T", "N", 8, 3, 3), (0, 1))))
    frames = frames_for(shaped, 3)
    maps = frames.reshape(*frames.shape[:2], 8, 3, 3)
    found, expected = (quantise(g, [f]).network for g, f in ((shaped, frames), (direct, maps)))
    assert found.edges["gated"] == expected.edges["gated"]
    loud = 50 * frames  # beyond what both clip
    spikes = [Twin(n).run(f).payload for n, f in ((found, loud), (expected, loud.reshape(maps.shape)))]
    assert np.array_equal(*spikes)
    assert spikes[0].any()


@pytest.mark.parametrize(
    ("first", "second", "merges"),
    [
        (lambda b: b.conv(6, stride=(2, 2)), lambda b: b.conv(3, kernel=(1, 1), padding=(0, 0, 0, 0)), True),
        (
            lambda b: b.conv(3, kernel=(3, 2), padding=(1, 0, 1, 0), dilation=(1, 2)),
            lambda b: b.conv(4, kernel=(1, 1), padding=(0, 0, 0, 0), stride=(3, 2)),
            True,
        ),
        (lambda b: b.conv(1, kernel=(5, 5)), lambda b: b.conv(9, kernel=(1, 1), padding=(0, 0, 0, 0)), False),
        (lambda b: b.conv(4), lambda b: b.conv(4, kernel=(1, 1), padding=(1, 1, 1, 1)), None),
        (lambda b: b.conv(4), lambda b: b.conv(4), None),
        (lambda b: b.add(ir.Flatten()).linear(40), lambda b: b.linear(7), True),
        (lambda b: b.add(ir.Flatten()).linear(2), lambda b: b.linear(60), False),
    ],
)
def test_two_linear_maps_are_one_where_that_is_exact_and_less_work(first, second, merges):
    """Torch computes both, one after the other; here the first's values are sent by a relay, or never exist."""
    b = Builder((2, 8, 8), T=3)
    first(b)
    inner = b.x
    second(b)
    last = b.x
    b.lif()
    graph = b.done()
    frames = frames_for(graph, 3)
    floats = lower(graph)
    assert ("merged into" in floats.notes[inner]) == (merges is True)
    assert ("not merged" in floats.notes[last]) == (merges is False)
    assert sum(isinstance(s, FloatMeeting) for s in floats.stages) == (1 if merges else 2)
    seen = {}
    run(graph, frames, observe=lambda node, value: seen.update({node.name: value.numpy()}))
    quantised = quantise(graph, [frames])
    spikes = Twin(quantised.network).run(frames, record=[b.x]).recorded[b.x]
    assert 0 < spikes.mean() < 1
    assert (spikes != seen[b.x]).mean() < 0.02
    if merges:
        (term,) = floats.stages[-1].terms
        exact = {
            "conv": lambda s, x: functional.conv2d(x, torch.from_numpy(s.weight), None, s.stride, s.padding, s.dilation),
            "dense": lambda s, x: x.flatten(1) @ torch.from_numpy(s.weight).T,
        }[term.synapse.kind]  # fmt: skip
        sums = exact(term.synapse, torch.from_numpy(frames.astype(np.float64)).flatten(0, 1)).numpy()
        sums = sums + floats.stages[-1].bias.reshape(-1, *(1,) * (sums.ndim - 2))
        np.testing.assert_allclose(sums, seen[last].reshape(sums.shape), atol=2e-5 * np.abs(sums).max())


@pytest.mark.parametrize("depth", [1, 3])
def test_weights_that_read_a_stream_keep_their_bits(depth):
    """Depthwise convolutions, then 1x1, as in MobileNet: payloads of 17 bits would leave none to the weights after them."""
    b = Builder((4, 8, 8), T=4)
    for _ in range(depth):
        b.conv(4, groups=4)
        b.conv(6, kernel=(1, 1), padding=(0, 0, 0, 0)).lif()
        b.conv(4, kernel=(1, 1), padding=(0, 0, 0, 0)).lif()
    graph = b.done()
    frames = frames_for(graph, 6)
    measured = evaluate(graph, quantise(graph, [frames]), [(frames, None)])
    spiking = [s for s in measured.stages if s.disagreement is not None]
    assert len(spiking) == 2 * depth
    assert all(s.wraps == 0 for s in measured.stages)
    assert spiking[0].weight_bits >= 7
    assert spiking[0].disagreement < 0.01


@pytest.mark.parametrize("pool", [False, True])
def test_the_steps_of_weights_are_those_of_what_is_rounded(pool):
    """An average before a synapse of a stream is in its weights; their integers are its own weights over the step."""
    b = Builder((2, 8, 8), T=3)
    b.conv(4).lif()
    if pool:
        b.pool("avg", (2, 2))
    b.conv(4, kernel=(1, 1), padding=(0, 0, 0, 0))
    name = b.x
    b.lif()
    other = b.x
    b.x = b.graph.add("sum", ir.Add(), name, other)
    b.lif()
    graph = b.done()
    weight = graph[name].op.weight
    quantised = quantise(graph, [frames_for(graph, 3)], LavaOptions(wide_input=False))
    synapse = next(s for s in quantised.network.stages if s.name == f"{name}.sums")
    np.testing.assert_array_equal(
        synapse.weight[:, :, :1, :1], np.floor(weight / quantised.steps[name] + 0.5)
    )
