"""Operations that live networks use around their neurons: the graph gives what the module gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_nets import CHANNELS, SHAPE, N, T, body, counts, lif, lively
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based.ann2snn import modules as scalers
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.runtime.sequence import run

Forward = Callable[[Any, Tensor], Any]


def result_of(net: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(net)
    with torch.no_grad():
        result: Tensor = net(x)
    assert result.abs().sum() > 0
    return result


def agrees(net: nn.Module, x: Tensor, given: Tensor | None = None, **options: Any) -> None:
    expected = result_of(net, x if given is None else given)
    graph = td.load(net, **{"timesteps": T, "input_shape": tuple(x.shape[2:]), **options})
    result = torch.as_tensor(np.asarray(run(graph, x.numpy())))
    # Sums of real numbers in another order; spikes and counts are exact.
    torch.testing.assert_close(result, expected, rtol=2e-6, atol=2e-6)


def attention(s: Any, x: Tensor) -> Tensor:
    q = s.spikes(x).flatten(3).transpose(2, 3)
    return s.out((q @ q.transpose(-1, -2) @ q) * 0.125)  # type: ignore[no-any-return]


def qkv(s: Any, x: Tensor) -> Tensor:
    a, b, c = s.spikes(x).flatten(3).chunk(3, dim=2)
    return a * b + c


RNG = torch.Generator().manual_seed(5)
FORWARDS: dict[str, Forward] = {
    "last step": lambda s, x: s.spikes(x)[-1],
    "first steps": lambda s, x: s.spikes(x)[:3].sum(0),
    "every second step": lambda s, x: s.spikes(x)[::2],
    "channels": lambda s, x: s.conv(x)[:, :, 1:4],
    "one channel": lambda s, x: s.out(s.conv(x)[:, :, 2]),
    "a strip of the image": lambda s, x: s.spikes(x)[..., 1:-1, ::2],
    "chunk": lambda s, x: torch.cat(s.spikes(x).chunk(2, 2)[::-1], 2),
    "split": lambda s, x: s.spikes(x).split([2, 4], dim=2)[1],
    "split in ones": lambda s, x: s.conv(x).split(4, 2)[0],
    "narrow": lambda s, x: s.spikes(x).narrow(2, 1, 3),
    "select": lambda s, x: s.spikes(x).select(3, 2),
    "unbind channels": lambda s, x: sum(s.conv(x).unbind(2)),
    "clamp": lambda s, x: s.lif(torch.clamp(s.conv(x), -0.5, 1.5)),
    "clamp from below": lambda s, x: s.lif(s.conv(x).clamp(min=0.25)),
    "clamp to zero": lambda s, x: s.lif(s.conv(x).clamp_min(0)),
    "clip": lambda s, x: s.spikes(x.clip(max=1)),
    "relu6": lambda s, x: F.relu6(s.conv(x)),
    "nearest": lambda s, x: F.interpolate(s.spikes(x).flatten(0, 1), scale_factor=2).unflatten(0, (T, -1)),
    "nearest to a size": lambda s, x: F.interpolate(s.spikes(x).flatten(0, 1), size=(16, 8)).unflatten(
        0, (T, -1)
    ),
    "factor per channel": lambda s, x: s.lif(
        s.conv(x) * torch.linspace(0.5, 2, CHANNELS).view(1, 1, -1, 1, 1)
    ),
    "offset per channel": lambda s, x: s.lif(torch.linspace(0.5, 2, CHANNELS).view(-1, 1, 1) + s.conv(x)),
    "minus a constant": lambda s, x: s.lif(torch.linspace(0.5, 2, CHANNELS).view(-1, 1, 1) - s.conv(x)),
    "factor per column": lambda s, x: s.lif(s.conv(x) * torch.linspace(0.5, 2, 8)),
    "offset a position": lambda s, x: s.lif(
        s.conv(x) + torch.linspace(-1, 1, CHANNELS * 64).view(CHANNELS, 8, 8)
    ),
    "factor per step": lambda s, x: s.lif(s.conv(x) * torch.linspace(0.5, 2, T).view(T, 1, 1, 1, 1)),
    "division of spikes": lambda s, x: s.spikes(x).flatten(2) / 3,
    "attention": attention,
    "thirds of the channels": qkv,
    "product with a matrix": lambda s, x: s.head(s.spikes(x)) @ torch.linspace(-1, 1, 60).view(20, 3),
    "mean over channels, largest value": lambda s, x: torch.max(s.spikes(x), dim=2, keepdim=True)[0],
    "tiled": lambda s, x: s.spikes(x).repeat(1, 1, 2, 1, 1),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_forward(name: str) -> None:
    agrees(body(FORWARDS[name]), counts())


BATCHED: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm1d of [N, C, L]": lambda: layer.SeqToANNContainer(
        nn.Conv1d(2, 6, 3, padding=1), nn.BatchNorm1d(6)
    ),
    "MaxPool1d": lambda: layer.SeqToANNContainer(nn.Conv1d(2, 6, 3), nn.MaxPool1d(3, 2, 1)),
    "AvgPool1d with overlap": lambda: layer.SeqToANNContainer(nn.Conv1d(2, 6, 3), nn.AvgPool1d(3, 2, 1)),
    "AvgPool1d": lambda: layer.SeqToANNContainer(nn.Conv1d(2, 6, 3), nn.AvgPool1d(2)),
    "SpikingJelly's 1-D layers": lambda: nn.Sequential(
        layer.Conv1d(2, 6, 3, step_mode="m"),
        layer.BatchNorm1d(6, step_mode="m"),
        layer.MaxPool1d(2, step_mode="m"),
    ),
    "SyncBatchNorm": lambda: layer.SeqToANNContainer(nn.Conv1d(2, 6, 3), nn.SyncBatchNorm(6)),
}


@pytest.mark.parametrize("name", BATCHED)
def test_sequences(name: str) -> None:
    agrees(lively(nn.Sequential(BATCHED[name](), lif())), counts(shape=(2, 16)))


class StepNorm(nn.Module):
    """Normalisation of `[T, N, C, H, W]` as `[N, C, T, H, W]`."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm3d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(x.permute(1, 2, 0, 3, 4).contiguous()).permute(2, 0, 1, 3, 4)
        return y


def test_normalisation_over_three_axes_by_transposes() -> None:
    norm = StepNorm()
    norm.bn.running_mean.normal_(generator=RNG)  # type: ignore[union-attr]
    norm.bn.running_var.uniform_(0.2, 0.8, generator=RNG)  # type: ignore[union-attr]
    net = body(lambda s, x: s.lif(s.norm(s.conv(x))), norm=norm)
    agrees(net, counts())
    assert "Permute" not in {type(n.op).__name__ for n in td.load(net, timesteps=T, input_shape=SHAPE)}


def test_normalisation_with_a_factor_a_step() -> None:
    norm = layer.TemporalEffectiveBatchNorm2d(T, CHANNELS)
    with torch.no_grad():
        norm.scale.uniform_(0.5, 2, generator=RNG)
    agrees(body(lambda s, x: s.lif(s.norm(s.conv(x))), norm=norm), counts())


def test_scalers_of_converted_networks() -> None:
    net = body(lambda s, x: s.scale(s.spikes(s.scale(x))), scale=scalers.VoltageScaler(0.3))
    agrees(net, counts())


IMAGES: dict[str, Forward] = {
    "repeat": lambda s, x: x.unsqueeze(1).repeat(1, T, 1, 1, 1),
    "expand": lambda s, x: x.unsqueeze(1).expand(-1, T, -1, -1, -1),
    "stack": lambda s, x: torch.stack([x] * T, dim=1),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_repeated_batch_first(name: str) -> None:
    net = body(lambda s, x: s.spikes(IMAGES[name](s, x).transpose(0, 1)).mean(0))
    image = counts()[0]
    agrees(net, image.expand(T, *image.shape).contiguous(), image)


def test_einops() -> None:
    einops = pytest.importorskip("einops")
    layers = pytest.importorskip("einops.layers.torch")

    def forward(s: Any, x: Tensor) -> Tensor:
        y = einops.rearrange(x, "n t c h w -> (t n) c h w")
        y = einops.rearrange(s.net(y), "(t n) c h w -> t n c (h w)", t=T)
        y = einops.reduce(s.lif(y), "t n c (h w) -> t n c h", "mean", h=8)
        return s.join(einops.repeat(y, "t n c h -> t n c h k", k=2))  # type: ignore[no-any-return]

    net = body(
        forward, net=nn.Conv2d(2, CHANNELS, 3, padding=1), join=layers.Rearrange("t n c h k -> t n (c h k)")
    )
    x = counts()
    agrees(net, x, x.transpose(0, 1))


def test_wrapped_networks() -> None:
    def build() -> nn.Module:
        return body(lambda s, x: s.spikes(x))

    x, expected = counts(), result_of(build(), counts())
    inner = nn.Sequential(nn.Identity(), nn.DataParallel(torch.compile(build())))  # type: ignore[arg-type]
    compiled = build()
    compiled.conv.compile()  # type: ignore[operator, union-attr]
    for net in (
        nn.DataParallel(torch.compile(build())),
        torch.compile(nn.DataParallel(build())),
        inner,
        compiled,
    ):  # type: ignore[arg-type]
        graph = td.load(net, timesteps=T, input_shape=SHAPE)  # type: ignore[arg-type]
        assert torch.equal(torch.as_tensor(np.asarray(run(graph, x.numpy()))), expected)
    assert isinstance(inner[1], nn.DataParallel)
    assert expected.shape[1] == N


def test_hooks_run_or_are_refused() -> None:
    scaled = body(lambda s, x: s.spikes(x))
    scaled.register_forward_pre_hook(lambda m, inputs: (inputs[0] * 0.5,))
    scaled.register_forward_hook(lambda m, inputs, y: 1 - y)
    agrees(scaled, counts())
    container = nn.Sequential(layer.SeqToANNContainer(nn.Conv2d(2, 4, 3)), lif()).eval()
    for place in (container[0], container[0][0], container[1]):
        handle = place.register_forward_hook(lambda m, inputs, y: y * 2)
        with pytest.raises(td.DeployError, match="remove hooks first"):
            td.load(container, timesteps=T, input_shape=SHAPE)
        handle.remove()
    td.load(container, timesteps=T, input_shape=SHAPE)
