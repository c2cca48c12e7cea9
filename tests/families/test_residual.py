"""MS-ResNet with TCJA: what the builder builds, its kinds and costs, and why Lava refuses residual networks."""

from __future__ import annotations

import pytest
import torch
from family_nets import net
from spikingjelly.activation_based import functional
from untrained import settle

from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.lava.float_graph import FloatMeeting
from tcja_deploy.exporters.lava.lower import lower
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.sequence import run
from tcja_deploy.zoo.resnet import MSResNetTCJA, ms_resnet18_tcja


def traced(module: MSResNetTCJA, side: int = 16) -> Graph:
    shape = (module.stem[0].in_channels, side, side)
    return trace(module.eval(), timesteps=module.T, input_shape=shape, input_kind=Kind.REAL)


def test_the_whole_network_of_the_paper() -> None:
    """Apart from the attention it has the weights of ResNet-18."""
    graph = traced(ms_resnet18_tcja(), side=32)
    convs = [n.op.weight for n in graph if isinstance(n.op, ir.Conv2d)]
    blocks = [n.op for n in graph if isinstance(n.op, ir.TCJA)]
    assert len(convs) == 1 + 16 + 3
    assert [b.tla.shape[0] for b in blocks if b.tla is not None] == [64] * 2 + [128] * 2 + [256] * 2 + [
        512
    ] * 2
    weights = sum(w.size for w in convs) + graph["head.3"].op.parameters
    norm = (
        sum(n.op.parameters for n in graph if isinstance(n.op, ir.BatchNorm2d)) // 2
    )  # factor and offset are trained
    # torchvision's resnet18 has 11 689 512; a 3x3 stem instead of 7x7 and 10 classes instead of 1000 make the difference
    assert weights + norm == 11_689_512 - 64 * 3 * 49 + 64 * 3 * 9 - 513 * 1000 + 513 * 10
    assert len(graph.neurons) == 17


@pytest.mark.parametrize("T", [1, 4, 6])
@pytest.mark.parametrize("place", ["output", "branch"])
@pytest.mark.parametrize(("k_t", "k_c"), [(2, 2), (3, 0), (0, 4)])
def test_sizes(T: int, place: str, k_t: int, k_c: int) -> None:
    module = ms_resnet18_tcja(T=T, classes=100, width=4, depths=(1, 2), k_t=k_t, k_c=k_c, place=place)
    frames = torch.rand(1, 3, 3, 8, 8).repeat(T, 1, 1, 1, 1)
    settle(module, frames)
    graph = traced(module, side=8)
    with torch.no_grad():
        expected = module(frames)
    functional.reset_net(module)
    assert expected.shape == (3, 100)
    assert torch.equal(run(graph, frames), expected)
    blocks = [n for n in graph if isinstance(n.op, ir.TCJA)]
    assert [(n.op.k_t, n.op.k_c) for n in blocks] == [(k_t, k_c)] * 3
    sums = {n.name for n in graph if isinstance(n.op, ir.Add)}
    assert {n.inputs[0] in sums for n in blocks} == {place == "output"}


@pytest.mark.parametrize("wrong", [{"place": "input"}, {"k_t": 0, "k_c": 0}])
def test_refuses_what_makes_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ms_resnet18_tcja(width=4, **wrong)  # type: ignore[arg-type]


def test_spikes_alone_meet_the_3x3_weights() -> None:
    graph = net("ms-resnet-tcja").graph
    inventory = take_inventory(graph)
    kinds = {layer.node: layer.kind for layer in inventory.layers}
    assert all(kinds[name] is Kind.BINARY for name in kinds if ".first." in name or ".second." in name)
    shortcuts = [layer for layer in inventory.layers if ".shortcut." in layer.node]
    assert len(shortcuts) == 2
    for layer in shortcuts:  # membranes are dense: a strided 1x1 convolution reads every fourth, each step
        assert layer.kind is Kind.REAL
        (c, h, w), out = layer.shape_in, layer.shape_out[0]
        assert layer.macs.border_aware_per_inference == graph.T * c * (h // 2) * (w // 2) * out
    assert all(graph[n.name].signal.kind is Kind.REAL for n in graph if isinstance(n.op, ir.Add))


def test_sums_of_spikes_are_counts() -> None:
    graph = net("sew-add").graph
    assert {n.signal.kind for n in graph if isinstance(n.op, ir.Add)} == {Kind.COUNT}
    for key in ("sew-and", "sew-iand"):
        graph = net(key).graph
        assert {n.signal.kind for n in graph if isinstance(n.op, ir.Mul)} == {Kind.BINARY}


@pytest.mark.parametrize("key", ["ms-resnet-tcja", "ms-resnet", "sew-add", "sew-and", "spiking-resnet"])
def test_lava_has_a_stage_for_every_joint(key: str) -> None:
    """A sum that a neuron alone reads meets in its population; every other is a relay's, a product of spikes a threshold."""
    graph = fold_batch_norm(net(key).graph)
    stages = lower(graph).stages
    joints = [n.name for n in graph if isinstance(n.op, ir.Add | ir.Mul)]
    assert joints
    for name in joints:
        own = [s for s in stages if s.name == name]
        in_front = [
            s for s in stages if isinstance(s, FloatMeeting) and s.observed == name and s.neuron is not None
        ]
        alone = len(graph.readers(name)) == 1 and isinstance(graph.readers(name)[0].op, ir.Neuron)
        joined = in_front if alone else own
        assert len(joined) == 1
        assert len(joined[0].terms if isinstance(joined[0], FloatMeeting) else joined[0].inputs) == 2


def test_lava_takes_the_plain_network() -> None:
    assert lower(fold_batch_norm(net("spiking-vgg").graph)).stages
