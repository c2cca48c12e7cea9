"""The networks in their published sizes: SpikingJelly's model zoo as it comes, and the zoo's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from family_nets import Family, Net
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.model import masnn, ms_resnet, sew_resnet, spiking_vgg
from torch import nn
from untrained import settle

import tcja_deploy as td
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Kind
from tcja_deploy.runtime.sequence import run
from tcja_deploy.zoo.resnet import ms_resnet18_tcja

pytestmark = pytest.mark.slow


def multi_step(make: Callable[..., nn.Module], **options: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = make(spiking_neuron=neuron.LIFNode, **options)
        functional.set_step_mode(module, "m")
        return module

    return build


PUBLISHED = {
    "masnn_dvs128_gesture": Family(
        "MA-SNN, DVS128 Gesture", masnn.masnn_dvs128_gesture, (2, 32, 32), 60, Kind.COUNT
    ),
    "ms_resnet18_tcja": Family(
        "MS-ResNet-18 with TCJA, CIFAR10", ms_resnet18_tcja, (3, 32, 32), 4, Kind.REAL
    ),
    "att_ms_resnet18": Family(
        "Att-MS-ResNet-18", lambda: masnn.att_ms_resnet18(T=2), (3, 64, 64), 2, Kind.REAL
    ),
    "ms_resnet18": Family("MS-ResNet-18", lambda: ms_resnet.ms_resnet18(T=4), (3, 64, 64), 4, Kind.REAL),
    "sew_resnet18": Family(
        "SEW-ResNet-18", multi_step(sew_resnet.sew_resnet18, cnf="ADD"), (3, 64, 64), 4, Kind.REAL
    ),
    "spiking_vgg11_bn": Family(
        "spiking VGG-11", multi_step(spiking_vgg.spiking_vgg11_bn), (3, 32, 32), 2, Kind.REAL
    ),
}

LARGE = {"spiking_vgg11_bn"}
"""133 million weights: traced and run, but not written to disk in a test."""


@pytest.mark.parametrize("key", PUBLISHED)
def test_published_size(key: str, tmp_path: Path) -> None:
    family = PUBLISHED[key]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = family.make()
        settle(module, family.frames(1, seed=1), passes=1)
    graph = trace(module, timesteps=family.T, input_shape=family.shape, input_kind=family.kind)
    made = Net(family, module, graph)
    frames = family.frames(1)
    expected, spikes = made.forward(frames)
    wrong = total = fired = 0

    def observe(node, value) -> None:
        nonlocal wrong, total, fired
        if node.name in spikes:
            wrong += int((spikes[node.name] != value).sum())
            total += value.numel()
            fired += int(value.sum())

    output = run(graph, frames, observe=observe)
    assert wrong == 0
    assert 0 < fired < total
    assert torch.equal(output, expected)
    if key not in LARGE:
        agreement = td.export(graph, "onnx", tmp_path / "m.onnx", data=[frames.numpy()]).agreement
        assert agreement is not None
        assert agreement.passed
        print(f"{key}: {agreement.mismatches} of {agreement.neuron_steps} neuron-steps differ in onnxruntime")
