"""Counts against counters that others wrote: NeuroBench, SpikingJelly, fvcore. Differences must be zero."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from energy_nets import measured, spikes, weights
from torch import Tensor, nn

from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir

T, N = 4, 3


def binary_graph() -> Graph:
    """Strided, grouped, dilated and dense layers on binary spikes, no bias."""
    rng = np.random.default_rng(7)
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((4, 9, 8), Kind.BINARY))
    x = b.add("conv1", ir.Conv2d(weights(rng, 6, 4, 3, 3), padding=(1, 1, 1, 1)), x)
    x = b.add("lif1", ir.LIF(), x)
    x = b.add(
        "conv2",
        ir.Conv2d(weights(rng, 8, 3, 3, 2), stride=(2, 1), padding=(1, 0, 1, 0), dilation=(1, 2), groups=2),
        x,
    )
    x = b.add("lif2", ir.LIF(), x)
    x = b.add("flat", ir.Flatten(), x)
    x = b.add("fc", ir.Linear(weights(rng, 10, 8 * 5 * 6)), x)
    return b.finish(b.add("lif3", ir.LIF(), x))


def torch_layers(graph: Graph) -> dict[str, nn.Module]:
    """The same weights as torch modules."""
    conv1, conv2, fc = graph["conv1"].op, graph["conv2"].op, graph["fc"].op
    layers = {
        "conv1": nn.Conv2d(4, 6, 3, padding=1, bias=False),
        "conv2": nn.Conv2d(6, 8, (3, 2), (2, 1), (1, 0), (1, 2), 2, bias=False),
        "fc": nn.Linear(240, 10, bias=False),
    }
    for module, op in zip(layers.values(), (conv1, conv2, fc), strict=True):
        module.weight.data = torch.from_numpy(op.constants()["weight"].copy())
    return layers


class Stepwise(nn.Module):
    """The network step by step, with neurons from SpikingJelly."""

    def __init__(self, layers: dict[str, nn.Module], make_neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.neurons = nn.ModuleList([make_neuron() for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        """`[N, T, C, H, W]` in, spikes of the last step out."""
        for frame in x.unbind(1):
            y = frame
            for i, (name, layer) in enumerate(self.layers.items()):
                y = self.neurons[i](layer(y.flatten(1) if name == "fc" else y))
        return y


@pytest.fixture
def case() -> tuple[Graph, np.ndarray, Stepwise]:
    neuron = pytest.importorskip(
        "spikingjelly.activation_based.neuron", reason="SpikingJelly is not installed"
    )
    graph = binary_graph()
    return (
        graph,
        spikes(np.random.default_rng(8), N, T, 4, 9, 8),
        Stepwise(torch_layers(graph), neuron.LIFNode),
    )


def test_neurobench_effective_acs(case: tuple[Graph, np.ndarray, Stepwise]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        workload = pytest.importorskip(
            "neurobench.metrics.workload", reason="NeuroBench is not installed", exc_type=ImportError
        )
        from neurobench.models import TorchModel
    graph, x, net = case
    model = TorchModel(net)
    model.register_hooks()
    frames = torch.from_numpy(x)
    with torch.no_grad():
        preds = model(frames)
        theirs = workload.SynapticOperations()(model, preds, (frames, torch.zeros(N)))
    ours = measured(graph, x)
    total = sum((ours.synops(layer).total for layer in ours.inventory.layers), 0)
    assert total > 0
    assert theirs["Effective_ACs"] * N == total
    assert theirs["Effective_MACs"] == 0
    border_aware = sum(layer.macs.border_aware_per_inference for layer in ours.inventory.layers)
    assert theirs["Dense"] == border_aware  # its "dense" leaves padding out


@pytest.mark.parametrize("counter_name", ["SynOpCounter", "ACCounter"])
def test_spikingjelly_counters(case: tuple[Graph, np.ndarray, Stepwise], counter_name: str) -> None:
    from spikingjelly.activation_based import op_counter

    graph, x, net = case
    ours = measured(graph, x)
    counter = getattr(op_counter, counter_name)()
    with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
        net(torch.from_numpy(x))
    aten = torch.ops.aten
    synaptic = {aten.convolution.default, aten.mm.default, aten.addmm.default}
    theirs = {}
    for scope, records in counter.get_counts().items():
        name = scope.rpartition(".")[2]
        if ".layers." in scope:
            theirs[name] = sum(int(n) for op, n in records.items() if op in synaptic)
    assert theirs == {layer.node: int(ours.synops(layer).total) for layer in ours.inventory.layers}


def test_spikingjelly_agrees_on_the_closed_form() -> None:
    counters = pytest.importorskip(
        "spikingjelly.activation_based.op_counter", reason="SpikingJelly is not installed"
    )
    conv = nn.Conv2d(4, 6, 3, padding=1, bias=False)
    ac = counters.ACCounter()
    with torch.no_grad(), counters.DispatchCounterMode([ac]):
        conv(torch.ones(1, 4, 8, 8))
    assert ac.get_total() == 11_616


@pytest.mark.parametrize("name", ["ncaltech101", "dvs128", "cifar10dvs", "events34"])
def test_macs_of_the_paper_networks_equal_fvcore(name: str) -> None:
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    from tcja_deploy import zoo

    graph = zoo.build(name)
    for layer in take_inventory(graph).trunk:
        op = graph[layer.node].op
        if isinstance(op, ir.Conv2d):
            module = nn.Conv2d(op.weight.shape[1], op.weight.shape[0], 3, padding=1, bias=op.bias is not None)
        else:
            module = nn.Linear(op.weight.shape[1], op.weight.shape[0])
        flops = fvcore.FlopCountAnalysis(module, torch.zeros(1, *layer.shape_in)).unsupported_ops_warnings(
            False
        )
        assert flops.total() == layer.macs.dense, layer.node


TRANSPOSED = [
    {"stride": 2},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": (1, 3), "padding": (0, 1), "dilation": 2, "groups": 2},
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_macs_of_transposed_convolutions_equal_fvcore(options: dict) -> None:
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    module = nn.ConvTranspose2d(4, 6, 3, bias=False, **options)
    pair = lambda v: v if isinstance(v, tuple) else (v, v)  # noqa: E731
    op = ir.ConvTranspose2d(
        module.weight.detach().numpy(), None, module.stride, pair(module.padding), pair(module.output_padding),
        module.dilation, module.groups,
    )  # fmt: skip
    b = GraphBuilder(1)
    graph = b.finish(b.add("up", op, b.add("input", ir.Input((4, 5, 7), Kind.BINARY))))
    (layer,) = take_inventory(graph).layers
    flops = fvcore.FlopCountAnalysis(module, torch.zeros(1, 4, 5, 7)).unsupported_ops_warnings(False)
    assert flops.total() == layer.macs.dense
    x = np.ones((1, 1, 4, 5, 7), np.float32)
    ones = nn.ConvTranspose2d(4, 6, 3, bias=False, **options)
    ones.weight.data.fill_(1)
    with torch.no_grad():
        assert (
            int(ones(torch.ones(1, 4, 5, 7)).sum())
            == layer.macs.border_aware
            == int(measured(graph, x).synops(layer).total)
        )
