"""Sums in bytes, float32 and by pooling equal those in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from integer_nets import random_frames, random_network

from tcja_deploy.runtime.integers import sums as integer_sums
from tcja_deploy.runtime.integers.layers import LayerStage, or_pool
from tcja_deploy.runtime.integers.sums import FastSums, bytes_are_exact, linear_part
from tcja_deploy.runtime.integers.twin import Twin

GEOMETRIES = [
    # channels in and out, kernel, stride, padding, dilation, groups
    (3, 5, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (32, 64, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (4, 6, (3, 2), (2, 1), (0, 1), (1, 2), 2),
    (8, 8, (2, 3), (1, 2), (2, 0), (2, 1), 8),
    (16, 16, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (6, 4, (5, 5), (3, 3), (2, 2), (1, 1), 2),
]


def layer_of(depth, channels, kernel, stride, padding, dilation, groups, most=127):
    rng = np.random.default_rng(depth)
    weight = rng.integers(-most, most + 1, (channels, depth // groups, *kernel))
    bias = rng.integers(-32768, 32768, channels)
    return LayerStage(
        "n",
        "conv",
        (depth, 11, 9),
        weight,
        bias,
        np.asarray(1),
        4096,
        4096,
        stride,
        padding,
        dilation,
        groups,
    )


def both(layer, payload, peak):
    """The fast sums and those in float64, and whether bytes were used."""
    x = torch.as_tensor(payload, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    weight, bias = (torch.as_tensor(64 * a, dtype=torch.float64) for a in (layer.weight, layer.bias))
    used = []
    kernel = integer_sums._byte_sums
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integer_sums, "_byte_sums", lambda *args: used.append(1) or kernel(*args))
        fast = FastSums(layer, weight.float(), bias.float())(x, peak)
    return fast.double(), linear_part(layer, x.double(), weight, bias), bool(used)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("peak", [1, 64, 128])
def test_small_payloads_in_bytes(geometry, peak):
    payload = np.random.default_rng(peak).integers(0, peak + 1, (3, geometry[0], 11, 9))
    fast, exact, used = both(layer_of(*geometry), payload, peak)
    assert torch.equal(fast, exact)
    assert used == bytes_are_exact()


@pytest.mark.parametrize(("low", "high", "most"), [(0, 129, 127), (-5, 5, 127), (0, 1, 128)])
def test_what_does_not_fit_bytes_is_added_in_float32(low, high, most):
    layer = layer_of(*GEOMETRIES[0], most=127)
    weight = layer.weight.copy()
    weight[0, 0, 0, 0] = most
    payload = np.random.default_rng(0).integers(low, high + 1, (3, 3, 11, 9))
    payload[0, 0, 0, 0] = low
    fast, exact, used = both(replace(layer, weight=weight), payload, high)
    assert torch.equal(fast, exact)
    assert not used


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 2), (1, 1)), ((3, 3), (2, 1), (2, 2))],
)
def test_pools_are_sums_of_windows(kernel, stride, padding):
    """With more padding than PyTorch's pools take, and with other weights, it is a convolution again."""
    layer = or_pool("n", (130, 11, 9), kernel, stride, padding)
    payload = np.random.default_rng(0).integers(0, 2, (2, 130, 11, 9))
    fast, exact, _ = both(layer, payload, 1)
    assert torch.equal(fast, exact)
    weight = layer.weight.copy()
    weight[0, 0, 0, 0] = 1
    fast, exact, _ = both(replace(layer, weight=weight), payload, 1)
    assert torch.equal(fast, exact)


def test_without_a_byte_kernel_the_twin_is_the_same(monkeypatch):
    """As on processors other than x86."""
    network = random_network(5, gates=1)
    frames = random_frames(network, 2)
    names = [stage.name for stage in network.stages]
    expected = Twin(network).run(frames, record=names)
    monkeypatch.setattr(integer_sums, "_packed", lambda layer: (_ for _ in ()).throw(NotImplementedError))
    bytes_are_exact.cache_clear()
    try:
        assert not bytes_are_exact()
        found = Twin(network).run(frames, record=names)
    finally:
        bytes_are_exact.cache_clear()
    for name in names:
        np.testing.assert_array_equal(found.recorded[name], expected.recorded[name])
    assert found.counts == expected.counts
