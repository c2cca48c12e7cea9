"""Every family through every target: its own PyTorch forward is the reference, spike for spike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from family_nets import FAMILIES, net

from tcja_deploy.energy.measure import measure
from tcja_deploy.exporters.onnx import export_onnx
from tcja_deploy.exporters.onnx_step import export_onnx_step
from tcja_deploy.ir import Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import stream

SAMPLES = 4
BOUND = 1e-5
"""Spikes per neuron-step that may differ where kernels sum in another order; the default of the exports."""

LATENCY = {
    **dict.fromkeys(("tcja", "cla", "tcja-added", "tcja-heads", "cross", "ma-t", "ma-c", "ma-s"), 4),
    "tla": 2,  # two blocks with K_T = 2 look one frame ahead each
    **dict.fromkeys(("ma-stepwise", "sew-add", "sew-and", "sew-iand", "spiking-resnet", "spiking-vgg"), 0),
    "fsvae-encoder": 4,
}
"""Frames that the first result waits for, of networks whose result is a stream (T = 5 where it is not 0)."""


class Stored:
    """Recordings from a window `[T, N, ...]`."""

    def __init__(self, frames: torch.Tensor) -> None:
        self.frames = frames.numpy()

    def __len__(self) -> int:
        return int(self.frames.shape[1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames[:, index], None


@pytest.mark.parametrize("key", FAMILIES)
def test_sequence_runtime_equals_the_module(key: str) -> None:
    made = net(key)
    frames = made.family.frames(SAMPLES)
    expected, spikes = made.forward(frames)
    seen: dict[str, torch.Tensor] = {}

    def observe(node: Node, value: torch.Tensor) -> None:
        if node.name in spikes:
            seen[node.name] = value.clone()

    output = run(made.graph, frames, observe=observe)
    assert torch.equal(output, expected)
    assert len(seen) == len(made.graph.neurons) == len(spikes) > 0
    for name, own in spikes.items():
        assert 0 < own.mean() < 1, f"{name} says nothing: all its spikes are equal"
        assert torch.equal(seen[name], own), name


@pytest.mark.parametrize("key", FAMILIES)
def test_onnx_equals_the_sequence_runtime(key: str, tmp_path: Path) -> None:
    made = net(key)
    frames = made.family.frames(SAMPLES, seed=2).numpy()
    agreement = export_onnx(made.graph, tmp_path / "m.onnx", data=[frames], bound=BOUND).agreement
    assert agreement is not None
    assert agreement.passed, agreement
    assert agreement.samples == SAMPLES
    assert agreement.output_difference < 1e-4  # real outputs of the order of 1; a flipped spike is worth more


@pytest.mark.parametrize("key", FAMILIES)
def test_onnx_step_equals_the_stream(key: str, tmp_path: Path) -> None:
    made = net(key)
    frames = made.family.frames(SAMPLES, seed=3).numpy()
    agreement = export_onnx_step(made.graph, tmp_path / "m.onnx", data=[frames], bound=BOUND).agreement
    assert agreement is not None
    assert agreement.passed, agreement


@pytest.mark.parametrize("key", FAMILIES)
def test_stream_equals_the_sequence_runtime(key: str) -> None:
    made = net(key)
    frames = made.family.frames(SAMPLES, seed=4)
    stepper = stream(made.graph, samples=SAMPLES)
    spikes: dict[str, list[torch.Tensor]] = {}

    def observe(name: str, index: int, item: torch.Tensor) -> None:
        spikes.setdefault(name, []).append(item)

    results, latency = [], None
    for t, frame in enumerate(frames):
        emitted = stepper.push(frame, observe=observe)
        latency = t if emitted and latency is None else latency
        results += [emission.value for emission in emitted]
    streams = made.graph[made.graph.output].signal.streams
    output = torch.stack(results) if streams else results[0]
    layers = {n.name: torch.stack(spikes[n.name]).numpy() for n in made.graph.neurons}
    agreement = compare(made.graph, frames.numpy(), output.numpy(), layers, bound=BOUND)
    assert agreement.passed, agreement
    assert latency == (LATENCY[key] if streams else made.graph.T - 1)


@pytest.mark.parametrize("key", FAMILIES)
def test_every_node_is_counted(key: str) -> None:
    """No operation is forgotten, and synaptic operations are what a convolution of the spikes with ones adds up to."""
    made = net(key)
    frames = made.family.frames(SAMPLES, seed=5)
    counted = measure(made.graph, Stored(frames))
    assert not counted.inventory.unsupported
    values: dict[str, torch.Tensor] = {}
    run(made.graph, frames, observe=lambda node, value: values.__setitem__(node.name, value.clone()))
    layers = [layer for layer in counted.inventory.layers if layer.event_driven]
    assert layers
    for layer in layers:
        op, x = made.graph[layer.node].op, (values[layer.source] != 0).float()
        assert isinstance(op, ir.Conv2d | ir.ConvTranspose2d | ir.Linear)
        ones = torch.ones(op.weight.shape)
        if isinstance(op, ir.Linear):
            met = F.linear(x, ones)
        elif isinstance(op, ir.Conv2d):
            pads = (op.padding[1], op.padding[3], op.padding[0], op.padding[2])
            met = F.conv2d(F.pad(x.flatten(0, 1), pads), ones, None, op.stride, 0, op.dilation, op.groups)
        else:
            met = F.conv_transpose2d(
                x.flatten(0, 1), ones, None, op.stride, op.padding, op.output_padding, op.groups, op.dilation
            )
        total = int(met.double().sum())
        assert counted.synops(layer).total == total, layer.node
