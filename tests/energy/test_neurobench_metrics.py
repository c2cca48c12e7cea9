"""NeuroBench's metrics are NeuroBench's own numbers on the same network. What docs/energy.md shows of it is run here."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from energy_nets import Stored, one_layer, spikes, weights
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.energy.count.neurobench import neurobench_metrics
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.synthetic import synthetic_frames

ROOT = Path(__file__).resolve().parents[2]
T, N = 4, 3


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Their metrics of a module: `theirs(net, frames, labels)` as `Benchmark.run` collects them, batches of one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        workload = pytest.importorskip(
            "neurobench.metrics.workload", reason="NeuroBench is not installed", exc_type=ImportError
        )
        from neurobench.metrics.static import ConnectionSparsity, Footprint, ParameterCount
        from neurobench.models import TorchModel
    base = pytest.importorskip("spikingjelly.activation_based.base", reason="SpikingJelly is not installed")
    from spikingjelly.activation_based import functional, neuron

    assert base is not None

    def run(net: nn.Module, frames: Tensor) -> dict[str, Any]:
        model = TorchModel(net)
        model.add_activation_module(neuron.BaseNode)
        found = {
            "Footprint": Footprint()(model),
            "ParameterCount": ParameterCount()(model),
            "ConnectionSparsity": ConnectionSparsity()(model),
        }
        model.register_hooks()
        synaptic, sparsity = workload.SynapticOperations(), []
        for one in frames:
            functional.reset_net(net)
            model.reset_hooks()
            with torch.no_grad():
                preds = model(one[None])
                found["SynapticOperations"] = synaptic(model, preds, (one[None], None))
                sparsity.append(workload.ActivationSparsity()(model, preds, (one[None], None)))
        found["ActivationSparsity"] = float(np.mean(sparsity))
        model.cleanup_hooks()
        return found

    return run


class Steps(nn.Module):
    """Layers and neurons in turn, a frame at a time; pooling to a grade in between."""

    def __init__(self, seed: int, *, zeros: bool) -> None:
        from spikingjelly.activation_based import neuron

        super().__init__()
        torch.manual_seed(seed)
        self.conv1, self.lif1 = nn.Conv2d(2, 6, 3, padding=1), neuron.LIFNode(v_threshold=0.2)
        self.pool = nn.AvgPool2d(2)
        self.conv2, self.lif2 = (
            nn.Conv2d(6, 8, 3, stride=2, groups=2, bias=False),
            neuron.LIFNode(v_threshold=0.02),
        )
        self.fc, self.lif3 = nn.Linear(8 * 2 * 2, 5, bias=False), neuron.LIFNode(v_threshold=0.02)
        if zeros:
            for layer in (self.conv1, self.conv2, self.fc):
                layer.weight.data[torch.rand_like(layer.weight) < 0.4] = 0

    def forward(self, x: Tensor) -> Tensor:
        """`[N, T, C, H, W]` in."""
        out = []
        for frame in x.unbind(1):
            y = self.pool(self.lif1(self.conv1(frame)))
            out.append(self.lif3(self.fc(self.lif2(self.conv2(y)).flatten(1))))
        return torch.stack(out).mean(0)


def graph_of(net: Steps, kind: Kind) -> Graph:
    def constant(p: nn.Parameter | None) -> np.ndarray | None:
        return None if p is None else p.detach().numpy().copy()

    b = GraphBuilder(T)
    x = b.add("input", ir.Input((2, 11, 11), kind))
    x = b.add(
        "conv1", ir.Conv2d(constant(net.conv1.weight), constant(net.conv1.bias), padding=(1, 1, 1, 1)), x
    )
    x = b.add("lif1", ir.LIF(v_threshold=0.2), x)
    x = b.add("pool", ir.AvgPool2d((2, 2), (2, 2)), x)
    x = b.add("conv2", ir.Conv2d(constant(net.conv2.weight), stride=(2, 2), groups=2), x)
    x = b.add("lif2", ir.LIF(v_threshold=0.02), x)
    x = b.add("flat", ir.Flatten(), x)
    x = b.add("fc", ir.Linear(constant(net.fc.weight)), x)
    return b.finish(b.add("mean", ir.TimeMean(), b.add("lif3", ir.LIF(v_threshold=0.02), x)))


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("zeros", [False, True], ids=["dense", "pruned"])
@pytest.mark.parametrize("kind", [Kind.BINARY, Kind.COUNT, Kind.REAL], ids=str)
def test_equal_to_their_own(theirs: Any, kind: Kind, zeros: bool) -> None:
    rng, net = np.random.default_rng(4), Steps(6, zeros=zeros)
    x = spikes(rng, N, T, 2, 11, 11)
    if kind is Kind.COUNT:
        x[1:] *= rng.integers(1, 4, x[1:].shape)  # one recording of nothing but zeros and ones: accumulations
    if kind is Kind.REAL:
        x *= rng.normal(size=x.shape).astype(np.float32)
    ours = neurobench_metrics(graph_of(net, kind), Stored(x))
    expected = theirs(net, torch.from_numpy(x))
    operations = expected["SynapticOperations"]
    assert operations["Effective_MACs"] > 0  # behind the pooling
    assert operations["Effective_ACs"] > 0
    assert (ours.connection_sparsity > 0.3) is zeros
    same(ours.results, expected)


def test_the_convolutions_of_a_tcja_block(theirs: Any) -> None:
    """The authors' network, its batch normalisation folded: layers and attention as torch modules of SpikingJelly."""
    from tcja_deploy import zoo

    graph = fold_batch_norm(zoo.build("events34", channels=(4, 6, 6), T=T, hidden=16))
    frames = np.concatenate([synthetic_frames(graph, 1, seed=s) for s in range(N)], 1)

    class Block(nn.Module):
        """The two convolutions of a block on its squeezed spikes."""

        def __init__(self, op: ir.TCJA) -> None:
            super().__init__()
            self.tla = nn.Conv1d(*op.tla.shape[1::-1], op.k_t, padding="same", bias=False)
            self.cla = nn.Conv1d(*op.cla.shape[1::-1], op.k_c, padding="same", bias=False)
            self.tla.weight.data = torch.from_numpy(op.tla.copy())
            self.cla.weight.data = torch.from_numpy(op.cla.copy())

        def forward(self, x: Tensor) -> Tensor:
            """Spikes `[1, T, C, H, W]` in."""
            z = x.mean((3, 4))
            return self.tla(z.permute(0, 2, 1)).sum() + self.cla(z).sum()

    from tcja_deploy.runtime.sequence import run

    watched: dict[str, list[Tensor]] = {}
    run(graph, frames, observe=lambda node, value: watched.setdefault(node.name, []).append(value))
    for node in (n for n in graph if isinstance(n.op, ir.TCJA)):
        (source,) = watched[node.inputs[0]]
        expected = theirs(Block(node.op), source.swapaxes(0, 1).clone())["SynapticOperations"]
        b = GraphBuilder(T)
        x = b.add("input", ir.Input(tuple(source.shape[2:]), Kind.BINARY))
        alone = neurobench_metrics(b.finish(b.add("gate", node.op, x)), Stored(source.swapaxes(0, 1).numpy()))
        assert expected["Effective_MACs"] > 0
        same(alone.results, {"SynapticOperations": expected})


def test_the_shipped_network(tmp_path: Path) -> None:
    model = ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth"
    data = ROOT / "tests" / "data" / "n-mnist" / "Test"
    found = td.neurobench(model, data, progress=False, limit=2)
    record = json.loads(found.save(tmp_path / "a.json").read_text())
    assert record == found.metrics.results
    assert record["ClassificationAccuracy"] == 1.0
    rates = td.rates(model, data, progress=False, limit=2).rates
    spikes_per_step = sum(r.rate.mean * r.elements for r in rates.neurons) / sum(
        r.elements for r in rates.neurons
    )
    assert record["ActivationSparsity"] == pytest.approx(1 - spikes_per_step, rel=1e-9)
    assert record["Footprint"] == 4 * fold_batch_norm(td.load(model)).parameters
    assert "Effective_ACs" in found.document(".md")


def test_layers_that_they_do_not_count_are_named() -> None:
    rng = np.random.default_rng(0)
    graph = one_layer(ir.ConvTranspose2d(weights(rng, 2, 3, 3, 3)), (2, 4, 4))
    found = neurobench_metrics(graph, Stored(spikes(rng, 2, 1, 2, 4, 4)))
    assert found.left_out == ("layer",)
    assert found.dense == 0
