"""The twin against an int64 loop written from the equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_nets import random_frames, random_network
from slow_twin import run_slow

from tcja_deploy.errors import DataError, GraphError, UsageError
from tcja_deploy.runtime.integers.layers import LayerStage, or_pool
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork, Readout
from tcja_deploy.runtime.integers.stages import HOST, NeuronStage, RelayStage, SynapseStage
from tcja_deploy.runtime.integers.twin import Twin, encode


def both(network, frames, record=()):
    """What the kernels give, which is all that the reference gives."""
    results = [Twin(network, kernels).run(frames, record) for kernels in (False, True)]
    np.testing.assert_array_equal(results[0].payload, results[1].payload)
    for name in record:
        np.testing.assert_array_equal(results[0].recorded[name], results[1].recorded[name], err_msg=name)
    assert results[0].counts == results[1].counts
    return results[1]


def assert_equal_to_slow(network, frames):
    names = [stage.name for stage in network.stages]
    result = both(network, frames, names)
    wraps = dict.fromkeys(names, 0)
    saturations = dict.fromkeys(names, 0)
    for sample in range(frames.shape[1]):
        expected, events = run_slow(network, frames[:, sample])
        for name in names:
            np.testing.assert_array_equal(result.recorded[name][:, sample], expected[name], err_msg=name)
        for name, (wrapped, saturated) in events.items():
            wraps[name] += wrapped
            saturations[name] += saturated
    assert {name: counts.wraps for name, counts in result.counts.items()} == wraps
    assert {name: counts.saturations for name, counts in result.counts.items()} == saturations
    return result


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    gates=st.integers(0, 2),
    kind=st.sampled_from(["both", "add", "tla", "cla"]),
    binary=st.booleans(),
    extreme=st.booleans(),
)
def test_every_spike_equals_the_slow_loop(seed, gates, kind, binary, extreme):
    network = random_network(seed, gates=gates, kind=kind, binary=binary, extreme=extreme, frames=5)
    assert_equal_to_slow(network, random_frames(network, 2, seed))


def test_extreme_networks_do_wrap_and_saturate():
    """The sweep above reaches what it is meant to reach."""
    wraps = saturations = spikes = 0
    for seed in range(12):
        network = random_network(seed, extreme=True, frames=6)
        counts = Twin(network).run(random_frames(network, 1, seed)).counts.values()
        wraps += sum(c.wraps for c in counts)
        saturations += sum(c.saturations for c in counts)
        spikes += sum(c.spikes for c in counts)
    assert wraps > 0
    assert saturations > 0
    assert spikes > 0


def dense(weight, threshold, *, bias=None, v_decay=4096, i_decay=4096, shape=None):
    weight = np.asarray(weight, np.int64)
    bias = np.zeros(weight.shape[0], np.int64) if bias is None else np.asarray(bias, np.int64)
    return LayerStage(
        "n", "dense", shape or (weight.shape[1],), weight, bias, np.asarray(threshold), v_decay, i_decay
    )


def single(layer, frames, *, peak=1):
    binary = peak == 1
    network = IntegerNetwork("net", len(frames), HostInput(layer.in_shape, binary, peak), (layer,), Readout())
    return both(network, np.asarray(frames)[:, None])


def test_threshold_is_strict_and_the_leak_truncates_towards_zero():
    # v = 64 * 3 = 192, then (192 >> 1) + 192 = 288, 144 + 192 = 336 > 64 * 5: reset
    assert single(dense([[3]], 5, v_decay=2048), [[1]] * 4).payload[:, 0, 0].tolist() == [0, 0, 1, 0]
    assert single(dense([[5]], 5), [[1]]).payload[0, 0, 0] == 0
    assert single(dense([[6]], 5), [[1]]).payload[0, 0, 0] == 1


def test_current_wraps_at_two_to_the_seventeenth():
    # 64 * 131072 = 2**23 is not above M; one more wraps to below zero; -131072 wraps to above
    for payload, fires in ((131072, 1), (131073, 0), (-131072, 1), (-131071, 0)):
        assert single(dense([[1]], 1000), [[payload]], peak=200000).payload[0, 0, 0] == fires, payload


def test_sums_beyond_24_bits_count_as_wrapped():
    """A convolution of 2**24 + 6 looks like one of 6: the spike is right, and the count says what happened."""
    layer = LayerStage(
        "n", "conv", (1, 1, 1), np.full((1, 1, 1, 1), (1 << 23) + 3), np.zeros(1, int), np.asarray(5)
    )
    result = single(layer, [[[[2]]], [[[1]]]], peak=2)
    assert result.payload.ravel().tolist() == [1, 0]
    assert result.counts["n"].wraps == 2
    assert result.counts["n"].peak == (1 << 24) + 6


def test_bias_beyond_sixteen_bits_wraps():
    result = single(dense([[0], [0]], 10, bias=[40000, 70000]), [[0]])
    assert result.payload[0, 0].tolist() == [0, 1]  # 40000 - 65536 < 0; 70000 - 65536 = 4464 > 10


@pytest.mark.parametrize("v_decay", [0, 2048])
@pytest.mark.parametrize("sign", [1, -1])
def test_voltage_saturation(v_decay, sign):
    """In float64 (no leak) and in float32 (half): counted, and the largest threshold is out of reach."""
    layer = dense([[131000 * sign]], 131072, v_decay=v_decay)
    network = IntegerNetwork("net", 5, HostInput((1,), True, 1), (layer,), Readout())
    result = assert_equal_to_slow(network, np.array([1, 1, 0, 1, 1]).reshape(5, 1, 1))
    assert result.payload.sum() == 0
    assert result.counts["n"].saturations > 0


def test_chunks_and_threads_do_not_change_results(monkeypatch):
    network = random_network(7, gates=1)
    frames = random_frames(network, 5)
    names = [stage.name for stage in network.stages]
    whole = both(network, frames, names)
    monkeypatch.setattr("tcja_deploy.runtime.integers.twin.CHUNK_BYTES", 1)
    for threads in (1, 2, 3):
        split = Twin(network, True, threads).run(frames, record=names)
        for name in names:
            np.testing.assert_array_equal(whole.recorded[name], split.recorded[name])
        assert whole.counts == split.counts


def test_or_pool_is_max_pooling():
    rng = np.random.default_rng(0)
    torch = pytest.importorskip("torch")
    for channels, shape in ((3, (7, 8)), (128, (4, 6)), (254, (4, 4))):
        layer = or_pool("pool", (channels, *shape), (3, 2), (2, 2), (1, 1))
        assert layer.groups <= 127
        spikes = (rng.random((4, 1, channels, *shape)) < 0.2).astype(np.int64)
        network = IntegerNetwork("net", 4, HostInput((channels, *shape), True, 1), (layer,), Readout())
        expected = torch.nn.functional.max_pool2d(torch.tensor(spikes[:, 0]).float(), (3, 2), (2, 2), (1, 1))
        np.testing.assert_array_equal(both(network, spikes).payload[:, 0], expected.numpy())


@pytest.mark.parametrize("outputs", [5, 20, 70, 130])
@pytest.mark.parametrize("peak", [1, 9])
def test_sums_of_many_inputs_stay_exact_in_narrow_lanes(outputs, peak):
    """All weights as large as 8 bits allow and all inputs active: 700 of them leave 16 bits."""
    rng = np.random.default_rng(outputs)
    weight = np.full((outputs, 700), 127) * rng.choice([-1, 1], (outputs, 1))
    weight[1::3] = rng.integers(-127, 128, weight[1::3].shape)
    layer = dense(weight, 40000, v_decay=2048)
    frames = np.stack([np.full(700, peak), np.arange(700) % 2 * peak, np.zeros(700, int), np.full(700, peak)])
    result = single(layer, frames, peak=peak)
    assert result.counts["n"].peak == 127 * 700 * peak
    assert 0 < result.payload.mean() < 1


@pytest.mark.parametrize("window", [(2, 2), (3, 3)])
def test_sums_of_pools_are_counted(window):
    """The peak of an OR pool is the largest number of spikes in a window, times its weight."""
    for spikes in range(window[0] * window[1] + 1):
        layer = or_pool("n", (20, 5, 5), window, (1, 2), (1, 0))
        frames = np.zeros((3, 1, 20, 5, 5), int)
        places = np.argwhere(np.ones(window))[:spikes]
        frames[1, 0, 17, 2 + places[:, 0], 2 + places[:, 1]] = 1
        network = IntegerNetwork("net", 3, HostInput((20, 5, 5), True, 1), (layer,), Readout())
        assert both(network, frames).counts["n"].peak == 2 * spikes


@pytest.mark.parametrize("kind", ["conv", "transposed", "dense"])
@pytest.mark.parametrize("most", [100, 3000])
def test_synapses_without_neurons_sum_alike(kind, most):
    """Groups, strides, padding, wide weights and signed payloads; torch is the reference's oracle of its geometry."""
    rng, signed = np.random.default_rng(most), HostInput((4, 7, 6), False, 9)
    shape = {"conv": (6, 2, 3, 2), "transposed": (4, 3, 3, 2), "dense": (20, 168)}[kind]
    geometry = (
        {} if kind == "dense" else {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    )
    synapse = SynapseStage(
        "s", (":host",), kind, (4, 7, 6), rng.integers(-most, most, shape), 1.0, **geometry
    )
    bias = np.arange(synapse.out_shape[0])
    neurons = NeuronStage("n", ("s",), synapse.out_shape, bias, np.asarray(10 * most), 1024)
    network = IntegerNetwork("net", 4, signed, (synapse, neurons), Readout())
    frames = rng.integers(-9, 10, (4, 2, 4, 7, 6)) * (rng.random((4, 2, 4, 7, 6)) < 0.3)
    assert 0.001 < both(network, frames, ["s", "n"]).payload.mean() < 0.9


def meeting(seed, extreme):
    """A relay and a population that read the input, and what they send added by another relay and another population."""
    rng = np.random.default_rng(seed)
    shape = (5, 3, 4) if seed % 2 else (7,)
    top = 1 << (19 if extreme else 9)

    def bias():
        return rng.integers(-top // 4, top // 4, shape[0])

    def relay(name, *inputs):
        factor = int(rng.choice([1, -1, 3, -77, 12345]))
        decay = [None, 0, 700, 2048, 4096][int(rng.integers(5))]
        bits = int(rng.integers(4, 25))
        return RelayStage(
            name, inputs, shape, bias(), 1.0, bits, factor, int(rng.integers(0, 16)) * (factor > 3), decay
        )

    def population(name, *inputs):
        threshold = rng.integers(1, top, shape[0]) if rng.random() < 0.5 else np.asarray(top // 3)
        drop, rest = [(0, 0), (64 * top // 3, 0), (0, -top // 5)][int(rng.integers(3))]
        return NeuronStage(
            name, inputs, shape, bias(), threshold, int(rng.choice([0, 123, 2048, 4096])),
            int(rng.choice([0, 1024, 3001, 4096, 4096])), "subtract" if drop else "zero", rest, drop,
        )  # fmt: skip

    stages = (
        relay("relay", HOST),
        population("spikes", HOST, "relay"),
        relay("sum", "spikes", "relay", HOST),
        population("last", "sum", "spikes", "spikes"),
    )
    network = IntegerNetwork("meeting", 6, HostInput(shape, False, top), stages, Readout())
    return network, rng.integers(-top, top + 1, (6, 4, *shape))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("extreme", [False, True])
def test_populations_and_relays_alike(seed, extreme):
    network, frames = meeting(seed, extreme)
    run = both(network, frames, record=[stage.name for stage in network.stages])
    assert run.counts["spikes"].neuron_steps == frames.size


def test_populations_and_relays_were_tried_beyond_their_limits():
    runs = [
        Twin(network, False).run(frames) for network, frames in (meeting(seed, True) for seed in range(12))
    ]
    spikes, relays = ([run.counts[name] for run in runs] for name in ("spikes", "relay"))
    assert all(sum(getattr(c, what) for c in spikes) for what in ("spikes", "wraps", "saturations"))
    assert sum(c.saturations for c in relays) > 0


def test_host_input_pools_exactly():
    rows = np.array([[2, 2, 0], [0, 0, 4]])  # means over two and over one row, times four
    columns = np.array([[1, 1]])
    host = HostInput((1, 3, 2), False, 9, rows=rows, columns=columns, unit=8)
    frames = np.arange(6).reshape(1, 1, 1, 3, 2)
    assert encode(host, frames)[0, 0, 0].tolist() == [[12], [36]]


def test_readout_votes_and_averages():
    payload = np.array([[[1, 0, 1, 1]], [[1, 1, 0, 1]]], np.int32)
    np.testing.assert_array_equal(Readout(vote=2, time_mean=True)(payload, 1), [[0.75, 0.75]])
    weighted = Readout(weight=np.array([[1.0, 0, 0, 2.0]]), bias=np.array([0.5]))
    np.testing.assert_array_equal(weighted(payload, 2), [[[2.0]], [[2.0]]])


def test_frames_that_do_not_fit_are_refused():
    network = random_network(3)
    twin = Twin(network)
    good = random_frames(network, 1)
    for frames, words in (
        (good[:-1], "T = 8"),
        (good[:, :0], "no sample"),
        (good[..., :-1], "shape"),
        (good * 2, "other than 0 and 1"),
        (good * 0.5, "fractions"),
    ):
        with pytest.raises(DataError, match=words):
            twin.run(frames)
    counting = Twin(random_network(3, binary=False))
    with pytest.raises(DataError, match="16777216 exceeds the 24 bits of a message"):
        counting.run(np.full((8, 1, *counting.network.host_input.shape), 1 << 24))
    with pytest.raises(UsageError, match="no stage named nowhere"):
        twin.run(good, record=["nowhere"])


def test_networks_that_make_no_sense_are_refused():
    layer = dense([[1, 2]], 5)
    for changes, words in (
        ({"bias": np.zeros(2, np.int64)}, "misses the channels"),
        ({"in_shape": (3,)}, "does not fit"),
        ({"v_decay": 5000}, "decays"),
    ):
        with pytest.raises(GraphError, match=words):
            replace(layer, **changes)
    with pytest.raises(GraphError, match="repeat"):
        IntegerNetwork("net", 1, HostInput((2,), True, 1), (layer, replace(layer, in_shape=(2,))), Readout())
    with pytest.raises(GraphError, match="expects an input"):
        IntegerNetwork("net", 1, HostInput((3,), True, 1), (layer,), Readout())
