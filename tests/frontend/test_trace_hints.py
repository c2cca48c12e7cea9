"""Every hint is true: the network that follows it loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_nets import CHANNELS, SHAPE, T, body, convolved, lif
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError

Build = Callable[[], nn.Module]


def forward(code: Callable[[Any, Tensor], Any], **modules: nn.Module) -> Build:
    return lambda: body(code, **modules)


def chain(*modules: nn.Module) -> Build:
    return lambda: nn.Sequential(*modules).eval()


def single_step(code: Callable[[Any, Tensor], Any], **modules: nn.Module) -> Build:
    def build() -> nn.Module:
        net = body(code, **modules)
        functional.set_step_mode(net, "s")
        return net

    return build


class Above(nn.Module):
    """A comparison as a module."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.threshold).float()


class Charged(Above):
    """A neuron in plain PyTorch."""

    mem: Any = None

    def reset(self) -> None:
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        mem = x if self.mem is None else 0.5 * self.mem + x
        spike = super().forward(mem)
        self.mem = mem * (1 - spike)
        return spike


def membranes(s: Any, x: Tensor) -> Tensor:
    mem, out = torch.zeros(x.shape[1], CHANNELS, 8, 8), []
    for t in range(T):
        mem = (0.5 * mem if t % 2 else mem) + s.conv(x[t])
        spike = (mem > 1).float()
        mem = mem * (1 - spike)
        out.append(spike)
    return torch.stack(out)


def by_hand(charged: Callable[[Any, Tensor, Tensor, Tensor, int], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    def forward(s: Any, x: Tensor) -> Tensor:
        m = z = torch.zeros(x.shape[1], CHANNELS, 8, 8)
        out = []
        for t in range(T):
            m = charged(s, x, m, z, t)
            z = (m > 0.1).float()
            m = m * (1 - z)
            out.append(z)
        return torch.stack(out)

    return forward


def membrane_of(step: int) -> Callable[[Any, Tensor], Tensor]:
    def forward(s: Any, x: Tensor) -> Tensor:
        m = kept = torch.zeros(x.shape[1], CHANNELS, 8, 8)
        for t in range(T):
            m = 0.5 * m + s.conv(x[t])
            kept = m if t == step else kept
        return kept

    return forward


def pooled_until(end: int) -> Callable[[Any, Tensor], Tensor]:
    def forward(s: Any, x: Tensor) -> Tensor:
        m, out = torch.zeros(x.shape[1], CHANNELS, 8, 8), []
        for t in range(T):
            m = 0.5 * m + s.conv(x[t])
            out += [F.avg_pool2d((m > 0.1).float(), 2)] if t < end else []
        return sum(out)  # type: ignore[return-value]

    return forward


def surrogate_net(spiking: bool) -> nn.Module:
    net = body(lambda s, x: s.spikes(x))
    net.lif.surrogate_function.spiking = spiking  # type: ignore[union-attr]
    return net


def written(s: Any, x: Tensor) -> Tensor:
    out = torch.zeros(T, x.shape[1], CHANNELS, 8, 8)
    for t in range(T):
        out[t, :, 1:] = s.lif(s.conv(x[t]))[:, 1:]
    return out


def aliased(s: Any, x: Tensor, in_place: bool) -> Tensor:
    y = s.conv(x)
    view = y.flatten(3)
    if in_place:
        y += 1
    else:
        y = y + 1
    return s.lif(y).flatten(3) + view  # type: ignore[no-any-return]


HINTS: dict[str, tuple[str, Build, Build]] = {
    "a plain layer on a window": (
        "fold time into the batch before it: x.flatten(0, 1)",
        forward(lambda s, x: s.lif(F.conv2d(x, s.conv.weight, padding=1))),
        forward(
            lambda s, x: s.lif(F.conv2d(x.flatten(0, 1), s.conv.weight, padding=1).unflatten(0, (T, -1)))
        ),
    ),
    "a plain normalisation on a window": (
        "or SpikingJelly's layer in step mode 'm'",
        chain(nn.BatchNorm2d(2), lif()),
        chain(layer.BatchNorm2d(2, step_mode="m"), lif()),
    ),
    "step mode 'm' on frames": (
        "call functional.set_step_mode(net, 's')",
        forward(lambda s, x: torch.stack([s.lif(s.conv(f)) for f in x])),
        single_step(lambda s, x: torch.stack([s.lif(s.conv(f)) for f in x])),
    ),
    "step mode 's' on a window": (
        "call functional.set_step_mode(net, 'm')",
        chain(layer.Conv2d(2, 3, 3, step_mode="m"), lif("s"), lif("m")),
        chain(layer.Conv2d(2, 3, 3, step_mode="m"), lif("m"), lif("m")),
    ),
    "a neuron in a container for layers": (
        "put it outside the container",
        chain(layer.SeqToANNContainer(nn.Conv2d(2, 3, 3), lif("s"))),
        chain(layer.SeqToANNContainer(nn.Conv2d(2, 3, 3)), lif("m")),
    ),
    "a container in a container": (
        "put it outside the other container",
        chain(
            layer.SeqToANNContainer(nn.Conv2d(2, 3, 3), layer.SeqToANNContainer(nn.Conv2d(3, 3, 3))), lif()
        ),
        chain(
            layer.SeqToANNContainer(nn.Conv2d(2, 3, 3)), layer.SeqToANNContainer(nn.Conv2d(3, 3, 3)), lif()
        ),
    ),
    "a neuron used twice": (
        "give each place its own neuron",
        forward(lambda s, x: s.lif(s.spikes(x))),
        forward(lambda s, x: s.other(s.spikes(x)), other=lif()),
    ),
    "a loop that remembers": (
        "make every step do the same with its frame",
        single_step(lambda s, x: torch.stack([s.lif(s.conv(x[t])) for t in reversed(range(T))]).sum(0)),
        single_step(lambda s, x: sum(s.lif(s.conv(x[t])) for t in range(T))),
    ),
    "writes into part of a tensor": (
        "collect the steps in a list and stack them",
        single_step(written),
        single_step(lambda s, x: torch.stack([s.lif(s.conv(f)) for f in x])),
    ),
    "an image that is not repeated": (
        "repeat the image over time before it",
        forward(lambda s, x: s.lif(s.bn(s.conv(x.unsqueeze(0))))),
        forward(lambda s, x: s.lif(s.bn(s.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1))))),
    ),
    "an image repeated for another T": (
        f"repeat the image over the {T} time steps",
        forward(lambda s, x: s.spikes(x.unsqueeze(0).repeat(3, 1, 1, 1, 1))),
        forward(lambda s, x: s.spikes(x.unsqueeze(0).repeat(T, 1, 1, 1, 1))),
    ),
    "a surrogate instead of spikes": (
        "set it to True",
        lambda: surrogate_net(False),
        lambda: surrogate_net(True),
    ),
    "another padding": (
        "use padding_mode='zeros'",
        chain(layer.Conv2d(2, 3, 3, padding=1, padding_mode="reflect", step_mode="m"), lif()),
        chain(layer.Conv2d(2, 3, 3, padding=1, padding_mode="zeros", step_mode="m"), lif()),
    ),
    "another normalisation": (
        "train with BatchNorm instead",
        chain(layer.SeqToANNContainer(nn.GroupNorm(1, 2)), lif()),
        chain(layer.SeqToANNContainer(nn.BatchNorm2d(2)), lif()),
    ),
    "softmax at the end": (
        "leave it out where it is the last layer",
        forward(lambda s, x: s.head(s.spikes(x)).mean(0).softmax(-1)),
        forward(lambda s, x: s.head(s.spikes(x)).mean(0)),
    ),
    "a smooth activation": (
        "spiking networks use neurons or ReLU",
        chain(nn.GELU(), lif()),
        chain(nn.ReLU(), lif()),
    ),
    "a convolution over three axes": (
        "only kernels of 1 x 1 x 1 are supported",
        forward(lambda s, x: s.mix(s.conv(x)), mix=nn.Conv3d(T, T, 3, padding=1)),
        forward(lambda s, x: s.mix(s.conv(x)), mix=nn.Conv3d(T, T, 1)),
    ),
    "pooling with dilation": (
        "use plain max pooling",
        forward(lambda s, x: F.max_pool2d(s.spikes(x).flatten(0, 1), 2, dilation=2)),
        forward(lambda s, x: F.max_pool2d(s.spikes(x).flatten(0, 1), 2)),
    ),
    "pooling with incomplete windows": (
        "use plain average pooling",
        forward(lambda s, x: F.avg_pool2d(s.spikes(x).flatten(0, 1), 3, ceil_mode=True)),
        forward(lambda s, x: F.avg_pool2d(s.spikes(x).flatten(0, 1), 3)),
    ),
    "a vote over an incomplete window": (
        "use ceil_mode=False",
        forward(lambda s, x: F.avg_pool1d(s.head(s.spikes(x)), 3, ceil_mode=True)),
        forward(lambda s, x: F.avg_pool1d(s.head(s.spikes(x)), 3)),
    ),
    "adaptive pooling to other sizes": (
        "adaptive pooling to 1 is supported, or AdaptiveAvgPool2d",
        forward(lambda s, x: F.adaptive_max_pool2d(convolved(s, x.flatten(0, 1)), 2)),
        forward(lambda s, x: F.adaptive_avg_pool2d(convolved(s, x.flatten(0, 1)), 2)),
    ),
    "interpolation": (
        "use mode='nearest' and whole factors",
        forward(lambda s, x: F.interpolate(convolved(s, x.flatten(0, 1)), scale_factor=2, mode="bilinear")),
        forward(lambda s, x: F.interpolate(convolved(s, x.flatten(0, 1)), scale_factor=2, mode="nearest")),
    ),
    "a reduction over everything": (
        "name the axes",
        forward(lambda s, x: s.spikes(x).mean()),
        forward(lambda s, x: s.spikes(x).mean((0, 2, 3, 4))),
    ),
    "positions of the largest values": (
        "use the values alone",
        forward(lambda s, x: s.conv(x).max(2)[1]),
        forward(lambda s, x: s.conv(x).max(2)[0]),
    ),
    "another number type": (
        "deployed networks compute in float32",
        forward(lambda s, x: s.spikes(x).to(torch.float16)),
        forward(lambda s, x: s.spikes(x).to(torch.float32)),
    ),
    "dropout at inference": (
        "pass training=self.training",
        forward(lambda s, x: F.dropout(s.spikes(x), 0.5)),
        forward(lambda s, x: F.dropout(s.spikes(x), 0.5, training=s.training)),
    ),
    "several results": (
        "return one tensor",
        forward(lambda s, x: (s.spikes(x), s.conv(x))),
        forward(lambda s, x: s.spikes(x)),
    ),
    "another power": (
        "only squares are supported",
        forward(lambda s, x: s.conv(x) ** 3),
        forward(lambda s, x: s.conv(x) ** 2),
    ),
    "a constant per step and a column": (
        "use one factor or offset per step, and one per feature",
        forward(lambda s, x: s.conv(x) * torch.linspace(0.5, 1, 8 * T).view(T, 1, 1, 1, 8)),
        forward(
            lambda s, x: s.conv(x) * torch.linspace(0.5, 1, T).view(T, 1, 1, 1, 1) * torch.linspace(1, 2, 8)
        ),
    ),
    "elements by a list": (
        "take slices, and put them together with cat",
        forward(lambda s, x: s.spikes(x)[:, :, [0, 2]]),
        forward(lambda s, x: torch.cat([s.spikes(x)[:, :, :1], s.conv(x)[:, :, 2:3]], 2)),
    ),
    "einsum": (
        "write it as transpose and matmul",
        forward(lambda s, x: torch.einsum("tnchw,tncvw->tnchv", s.conv(x), s.conv(x))),
        forward(lambda s, x: s.conv(x) @ s.conv(x).transpose(-1, -2)),
    ),
    "a function in place of a neuron": (
        "put the neuron into a separate module: it is then identified by running it",
        forward(lambda s, x: (s.conv(x) > 1).float()),
        forward(lambda s, x: s.own(s.conv(x)), own=Above(1)),
    ),
    "spikes that go back through weights": (
        "leave the recurrent connection out",
        single_step(
            by_hand(lambda s, x, m, z, t: 0.5 * m + s.conv(x[t]) + s.own(z)),
            own=nn.Conv2d(CHANNELS, CHANNELS, 1),
        ),
        single_step(by_hand(lambda s, x, m, z, t: 0.5 * m + s.conv(x[t]))),
    ),
    "two signals that go into a membrane": (
        "add up what goes into the membrane first",
        single_step(by_hand(lambda s, x, m, z, t: 0.5 * m + s.conv(x[t]) - F.relu(s.conv(x[t])))),
        single_step(by_hand(lambda s, x, m, z, t: 0.5 * m + (s.conv(x[t]) - F.relu(s.conv(x[t]))))),
    ),
    "a membrane of the middle": (
        "let every step do the same",
        single_step(membrane_of(T - 2)),
        single_step(membrane_of(T - 1)),
    ),
    "layers in some steps": (
        "let every step do the same",
        single_step(pooled_until(2)),
        single_step(pooled_until(T)),
    ),
    "membranes by hand": (
        "put the neuron into a separate module: it is then identified by running it",
        single_step(membranes),
        single_step(lambda s, x: torch.stack([s.own(s.conv(f)) for f in x]), own=Charged(1)),
    ),
    "padding": (
        "use the padding of the convolution or pooling after it",
        forward(lambda s, x: s.lif(convolved(s, F.pad(x.flatten(0, 1), (1, 1, 1, 1))).unflatten(0, (T, -1)))),
        forward(lambda s, x: s.lif(convolved(s, x.flatten(0, 1)).unflatten(0, (T, -1)))),
    ),
    "random numbers": (
        "feed encoded frames instead",
        forward(lambda s, x: s.spikes((torch.rand_like(x) < x).float())),
        forward(lambda s, x: s.spikes(x)),
    ),
    "memory changed through another tensor": (
        "write 'x = x + y' instead of 'x += y'",
        forward(lambda s, x: aliased(s, x, True)),
        forward(lambda s, x: aliased(s, x, False)),
    ),
    "more than frames": (
        "wrap the module in one that takes frames alone",
        lambda: body(lambda s, x, mask: s.spikes(x) * mask),  # type: ignore[arg-type, misc]
        lambda: nn.Sequential(body(lambda s, x: s.spikes(x))),
    ),
    "a branch on values": (
        "take the branch out of forward",
        forward(lambda s, x: s.spikes(x) if s.conv(x) > 0 else x),
        forward(lambda s, x: s.spikes(x)),
    ),
}


@pytest.mark.parametrize("name", HINTS)
def test_following_the_hint_loads(name: str) -> None:
    hint, refused, followed = HINTS[name]
    with pytest.raises(TraceError) as caught:
        td.load(refused(), timesteps=T, input_shape=SHAPE)
    assert hint in str(caught.value)
    assert "7919" not in str(caught.value)
    td.load(followed(), timesteps=T, input_shape=SHAPE)
