"""The host's part at the end, as one matrix, gives what torch's own functions give one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs import Builder, frames_for
from torch import Tensor
from torch.nn import functional

from tcja_deploy.exporters.lava.host_tail import host_tail
from tcja_deploy.exporters.lava.lower import lower
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.twin import Twin


def linear(outputs: int, inputs: int) -> ir.Linear:
    rng = np.random.default_rng(outputs)
    weight = rng.normal(size=(outputs, inputs)).astype(np.float32)
    return ir.Linear(weight, rng.normal(size=outputs).astype(np.float32))


def by_torch(op: object, y: Tensor) -> Tensor:
    if isinstance(op, ir.Linear):
        return functional.linear(y, torch.from_numpy(op.weight).double(), torch.from_numpy(op.bias).double())
    if isinstance(op, ir.AdaptiveAvgPool2d):
        return functional.adaptive_avg_pool2d(y, op.output_size)
    if isinstance(op, ir.AvgPool2d):
        return functional.avg_pool2d(y, op.kernel, op.stride, op.padding)
    if isinstance(op, ir.Vote):
        return functional.avg_pool1d(y, op.voters)
    return y.flatten(1)


@pytest.mark.parametrize(
    "ops",
    [
        [ir.AdaptiveAvgPool2d((1, 1)), ir.Flatten(), linear(10, 4)],
        [ir.AdaptiveAvgPool2d((4, 3)), ir.Flatten(), linear(12, 48), linear(9, 12), ir.Vote(3)],
        [ir.AvgPool2d((3, 3), (2, 2), (1, 1)), ir.AvgPool2d((2, 2), (1, 1), (0, 0))],
        [ir.AvgPool2d((3, 3), (2, 2), (1, 1)), ir.Flatten(), ir.Vote(4), linear(3, 9)],
        [ir.Flatten(), linear(5, 4 * 6 * 5)],
    ],
)
def test_the_matrix_is_what_the_layers_compute(ops: list[ir.Op]) -> None:
    b = Builder((2, 6, 5), T=3)
    b.conv(4).lif()
    source = b.x
    for op in ops:
        b.add(op)
    graph = b.done()
    assert host_tail(graph).source == source
    readout = lower(graph).readout
    spikes = np.random.default_rng(1).integers(0, 2, (3, 2, 4, 6, 5))
    found = readout(spikes.astype(np.int32), 1.0)
    expected = torch.from_numpy(spikes.astype(np.float64)).flatten(0, 1)
    for op in ops:
        expected = by_torch(op, expected)
    np.testing.assert_allclose(found.reshape(6, -1), expected.reshape(6, -1), atol=1e-12)


def test_an_average_of_large_maps_needs_no_matrix_of_their_size_squared() -> None:
    """16 x 32 x 32 places: a square matrix of them would take 2 GB, the one to ten classes 1 MB."""
    b = Builder((1, 32, 32), T=1)
    b.conv(16).lif().add(ir.AdaptiveAvgPool2d((1, 1))).add(ir.Flatten()).linear(10)
    graph = b.done()
    frames = frames_for(graph, 2)
    network = quantise(graph, [frames]).network
    assert network.readout.weight is not None
    assert network.readout.weight.shape == (10, 16 * 32 * 32)
    assert Twin(network).run(frames).values.shape == (1, 2, 10)
