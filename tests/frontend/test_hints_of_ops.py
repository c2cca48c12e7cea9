"""Hints about single operations and modules are true: the network that follows them loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_nets import CHANNELS, SHAPE, T, body, lif
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError
from tcja_deploy.frontend.traced import SAMPLES

Build = Callable[[], nn.Module]


def forward(code: Callable[[Any, Tensor], Any], **modules: nn.Module) -> Build:
    return lambda: body(code, **modules)


def folded(code: Callable[[Any, Tensor], Any]) -> Build:
    """Something done to the spikes of the first layer, time folded into the samples."""
    return forward(lambda s, x: code(s, s.spikes(x).flatten(0, 1)))


def changed(**attributes: Any) -> Build:
    """A network whose neuron has other attributes."""

    def build() -> nn.Module:
        net = body(lambda s, x: s.spikes(x))
        for name, value in attributes.items():
            setattr(net.lif, name, value)
        return net

    return build


def begun(v: float) -> Build:
    """A network whose neuron begins with another membrane."""

    def build() -> nn.Module:
        net = body(lambda s, x: s.spikes(x))
        net.lif.set_reset_value("v", v)
        return net

    return build


def hooked(remove: bool) -> Build:
    def build() -> nn.Module:
        net = body(lambda s, x: s.spikes(x))
        handle = net.conv.register_forward_hook(lambda *_: None)
        if remove:
            handle.remove()
        return net

    return build


def decoded(decode: Any) -> Build:
    return forward(lambda s, x: s.read(s.spikes(x)), read=neuron.NonSpikingLIFNode(decode=decode))


def product(s: Any, x: Tensor, times: int) -> Tensor:
    y = s.conv(x).repeat(1, 1, 1, times, times)
    return y @ y.transpose(-1, -2)  # type: ignore[no-any-return]


def limits(s: Any, x: Tensor, each: bool) -> Tensor:
    return s.conv(x).clamp(max=torch.linspace(0.5, 1, CHANNELS).view(-1, 1, 1) if each else 0.5)  # type: ignore[no-any-return]


OP_HINTS: dict[str, tuple[str, Build, Build]] = {
    "limits for each channel": (
        "use the same limits for all",
        forward(lambda s, x: limits(s, x, True)),
        forward(lambda s, x: limits(s, x, False)),
    ),
    "the larger of two": (
        "use max pooling, or a sum",
        forward(lambda s, x: torch.max(s.spikes(x), s.conv(x))),
        forward(lambda s, x: s.spikes(x) + s.conv(x)),
    ),
    "a stack of matrices": (
        "use a linear layer",
        forward(lambda s, x: s.spikes(x).flatten(3) @ torch.ones(1, 64, 5)),
        forward(lambda s, x: F.linear(s.spikes(x).flatten(3), torch.ones(5, 64))),
    ),
    "matrices of other ranks": (
        "give both the same leading axes",
        forward(lambda s, x: s.conv(x) @ s.conv(x).mean(0)),
        forward(lambda s, x: s.conv(x) @ s.conv(x)),
    ),
    "too large a product": (
        "use smaller windows of attention",
        forward(lambda s, x: product(s, x, 64)),
        forward(lambda s, x: product(s, x, 1)),
    ),
    "a constant with more axes": (
        "give the constant no more axes than the signal",
        forward(lambda s, x: s.conv(x) * torch.linspace(1, 2, 8).view(1, 1, 1, 1, 1, 8)),
        forward(lambda s, x: s.conv(x) * torch.linspace(1, 2, 8)),
    ),
    "a constant for each sample": (
        "treat all samples alike",
        forward(lambda s, x: s.conv(x) * torch.linspace(1, 2, SAMPLES).view(-1, 1, 1, 1)),
        forward(lambda s, x: s.conv(x) * 1.5),
    ),
    "samples repeated": (
        f"only an image (over the {T} time steps) and features can be repeated",
        forward(lambda s, x: s.conv(x).repeat(1, 2, 1, 1, 1)),
        forward(lambda s, x: s.conv(x).repeat(1, 1, 2, 1, 1)),
    ),
    "an attribute of a tensor": (
        "tracing knows shape, ndim, dtype, device and data",
        forward(lambda s, x: s.spikes(x) * x.itemsize),
        forward(lambda s, x: s.spikes(x) * x.ndim),
    ),
    "a function without a rule": (
        "express it with supported ops, or open an issue",
        forward(lambda s, x: s.conv(x).abs()),
        forward(lambda s, x: s.conv(x).relu() + (-s.conv(x)).relu()),
    ),
    "statistics of the batch": (
        "use track_running_stats=True",
        lambda: nn.Sequential(layer.BatchNorm2d(2, track_running_stats=False, step_mode="m"), lif()).eval(),
        lambda: nn.Sequential(layer.BatchNorm2d(2, track_running_stats=True, step_mode="m"), lif()).eval(),
    ),
    "normalisation of six axes": (
        "give it [N, C] or [N, C, ...]",
        folded(
            lambda s, y: F.batch_norm(y.view(*y.shape, 1, 1), torch.zeros(CHANNELS), torch.ones(CHANNELS))
        ),
        folded(lambda s, y: F.batch_norm(y, torch.zeros(CHANNELS), torch.ones(CHANNELS))),
    ),
    "pooling of one axis": (
        "give all sizes",
        folded(lambda s, y: F.adaptive_avg_pool2d(y, (None, 2))),
        folded(lambda s, y: F.adaptive_avg_pool2d(y, (8, 2))),
    ),
    "a mean over folded samples": (
        "name the feature axes",
        folded(lambda s, y: y.mean(0)),
        folded(lambda s, y: y.mean(1)),
    ),
    "folded samples moved": (
        "keep samples and time steps where they are",
        folded(lambda s, y: y.permute(1, 0, 2, 3)),
        folded(lambda s, y: y.permute(0, 2, 1, 3)),
    ),
    "some of the samples": (
        "let forward treat all samples alike",
        forward(lambda s, x: s.spikes(x)[:, :3]),
        forward(lambda s, x: s.spikes(x)[:, :, :3]),
    ),
    "samples one by one": (
        "let forward treat all samples alike",
        folded(lambda s, y: torch.stack([f.relu() for f in y])),
        folded(lambda s, y: y.relu()),
    ),
    "a forward hook": ("remove hooks first, such as those of a monitor", hooked(False), hooked(True)),
    "another membrane at first": ("leave the initial membrane as it is", begun(0.4), begun(0.0)),
    "a membrane of every step": (
        "use decode='mean-mem' or 'max-mem'",
        decoded("max-abs-mem"),
        decoded("mean-mem"),
    ),
}


@pytest.mark.parametrize("name", OP_HINTS)
def test_following_the_hint_of_an_op_loads(name: str) -> None:
    hint, refused, followed = OP_HINTS[name]
    with pytest.raises(TraceError) as caught:
        td.load(refused(), timesteps=T, input_shape=SHAPE)
    assert hint in str(caught.value)
    assert str(SAMPLES) not in str(caught.value)
    td.load(followed(), timesteps=T, input_shape=SHAPE)
