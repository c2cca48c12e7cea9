"""Attention blocks are recognised by what they compute, whatever their classes and attributes are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from same_run import assert_same, graph_forward, own_forward
from small_nets import CHANNELS, SHAPE, Body, T, counts, lif, lively
from spikingjelly.activation_based import layer
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.ir import Graph
from tcja_deploy.ir.ops import TCJA

SQUEEZES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean of permuted": lambda x: x.permute(1, 0, 2, 3, 4).mean(dim=[3, 4]),
    "torch.mean": lambda x: torch.mean(x, (3, 4)).transpose(0, 1),
    "mean over flatten": lambda x: x.flatten(3).mean(-1).transpose(0, 1),
    "mean over view": lambda x: x.view(*x.shape[:3], -1).mean(3).transpose(0, 1),
    "mean twice": lambda x: x.mean(-1).mean(-1).transpose(0, 1),
    "kept axes": lambda x: x.mean((3, 4), keepdim=True).squeeze(-1).squeeze(-1).transpose(0, 1),
    "sum": lambda x: (x.sum((3, 4)) / (x.shape[3] * x.shape[4])).transpose(0, 1),
    "adaptive pool": lambda x: F.adaptive_avg_pool2d(x.flatten(0, 1), 1).view(*x.shape[:2], -1).transpose(0, 1),
    "pool of the whole map": lambda x: F.avg_pool2d(x.flatten(0, 1), x.shape[3:]).view(*x.shape[:2], -1).transpose(0, 1),
}  # fmt: skip
"""Ways to the mean over space, `[T, N, C, H, W]` to `[N, T, C]`."""


class Joint(nn.Module):
    """A block as a user may write it: own names, parts left out, maps multiplied or added."""

    def __init__(
        self, k_t: int, k_c: int, add: bool = False, squeeze: Callable[[Tensor], Tensor] = SQUEEZES["sum"]
    ) -> None:
        super().__init__()
        self.along_time = nn.Conv1d(CHANNELS, CHANNELS, k_t, padding="same", bias=False) if k_t else None
        self.along_channels = nn.Conv1d(T, T, k_c, padding="same", bias=False) if k_c else None
        self.add, self.squeeze = add, squeeze

    def forward(self, x: Tensor) -> Tensor:
        z = self.squeeze(x)
        maps = []
        if self.along_channels is not None:
            maps.append(self.along_channels(z).permute(1, 0, 2))
        if self.along_time is not None:
            maps.append(self.along_time(z.transpose(1, 2)).permute(2, 0, 1))
        joint = maps[0] if len(maps) == 1 else maps[0] + maps[1] if self.add else maps[0] * maps[1]
        return x * joint.sigmoid()[:, :, :, None, None]


class Between(Body):
    """The body with a block after its first neuron."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        lively(self)
        self.out.v_threshold = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.spikes(x)))


def load(net: nn.Module, **options: Any) -> Graph:
    return td.load(net, input_shape=SHAPE, **{"timesteps": T, **options})


def block_of(graph: Graph) -> TCJA:
    (op,) = (n.op for n in graph if isinstance(n.op, TCJA))
    assert isinstance(op, TCJA)
    return op


# -- variants ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("k_t", "k_c", "add"), [(4, 4, False), (2, 3, False), (5, 1, True), (3, 0, False), (0, 2, False)]
)
def test_variants(k_t: int, k_c: int, add: bool) -> None:
    net = Between(Joint(k_t, k_c, add))
    graph = load(net, timesteps=None if k_c else T)
    op = block_of(graph)
    assert (op.tla is not None, op.cla is not None) == (k_t > 0, k_c > 0)
    if k_t:
        assert np.array_equal(op.tla, net.block.along_time.weight.detach().numpy())  # type: ignore[union-attr]
    if k_c:
        assert np.array_equal(op.cla, net.block.along_channels.weight.detach().numpy())  # type: ignore[union-attr]
    if k_t and k_c:
        assert op.fusion == ("add" if add else "multiply")
    assert "block" in {n.name for n in graph}
    assert_same(net, graph, counts())


@pytest.mark.parametrize("name", SQUEEZES)
def test_ways_to_the_mean(name: str) -> None:
    net = Between(Joint(3, 2, squeeze=SQUEEZES[name]))
    graph = load(net)
    block_of(graph)
    # The op takes the mean in one way, the module in another: sums of 64 numbers may round differently. Gates differ by that
    # rounding, and a spike behind them by a membrane at the threshold; measured: no spike differs.
    y, theirs = own_forward(net, counts())
    result, ours = graph_forward(graph, counts())
    for spikes, path in ((theirs, "lif"), (theirs, "out")):
        assert 0 < spikes[path].mean() < 1
        assert torch.equal(spikes[path], ours[path])
    assert torch.equal(result, y)


def test_batch_first_block() -> None:
    class BatchFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Conv1d(CHANNELS, CHANNELS, 4, padding="same", bias=False)
            self.w = nn.Sequential(nn.Conv1d(T, T, 2, padding="same", bias=False))

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(0, 1)
            z = torch.mean(x, dim=[3, 4])
            gate = torch.sigmoid(self.q(z.permute(0, 2, 1)).permute(0, 2, 1) * self.w(z))
            return (x * gate.unsqueeze(-1).unsqueeze(-1)).transpose(0, 1)

    net = Between(BatchFirst())
    graph = load(net)
    block_of(graph)
    assert not any(type(n.op).__name__ == "Permute" for n in graph)
    assert_same(net, graph, counts())


def test_explicit_padding_and_gate_first() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.t = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
            self.c = nn.Conv1d(T, T, 5, padding=2, bias=False)
            self.gate = nn.Sigmoid()

        def forward(self, x: Tensor) -> Tensor:
            z = x.mean(dim=(-1, -2))
            joint = torch.mul(
                self.c(z.transpose(1, 0)).transpose(0, 1), self.t(z.permute(1, 2, 0)).permute(2, 0, 1)
            )
            return torch.mul(self.gate(joint).unsqueeze(3).unsqueeze(4), x)

    net = Between(Padded())
    graph = load(net)
    assert block_of(graph).k_c == 5
    assert_same(net, graph, counts())


def test_as_many_channels_as_steps() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Conv1d(T, T, 3, padding=1, bias=False) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            z = x.mean((3, 4))
            joint = self.a(z.transpose(0, 1)).transpose(0, 1) * self.b(z.permute(1, 2, 0)).permute(2, 0, 1)
            return x * torch.sigmoid(joint)[..., None, None]

    net = lively(nn.Sequential(layer.Conv2d(2, T, 3, step_mode="m"), lif(), Square(), nn.Flatten(2)))
    graph = load(net)
    op = block_of(graph)
    assert np.array_equal(op.cla, net[2].a.weight.detach().numpy())  # type: ignore[union-attr,index]
    assert np.array_equal(op.tla, net[2].b.weight.detach().numpy())  # type: ignore[union-attr,index]
    assert_same(net, graph, counts())


# -- look-alikes: other functions, which must stay generic ---------------------------------------------------------------
class Other(Joint):
    """A block with something changed."""

    def __init__(self, change: str) -> None:
        super().__init__(3, 3)
        self.change = change
        options: dict[str, Any] = {"padding": "same", "bias": False}
        options |= {"bias": {"bias": True}, "dilation": {"dilation": 2}}.get(change, {})
        self.along_time = nn.Conv1d(CHANNELS, CHANNELS, 3, **options)
        if change == "groups":
            self.along_time = nn.Conv1d(CHANNELS, CHANNELS, 3, padding="same", groups=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = x.amax((3, 4)) if self.change == "largest" else x.mean((3, 4))
        if self.change == "time reversed axes":
            z = z.transpose(0, 1)
            joint = self.along_channels(z) * self.along_time(z.transpose(1, 2)).transpose(1, 2)
            return x * joint.sigmoid().transpose(0, 1)[..., None, None] * 0.5
        tm = self.along_time(z.permute(1, 2, 0)).permute(2, 0, 1)
        cm = self.along_channels(z.transpose(0, 1)).transpose(0, 1)
        if self.change == "twice the gate":
            return x * torch.sigmoid(2 * tm * cm)[..., None, None]
        if self.change == "relu":
            return x * F.relu(tm * cm)[..., None, None]
        gate = torch.sigmoid(tm * cm)[..., None, None]
        if self.change == "residual":
            return x + x * gate
        return (1 - x if self.change == "other stream" else x) * gate


@pytest.mark.parametrize(
    ("change", "recognised"),
    [
        ("none", True), ("residual", True), ("time reversed axes", True),
        ("bias", False), ("dilation", False), ("groups", False), ("largest", False),
        ("twice the gate", False), ("relu", False), ("other stream", False),
    ],
)  # fmt: skip
def test_look_alikes_compute_the_same_too(change: str, recognised: bool) -> None:
    net = Between(Other(change))
    graph = load(net)
    assert any(isinstance(n.op, TCJA) for n in graph) == recognised
    assert_same(net, graph, counts())


def test_two_blocks_and_a_shared_one() -> None:
    class Twice(Between):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(self.block(self.spikes(x))))

    net = Twice(Joint(3, 2))
    graph = load(net)
    assert len([n for n in graph if isinstance(n.op, TCJA)]) == 2
    assert_same(net, graph, counts())


# -- attention of other kinds: generic nodes -----------------------------------------------------------------------------
class Cross(nn.Module):
    """Maps over time and over channels that keep space, added, and a convolution over the plane of steps and channels."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        maps = x.mean(2, keepdim=True) + x.mean(0, keepdim=True)
        steps, n, c, h, w = maps.shape
        planes = maps.permute(1, 3, 4, 0, 2).reshape(n * h * w, 1, steps, c)
        gate = self.plane(planes).view(n, h, w, steps, c).permute(3, 0, 4, 1, 2)
        return x * torch.sigmoid(gate)


class CrossMixing(nn.Module):
    """As `Cross`, the maps mixed by 2-D convolutions whose channels are time steps and channels; one plane a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Conv2d(T, T, 3, padding=1, bias=False)
        self.channels = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.plane = nn.Conv2d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        over_time = self.steps(x.mean(2).transpose(0, 1)).unsqueeze(2)  # [N, T, 1, H, W]
        over_channels = self.channels(x.mean(0)).unsqueeze(1)  # [N, 1, C, H, W]
        plane = (over_time + over_channels).mean((3, 4)).unsqueeze(1)  # [N, 1, T, C]
        gate = self.plane(plane).squeeze(1).transpose(0, 1)
        return x * torch.sigmoid(gate)[..., None, None]


@pytest.mark.parametrize(
    "block",
    [
        Cross,
        CrossMixing,
        lambda: layer.TemporalWiseAttention(T, 2),
        lambda: layer.MultiDimensionalAttention(T, CHANNELS, 2, 2, 3),
    ],
    ids=["cross", "cross mixing", "MA-SNN in time", "MA-SNN in all dimensions"],
)  # fmt: skip
def test_other_attention_stays_generic(block: Callable[[], nn.Module]) -> None:
    net = Between(block())
    graph = load(net)
    assert not any(isinstance(n.op, TCJA) for n in graph)
    assert_same(net, graph, counts())
