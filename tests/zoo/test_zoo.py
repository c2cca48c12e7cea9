"""The zoo: graph, traced module and SpikingJelly module of every network give the same spikes; published sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import LIFNode
from torch import nn

import tcja_deploy as td
from tcja_deploy.errors import GraphError, TraceError, UsageError
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo import BUILDERS, Architecture, build, random_state, to_graph
from tcja_deploy.zoo.architecture import Attention
from tcja_deploy.zoo.modules import to_module

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "dvs128": ("dvs128", {"channels": 6, "T": 5, "classes": 3, "voters": 4}),
    "dvs128, other kernels and hidden layer": ("dvs128", {"channels": 4, "T": 3, "k_t": 2, "k_c": 5, "hidden": 9}),
    "ncaltech101": ("ncaltech101", {"channels": (3, 4, 5, 6, 7), "T": 4, "classes": 5, "hidden": 8}),
    "ncaltech101, CLA only": ("ncaltech101", {"channels": (3, 4, 5, 6, 7), "T": 3, "kernels": ((0, 3), (0, 2)), "hidden": 8}),
    "cifar10dvs": ("cifar10dvs", {"channels": (4, 5, 6, 7, 8, 9, 10, 11), "T": 4, "classes": 3}),
    "cifar10dvs, smaller": ("cifar10dvs", {"channels": (4,) * 8, "T": 2, "size": 32, "kernels": ((2, 2), (1, 3))}),
    "fashion_mnist": ("fashion_mnist", {"channels": (6, 8), "T": 5, "hidden": 20, "voters": 3}),
    "events34": ("events34", {"channels": (8, 8, 8), "T": 6, "hidden": 20}),
    "events34, TLA only": ("events34", {"channels": (8, 8), "T": 5, "kernels": ((3, 0), None), "voters": 0}),
}  # fmt: skip


def architecture(name: str) -> Architecture:
    builder, changes = SMALL[name]
    return BUILDERS[builder](**changes)


def spikes_of(graph: Graph, frames: np.ndarray) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Output, and spikes of all layers in order."""
    spikes: list[torch.Tensor] = []
    output = run(
        graph, frames, observe=lambda n, v: spikes.append(v) if isinstance(n.op, ir.Neuron) else None
    )
    return output, spikes


def spikes_of_module(net: nn.Module, frames: np.ndarray) -> tuple[torch.Tensor, list[torch.Tensor]]:
    spikes: list[torch.Tensor] = []
    hooks = [
        m.register_forward_hook(lambda m, x, y: spikes.append(y))
        for m in net.modules()
        if isinstance(m, LIFNode)
    ]
    functional.reset_net(net)
    with torch.no_grad():
        output = net(torch.from_numpy(frames))
    for hook in hooks:
        hook.remove()
    return output, spikes


def test_every_builder_is_tested() -> None:
    assert {builder for builder, _ in SMALL.values()} == set(BUILDERS)


@pytest.mark.parametrize("name", SMALL)
def test_graph_trace_and_module_give_the_same_spikes(name: str) -> None:
    arch = architecture(name)
    state = random_state(arch, seed=3)
    graph, net = to_graph(arch, state), to_module(arch, state)
    kind = Kind.REAL if arch.static else Kind.COUNT
    assert graph.input.signal.kind is kind
    told = any(isinstance(layer, Attention) and layer.k_c for _, layer in arch.layers())  # CLA weights tell T
    traced = td.load(net, input_shape=arch.input_shape, timesteps=None if told else arch.T)
    assert traced.T == graph.T == arch.T
    frames = synthetic_frames(graph, 2, seed=1)
    output, spikes = spikes_of_module(net, frames)
    assert len(spikes) == len(graph.neurons) > 0
    for other in (graph, traced):
        result, layers = spikes_of(other, frames)
        assert all(map(torch.equal, layers, spikes))
        if arch.voters:
            # Spikes are equal; the mean over time and voters of the module is taken in another order.
            assert torch.allclose(result, output, rtol=1e-6)
        else:
            assert torch.equal(result, output)


@pytest.mark.parametrize("name", BUILDERS)
def test_random_weights_let_every_layer_spike(name: str) -> None:
    """With the published widths; in a layer of a few channels all may be silent by chance."""
    graph = build(name, T=4)
    _, spikes = spikes_of(graph, synthetic_frames(graph, 1, seed=0))
    rates = [float(s.mean()) for s in spikes]
    assert all(0.002 < r < 0.9 for r in rates), rates


@pytest.mark.parametrize("name", SMALL)
def test_shapes_are_those_of_the_module(name: str) -> None:
    arch = architecture(name)
    state = {k: tuple(v.shape) for k, v in to_module(arch).state_dict().items()}
    counters = {k for k in state if k.endswith("num_batches_tracked")}
    assert {k: s for k, s in state.items() if k not in counters} == arch.weight_shapes()
    assert len(counters) == sum(k.endswith("running_mean") for k in state)
    assert {k: v.shape for k, v in random_state(arch).items()} == arch.weight_shapes()


def test_the_modules_own_state_dict_fits() -> None:
    """Counters of batches are not weights, and are let through."""
    arch = architecture("events34")
    net = to_module(arch)
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    graph = to_graph(arch, state)
    frames = synthetic_frames(graph, 1)
    assert all(map(torch.equal, spikes_of(graph, frames)[1], spikes_of_module(net, frames)[1]))


# -- published numbers ---------------------------------------------------------------------------------------------------
def macs(graph: Graph) -> int:
    """Multiply-accumulates of one time step and sample."""
    return sum(n.op.macs(*graph.signals_in(n), T=graph.T) for n in graph) // graph.T


@pytest.mark.parametrize(
    ("name", "expected", "parameters"),
    [
        # Counted by hand from the layer lists: H W C_in C_out 9 of each convolution, inputs times outputs of each dense layer.
        (
            "dvs128",
            128 * 128 * 2 * 128 * 9 + (64**2 + 32**2 + 16**2 + 8**2) * 128 * 128 * 9 + 2048 * 512 + 512 * 110,
            9 * 128 * (2 + 4 * 128)
            + 5 * 4 * 128
            + 2 * (20 * 20 * 4 + 128 * 128 * 4)
            + 2048 * 512
            + 512 * 110,
        ),
        ("ncaltech101", 2_244_670_464, None),
    ],
)
def test_multiply_accumulates(name: str, expected: int, parameters: int | None) -> None:
    graph = build(name)
    assert macs(graph) == expected
    if parameters is not None:
        assert graph.parameters == parameters


@pytest.mark.parametrize(
    ("name", "billions"), [("dvs128", "0.841"), ("ncaltech101", "2.2447"), ("cifar10dvs", "1.36")]
)
def test_multiply_accumulates_as_published(name: str, billions: str) -> None:
    digits = len(billions.partition(".")[2])
    assert f"{macs(build(name)) / 1e9:.{digits}f}" == billions


def test_published_layers() -> None:
    """The table of the paper's networks: T, kernels (along time, along channels) and outputs."""
    found = {}
    for name in BUILDERS:
        graph = build(name)
        blocks = [(n.name, n.op.k_t, n.op.k_c) for n in graph if isinstance(n.op, ir.TCJA)]
        found[name] = (graph.T, graph.input_shape, blocks, str(graph[graph.output].signal))
    assert found == {
        "dvs128": (20, (2, 128, 128), [("conv.11", 4, 4), ("conv.15", 4, 4)], "graded[N, 11]"),
        "ncaltech101": (14, (2, 180, 240), [("conv.11", 4, 4), ("conv.15", 4, 2)], "binary[T, N, 101]"),
        "cifar10dvs": (10, (2, 128, 128), [("conv.15", 4, 4), ("conv.21", 4, 4)], "real[T, N, 10]"),
        "fashion_mnist": (8, (1, 28, 28), [("conv.2", 2, 2), ("conv.6", 2, 2)], "graded[N, 10]"),
        "events34": (10, (2, 34, 34), [("conv.5", 4, 4), ("conv.9", 4, 4)], "graded[N, 10]"),
    }


# -- weights that do not fit -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [to_graph, to_module])
def test_all_that_does_not_fit_is_listed(make: Any) -> None:
    arch = architecture("events34")
    state = dict(random_state(arch))
    del state["conv.0.0.weight"]
    state["fc.2.0.weight"] = state["fc.2.0.weight"][:, :-1]
    state["fc.9.0.weight"] = np.ones((2, 2), np.float32)
    with pytest.raises(TraceError) as caught:
        make(arch, state)
    assert caught.value.reason.splitlines()[1:] == [
        "  - conv.0.0.weight: missing",
        "  - fc.9.0.weight: has no place in events34",
        "  - fc.2.0.weight: has shape (20, 127), events34 expects (20, 128)",
    ]


def test_weights_are_copied() -> None:
    """A graph does not change when training of the module goes on."""
    arch = architecture("events34")
    net = to_module(arch, random_state(arch))
    graph = to_graph(arch, {k: v.numpy() for k, v in net.state_dict().items()})
    before = graph.hash
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    assert graph.hash == before


def test_builds_are_reproducible() -> None:
    assert build("events34", T=3, seed=1).hash == build("events34", T=3, seed=1).hash
    assert build("events34", T=3, seed=1).hash != build("events34", T=3, seed=2).hash
    assert build("events34", T=3, seed=1).source == {"architecture": "events34", "format": "zoo", "seed": "1"}


def test_what_cannot_be_built() -> None:
    with pytest.raises(UsageError, match="unknown network 'resnet'"):
        build("resnet")
    with pytest.raises(GraphError, match=r"conv\.2: TCJA: there is neither a TLA nor a CLA kernel"):
        build("events34", kernels=((0, 0), None, None))
    with pytest.raises(GraphError, match="at least one time step"):
        build("events34", T=0, kernels=(None, None, None))
