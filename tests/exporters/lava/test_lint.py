"""The lint names what Lava would accept and get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from integer_nets import random_network

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.lint import check, lint
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork, Readout


def conv(channels=4, groups=1, *, weight=3, bias=0, threshold=10, kernel=1, **geometry):
    values = np.full((channels, channels // groups, kernel, kernel), weight, np.int64)
    size = max(4, kernel)
    biases = np.full(channels, bias, np.int64)
    return LayerStage(
        "conv",
        "conv",
        (channels, size, size),
        values,
        biases,
        np.asarray(threshold),
        groups=groups,
        **geometry,
    )


def dense(weight, *, bias=0, threshold=10):
    weight = np.asarray(weight, np.int64)
    return LayerStage(
        "dense", "dense", (weight.shape[1],), weight, np.full(len(weight), bias), np.asarray(threshold)
    )


def network(*layers, peak=1):
    return IntegerNetwork("net", 4, HostInput(layers[0].in_shape, peak == 1, peak), layers, Readout())


def test_ordinary_networks_have_no_errors():
    for seed in range(4):
        assert lint(random_network(seed, gates=1)).errors == ()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (conv(128, 128), "groups 128 does not fit the 8 bits"),
        (conv(2, kernel=128), "kernel 128 does not fit"),
        (conv(2, stride=(1, 200)), "stride 200 does not fit"),
        (conv(2, padding=(128, 0)), "padding 128 does not fit"),
        (conv(bias=32768), "do not fit 16 bits"),
        (conv(bias=-32769), "do not fit 16 bits"),
        (conv(threshold=131072), "can never be exceeded"),
        (conv(threshold=-1), "is negative"),
        (dense([[0, 0]]), "all weights are zero"),
        (dense([[-1, -1]]), "all weights are negative"),
        (dense([[0, 256]]), "exceed 255"),
        (dense([[-3, 255]]), "exceed -256..254"),
        (dense([[-257, 3]]), "exceed -256..254"),
    ],
)
def test_every_trap_is_an_error(layer, words):
    with pytest.raises(UnsupportedError, match=words):
        check(network(layer))


@pytest.mark.parametrize(
    "layer",
    [
        conv(127, 127),
        conv(bias=32767),
        conv(threshold=131071),
        dense([[0, 1]]),
        dense([[-1, 0]]),
        dense([[0, 255]]),
        dense([[-256, 254]]),
    ],
)
def test_the_largest_that_is_right_passes(layer):
    assert lint(network(layer)).errors == ()


def test_overflow_of_a_dense_sum_is_an_error():
    assert any("32 bits" in e for e in lint(network(dense([[200] * 200]), peak=1000)).errors)
    assert lint(network(dense([[200] * 100]), peak=1000)).errors == ()


def test_overflow_of_a_convolution_is_an_error():
    """Lava turns its sums, in float64, into 32-bit integers before it wraps them."""
    layer = conv(1, weight=1 << 20)
    assert lint(network(layer, peak=2047)).errors == ()
    assert any("overflow 32 bits before" in e for e in lint(network(layer, peak=2048)).errors)


def test_overflow_of_a_current_with_memory_is_an_error():
    """Lava wraps a current once per step; one that never forgets can leave 32 bits within the window."""
    for i_decay, frames, wrong in ((4096, 100, False), (0, 3, False), (0, 4, True), (4095, 4, True)):
        layer = conv(1, weight=1 << 23, i_decay=i_decay)
        net = IntegerNetwork("net", frames, HostInput((1, 4, 4), True, 1), (layer,), Readout())
        assert any("32 bits" in e for e in lint(net).errors) == wrong


def test_all_violations_come_at_once():
    first = conv(128, 128, bias=40000, threshold=-1)
    second = LayerStage(
        "second", "dense", first.out_shape, np.zeros((2, 2048), np.int64), np.zeros(2, int), np.asarray(1)
    )
    with pytest.raises(UnsupportedError) as caught:
        check(network(first, second))
    assert caught.value.reason.count("\n  - ") == 4


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (conv(bias=4096), "13 bits of the chip"),
        (conv(weight=128), "8 bits of a synapse"),
        (conv(threshold=np.arange(4)), "one per population"),
        (conv(64, weight=100, kernel=5), "beyond 131071 they wrap"),
    ],
)
def test_what_only_leaves_the_specification_is_a_note(layer, words):
    findings = lint(network(layer))
    assert findings.errors == ()
    assert any(words in note for note in findings.notes)
