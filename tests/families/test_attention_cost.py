"""What attention costs, against counts by hand; T, C, H, W, r as in the papers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from attention_blocks import CrossConvolution, HeadedAttention, StepwiseAttention
from family_nets import net
from spikingjelly.activation_based import layer, neuron
from torch import nn

from tcja_deploy.energy.count.inventory import Primitive, Purpose
from tcja_deploy.energy.measure import measure
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Kind

T, C, H, W = 6, 8, 4, 5


class Spikes:
    """One recording of random spikes."""

    frames = (np.random.default_rng(0).random((T, C, H, W)) < 0.2).astype(np.float32)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames, None


def cost(attention: nn.Module) -> Counter[tuple[str, Primitive]]:
    """Operations of everything behind the spikes, all of which has to be attention, by what and primitive."""
    graph = trace(
        attention.eval(), timesteps=T, input_shape=(C, H, W), input_kind=Kind.BINARY, batch_first=False
    )
    counted = measure(graph, Spikes())
    assert not counted.inventory.unsupported
    total: Counter[tuple[str, Primitive]] = Counter()
    for layer_ in counted.inventory.layers:
        assert layer_.attention, layer_.node
        total["weights", Primitive.MAC] += int(counted.synops(layer_).total)
    for work in counted.inventory.operations:
        assert work.purpose is Purpose.ATTENTION or work.what == "rectify", work
        total[work.what, work.primitive] += int(counted.work(work).total)
    return total


def taps(length: int, kernel: int) -> int:
    """Pairs of output and tap along an axis with "same" padding that lie inside."""
    left = (kernel - 1) // 2
    return sum(0 <= i + m - left < length for i in range(length) for m in range(kernel))


def test_temporal_attention() -> None:
    spikes = int(Spikes.frames.sum())
    r = 3
    total = cost(layer.TemporalWiseAttention(T, r))
    assert total["sum", Primitive.ADD] == spikes + T  # squeeze by events; the two scores of each step
    assert total["maximum", Primitive.COMPARE] == spikes
    assert total["weights", Primitive.MAC] == 2 * (
        2 * T * (T // r)
    )  # the shared layers run for mean and maximum
    assert total["sigmoid", Primitive.SIGMOID] == T
    assert total["gate", Primitive.MULTIPLY] == spikes


@pytest.mark.parametrize("r", [2, 4])
def test_channel_attention(r: int) -> None:
    spikes = int(Spikes.frames.sum())
    total = cost(layer.MultiDimensionalAttention(T, C, reduction_c=r, use_temporal=False, use_spatial=False))
    assert total["weights", Primitive.MAC] == 2 * (2 * C * (C // r))
    assert total["sigmoid", Primitive.SIGMOID] == C
    assert total["gate", Primitive.MULTIPLY] == spikes
    assert total["maximum", Primitive.COMPARE] == spikes


def test_spatial_attention_pools_steps_and_channels() -> None:
    total = cost(layer.MultiDimensionalAttention(T, C, use_temporal=False, use_channel=False))
    assert total["weights", Primitive.MAC] == 2 * taps(H, 3) * taps(W, 3)
    assert total["sigmoid", Primitive.SIGMOID] == H * W


def test_attention_of_each_step_costs_t_times_as_much() -> None:
    total = cost(StepwiseAttention(C, reduction=4))
    assert total["weights", Primitive.MAC] == T * (2 * (2 * C * (C // 4)) + 2 * taps(H, 3) * taps(W, 3))
    assert total["sigmoid", Primitive.SIGMOID] == T * (C + H * W)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_cross_convolution(kernel: int) -> None:
    spikes = int(Spikes.frames.sum())
    total = cost(CrossConvolution(kernel))
    assert total["weights", Primitive.MAC] == H * W * taps(T, kernel) * taps(C, kernel)
    assert total["sigmoid", Primitive.SIGMOID] == T * C * H * W
    assert total["gate", Primitive.MULTIPLY] == spikes


def test_heads() -> None:
    total = cost(HeadedAttention(T, C, heads=2))
    along_time = C * (C // 2) * taps(T, 3)
    along_channels = T * T * (taps(C, 2) + taps(C, 3))
    assert total["weights", Primitive.MAC] == along_time + along_channels
    assert total["sigmoid", Primitive.SIGMOID] == 3 * T * C


def test_attention_is_no_part_of_the_trunk() -> None:
    """Layers with weights outside attention are those that the same network without attention has."""
    for key in ("tcja-heads", "cross", "ma-t", "ma-c", "ma-s", "ma-stepwise"):
        trunk = [layer_.node for layer_ in measure_trunk(key)]
        assert [name.split(".")[0] for name in trunk] == ["0", "5", "11"], key


def measure_trunk(key: str):
    from tcja_deploy.energy.count.rules import take_inventory

    return take_inventory(net(key).graph).trunk


def test_inverted_spikes_are_spikes() -> None:
    """SEW-ResNet's IAND, `x (1 - y)`: binary, so that the next layer accumulates and does not multiply."""

    class Iand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = neuron.LIFNode(step_mode="m")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (1.0 - self.lif(x))

    graph = trace(Iand().eval(), timesteps=T, input_shape=(C, H, W), input_kind=Kind.BINARY)
    assert graph[graph.output].signal.kind is Kind.BINARY
