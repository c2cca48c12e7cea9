"""Files of others, read by us, and what others make of ours: spikes on real recordings."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from nir_nets import RECORDINGS, Recorder, chain, counts, needs, normal
from torch import nn

import tcja_deploy as td
from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.runtime.compare import compare


@pytest.mark.parametrize("kind", ["LIFNode", "IFNode", "ParametricLIFNode"])
def test_spikingjelly_file(kind: str, recordings: RECORDINGS, tmp_path: Path) -> None:
    needs("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    torch.manual_seed(0)
    node = getattr(neuron, kind)
    net = nn.Sequential(
        layer.Conv2d(2, 8, 3, bias=False), node(), layer.AvgPool2d(2), layer.Conv2d(8, 8, 3, stride=2), node(),
        layer.Flatten(), layer.Linear(8 * 49, 10), node(),
    )  # fmt: skip
    with torch.no_grad():
        for weight in (net[0].weight, net[3].weight, net[6].weight):
            weight.mul_(8)
    functional.set_step_mode(net, "m")
    export_to_nir(net, torch.from_numpy(recordings), tmp_path / "sj.nir", dt=1e-4)
    functional.reset_net(net)
    watch = Recorder(net, (node,))
    with torch.no_grad():
        output = net(torch.from_numpy(recordings)).numpy()
    graph = load_nir(tmp_path / "sj.nir", 10, dt=1e-4, comparison=">=")
    theirs = {
        f"_{name}" if f"_{name}" in {n.name for n in graph} else name: v[0]
        for name, v in watch.stacked().items()
    }
    assert set(theirs) == {n.name for n in graph.neurons}
    found = compare(graph, recordings, output, theirs, bound=0.0)
    assert all(layer_.spikes > 0 for layer_ in found.layers)
    if kind == "ParametricLIFNode":  # tau = 1 / sigmoid(w) is 2 here, exactly
        assert net[1].w.sigmoid().item() == 0.5
    assert found.mismatches == 0
    assert found.predictions_equal == 10


def test_snntorch_file_and_ours_in_snntorch(recordings: RECORDINGS, tmp_path: Path) -> None:
    snn = pytest.importorskip("snntorch", reason="snnTorch is not installed")
    pytest.importorskip("nirtorch", reason="nirtorch is not installed")
    from snntorch.import_nir import import_from_nir

    graph = chain(
        10, (2, 34, 34), ir.Conv2d(normal(np.random.default_rng(0), 6, 2, 3, 3, scale=0.6), stride=(2, 2)), ir.LIF(),
        ir.Flatten(), ir.Linear(normal(np.random.default_rng(1), 10, 6 * 256, scale=0.1)), ir.LIF(),
    )  # fmt: skip
    report = td.export(graph, "nir", tmp_path / "ours.nir")
    with contextlib.redirect_stdout(io.StringIO()):
        net = import_from_nir(nir.read(report.path))
        watch = Recorder(net, (snn.Leaky,))
        state, outputs = None, []
        with torch.no_grad():
            for frame in torch.from_numpy(recordings):
                y, state = net(frame, state)
                outputs.append(y.numpy())
    spikes = {name.replace("_", "."): value for name, value in watch.stacked().items()}
    found = compare(graph, recordings, np.stack(outputs), spikes, bound=0.0)
    assert all(layer.spikes > 0 for layer in found.layers)
    assert found.mismatches == 0


def test_snntorch_file(recordings: RECORDINGS, tmp_path: Path) -> None:
    """Of neurons that are reset to zero without delay: NIR cannot say anything else, and snnTorch writes the same for all."""
    snn = pytest.importorskip("snntorch", reason="snnTorch is not installed")
    pytest.importorskip("nirtorch", reason="nirtorch is not installed")
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(0)

    def leaky(beta: float, n: int) -> nn.Module:
        return snn.Leaky(
            beta=torch.full((n,), beta), threshold=torch.full((n,), 0.5), reset_mechanism="zero", reset_delay=False,
            init_hidden=True,
        )  # fmt: skip

    net = nn.Sequential(nn.Linear(34, 20), leaky(0.5, 20), nn.Linear(20, 10), leaky(0.75, 10))
    nir.write(tmp_path / "snn.nir", export_to_nir(net, torch.zeros(34)))
    x = np.ascontiguousarray(recordings[..., 0, 17, :])
    watch = Recorder(net, (snn.Leaky,))
    with torch.no_grad():
        for frame in torch.from_numpy(x):
            net(frame)
    graph = load_nir(tmp_path / "snn.nir", 10, dt=1e-4)
    assert watch.counts() == counts(graph, x)
    assert all(watch.counts().values())


@pytest.mark.parametrize("conv", [False, True])
def test_norse_file(conv: bool, recordings: RECORDINGS, tmp_path: Path) -> None:
    """Norse 1.1 writes dt * tau_mem where NIR has tau_mem: with dt squared as time step, its files say what they mean.

    They also begin the shape of the input with the batch.
    """
    needs("norse")
    import norse.torch as nt

    torch.manual_seed(0)
    dt = 1e-3

    def cell(*shape: int) -> Any:
        values = (torch.full(shape, 500.0), torch.zeros(shape), torch.full(shape, 0.25))
        return nt.LIFBoxCell(nt.LIFBoxParameters(*values), dt=dt)

    if conv:
        net = nt.SequentialState(nn.Conv2d(2, 4, 5), cell(4, 30, 30), nn.Conv2d(4, 3, 5), cell(3, 26, 26))
        x = recordings
    else:
        net = nt.SequentialState(nn.Linear(34, 20), cell(20), nn.Linear(20, 10), cell(10))
        x = np.ascontiguousarray(recordings[..., 0, 17, :])
    source = nt.to_nir(net, torch.from_numpy(x[0, :1]), dt=dt)
    if not conv:  # nir cannot write the convolutions of Norse, which lack their input shape
        nir.write(tmp_path / "norse.nir", source)
        source = tmp_path / "norse.nir"
    with pytest.raises(td.errors.TraceError, match="pass dt squared"):
        load_nir(source, 10, dt=dt)
    watch = Recorder(net, (nt.LIFBoxCell,))
    state = None
    with torch.no_grad():
        for frame in torch.from_numpy(x):
            _, state = net(frame, state)
    graph = load_nir(source, 10, dt=dt * dt)
    assert graph.source["assumptions"] == "the input's first axis, of length 1, is the batch"
    assert watch.counts() == counts(graph, x)
    assert all(watch.counts().values())
