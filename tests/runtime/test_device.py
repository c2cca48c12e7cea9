"""GPUs: the same integers as the CPU up to the order of sums; a clear message where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.data import path
from tcja_deploy.errors import UsageError
from tcja_deploy.events import open_data
from tcja_deploy.ir import Node
from tcja_deploy.runtime.activity.collect import collect
from tcja_deploy.runtime.activity.record import Watch
from tcja_deploy.runtime.activity.torch_windows import TorchWindows
from tcja_deploy.runtime.agreement import BOUND
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.device import device_name, open_device, samples_that_fit
from tcja_deploy.runtime.sequence import run, run_with_spikes
from tcja_deploy.runtime.synthetic import synthetic_frames

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_clearly() -> None:
    with pytest.raises(UsageError, match="no GPU that torch can use"):
        open_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "mps", "tpu:1", "", "cpu:9"])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        open_device(name)


def test_the_cpu_is_a_device() -> None:
    assert device_name(open_device("cpu")) == "CPU"


@gpu
@pytest.mark.parametrize("name", ["events34", "fashion_mnist", "dvs128"])
def test_spikes_of_the_gpu(name: str) -> None:
    """Random networks are chaotic: behind a flip at the threshold others follow, so that the first one is looked at."""
    device, graph = open_device("cuda"), zoo.build(name)
    frames = synthetic_frames(graph, 2)
    output, spikes = run_with_spikes(graph, torch.from_numpy(frames).to(device))
    found = compare(graph, frames, output, spikes, bound=BOUND)
    first = next((layer for layer in found.layers if layer.first is not None), None)
    if first is not None:
        assert first.first is not None
        assert first.first.distance is not None
        assert abs(first.first.distance) < 1e-6
        assert first.mismatches <= max(1, BOUND * first.neuron_steps)
    again, others = run_with_spikes(graph, torch.from_numpy(frames).to(device))
    assert np.array_equal(output, again)
    assert all(np.array_equal(spikes[name], others[name]) for name in spikes)
    assert samples_that_fit(graph, device) > 0
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@gpu
def test_counts_of_the_gpu(nmnist: Path) -> None:
    """The shipped network on recordings: what moves is within the bound."""
    graph = td.load(path("nmnist_checkpoint_max.pth"))
    data = open_data(nmnist / "Test", timesteps=graph.T, sensor=(34, 34), limit=100)
    watches = [Watch(node.name, node.signal.features, graph.T, binary=True) for node in graph.neurons]
    here, there = (
        collect(graph, data, watches, batch_size=10, windows=TorchWindows(graph, open_device(name)))
        for name in ("cpu", "cuda")
    )
    neuron_steps = sum(v.size * v.steps * len(data) for v in here.values.values())
    moved = sum(int(np.abs(here[name].neurons - there[name].neurons).sum()) for name in here.values)
    assert moved <= BOUND * neuron_steps


@gpu
def test_weights_stay_on_the_gpu_as_long_as_the_graph() -> None:
    from tcja_deploy.runtime.device import _MOVED

    device, graph = open_device("cuda"), zoo.build("events34")
    before = len(_MOVED)
    kept: list[str] = []

    def observe(node: Node, value: torch.Tensor) -> None:
        assert value.device.type == "cuda"
        kept.append(node.name)

    run(graph, torch.from_numpy(synthetic_frames(graph, 1)).to(device), observe=observe)
    assert len(kept) == len(list(graph))
    assert len(_MOVED) > before
    del graph
    assert len(_MOVED) == before
