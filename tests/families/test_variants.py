"""Every form of the block: either part, both fusions, kernels of 1 to 6, in user code: translated, exported, counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from attention_blocks import JointAttention
from spikingjelly.activation_based import functional, neuron
from torch import nn

import tcja_deploy as td
from tcja_deploy.energy.count.inventory import Primitive
from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import stream

T, C = 5, 7
CASES = [
    *((k, 0, False) for k in range(1, 7)),
    *((0, k, False) for k in range(1, 7)),
    *((k, 7 - k, add) for k in range(1, 7) for add in (False, True)),
]


def build(k_t: int, k_c: int, add: bool) -> tuple[nn.Module, Graph, torch.Tensor]:
    """Attention and a neuron, their graph, and frames."""
    with torch.random.fork_rng():
        torch.manual_seed(10 * k_t + k_c)
        attention = JointAttention(T, C, along_time=k_t, along_channels=k_c, add=add)
        net = nn.Sequential(attention, neuron.LIFNode(v_threshold=0.6, step_mode="m")).eval()
        frames = torch.poisson(torch.rand(T, 3, C, 4, 6))
    graph = trace(net, timesteps=T, input_shape=(C, 4, 6), batch_first=False)
    return net, graph, frames


@pytest.mark.parametrize(("k_t", "k_c", "add"), CASES)
def test_variant(k_t: int, k_c: int, add: bool, tmp_path: Path) -> None:
    net, graph, frames = build(k_t, k_c, add)
    with torch.no_grad():
        expected = net(frames)
    functional.reset_net(net)
    assert 0 < expected.mean() < 1
    assert torch.equal(run(graph, frames), expected)

    (block,) = [n.op for n in graph if isinstance(n.op, ir.TCJA)]
    assert (block.k_t, block.k_c) == (k_t, k_c)
    assert k_t == 0 or k_c == 0 or (block.fusion == "add") == add
    assert len(graph.nodes) == 3

    agreement = td.export(graph, "onnx", tmp_path / "m.onnx", data=[frames.numpy()]).agreement
    assert agreement is not None
    assert agreement.passed

    def inside(length: int, kernel: int) -> int:
        left = (kernel - 1) // 2
        return sum(0 <= i + m - left < length for i in range(length) for m in range(kernel))

    maps = [w.dense for w in take_inventory(graph).operations if w.primitive is Primitive.MAC]
    along = [C * C * inside(T, k_t)] * bool(k_t) + [T * T * inside(C, k_c)] * bool(k_c)
    assert maps == along


@pytest.mark.parametrize("k_t", range(1, 7))
def test_tla_alone_waits_for_its_own_frames_only(k_t: int) -> None:
    """Kernel K_T looks `K_T - 1 - (K_T - 1) // 2` frames ahead, and that is when the stream answers."""
    _, graph, frames = build(k_t, 0, False)
    stepper = stream(graph, samples=3)
    emitted = [len(stepper.push(frame)) for frame in frames]
    ahead = k_t - 1 - (k_t - 1) // 2
    assert int(np.flatnonzero(emitted)[0]) == ahead
    assert sum(emitted) == T
