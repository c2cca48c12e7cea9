"""Small networks as strangers write them.

Each is written the way public code is: loops, own neurons, wrappers, odd ways to move axes and to scale inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import einops
import torch
import torch.nn.functional as F
from einops.layers.torch import Rearrange, Reduce
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

T, N, SHAPE, CHANNELS = 4, 3, (2, 8, 8), 4
Forward = Callable[[Any, Tensor], Any]


def lif(mode: str = "s", **options: Any) -> neuron.LIFNode:
    return neuron.LIFNode(surrogate_function=surrogate.ATan(), v_threshold=0.4, step_mode=mode, **options)


class Spike(torch.autograd.Function):
    """A surrogate gradient of the user's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.ge(0).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class OwnCell(nn.Module):
    """A neuron in plain PyTorch, its membrane in an attribute."""

    def __init__(self, decay: float, soft: bool) -> None:
        super().__init__()
        self.decay, self.soft, self.mem = decay, soft, None

    def reset(self) -> None:
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        mem = x if self.mem is None else self.mem * self.decay + x
        spike: Tensor = Spike.apply(mem - 0.5)
        self.mem = mem - spike * 0.5 if self.soft else mem * (1 - spike)
        return spike


class OwnWindow(nn.Module):
    """A neuron that loops over a window, membranes in a local variable."""

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for t in range(x.shape[0]):
            v = v * 0.25 + x[t]
            spike = (v > 0.5).float()
            v = v * (1 - spike)
            out.append(spike)
        return torch.stack(out)


class Net(nn.Module):
    """A convolution, a neuron and a dense readout, of one step; `forward` is the user's."""

    mode = "s"

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.code = forward
        self.conv = layer.Conv2d(2, CHANNELS, 3, padding=1, step_mode=self.mode)
        self.lif = lif(self.mode)
        self.fc = layer.Linear(CHANNELS * 64, 5, step_mode=self.mode)

    def step(self, frame: Tensor) -> Tensor:
        result: Tensor = self.fc(self.lif(self.conv(frame)).flatten(1))
        return result

    def window(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc(self.lif(self.conv(x)).flatten(2))
        return result

    def forward(self, x: Tensor) -> Any:
        return self.code(self, x)


class Whole(Net):
    """The same, multi-step."""

    mode = "m"


def before(change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A multi-step network that does something to its frames first."""
    return Whole(lambda s, x: s.window(change(x)).mean(0))


def single(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, CHANNELS, 3, padding=1), *modules)


def head() -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(CHANNELS * 64, 5)]


def pruned() -> nn.Module:
    net = single(lif(), *head())
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


def parametrised() -> nn.Module:
    net = single(lif(), *head())
    parametrizations.weight_norm(net[0])
    parametrizations.spectral_norm(net[3])
    return net


def through_functional(s: Any, x: Tensor) -> Tensor:
    y = functional.seq_to_ann_forward(x, [s.conv])
    return functional.seq_to_ann_forward(functional.multi_step_forward(y, s.lif).flatten(2), s.fc)  # type: ignore[no-any-return]


def reset_inside(s: Any, x: Tensor) -> Any:
    functional.reset_net(s)
    return sum(s.step(x[:, t]) for t in range(x.size(1))) / x.size(1)


def written_batch_first(s: Any, x: Tensor) -> Tensor:
    out = torch.empty(x.shape[0], x.shape[1], 5)
    for t in range(x.shape[1]):
        out[:, t] = s.step(x[:, t])
    return out.mean(1)


def last_step(s: Any, x: Tensor) -> Any:
    for t in range(x.shape[1]):
        out = s.step(x[:, t])
    return out


def without_the_first(s: Any, x: Tensor) -> Any:
    total: Any = 0
    for t in range(x.shape[0]):
        y = s.step(x[t])
        if t:
            total = total + y
    return total / (x.shape[0] - 1)


def einops_functions(s: Any, x: Tensor) -> Tensor:
    y = F.conv2d(einops.rearrange(x, "b t c h w -> (t b) c h w"), s.conv.weight, s.conv.bias, padding=1)
    y = s.lif(einops.rearrange(y, "(t b) c h w -> t b c h w", b=x.shape[0]))
    return s.fc(einops.rearrange(y, "t b c h w -> b t (c h w)")).mean(1)  # type: ignore[no-any-return]


class EinopsLayers(nn.Sequential):
    """Time folded and unfolded by layers of einops."""

    def __init__(self) -> None:
        super().__init__(
            Rearrange("t b c h w -> (t b) c h w"), nn.Conv2d(2, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS),
            Rearrange("(t b) c h w -> t b c h w", t=T), lif("m"), Reduce("t b c h w -> t b c", "mean"), nn.Linear(CHANNELS, 5),
        )  # fmt: skip


class Static(nn.Module):
    """Direct coding as on static images: the first convolution once, the rest in every step."""

    def __init__(self, steps: int = T) -> None:
        super().__init__()
        self.T = steps
        self.static = nn.Sequential(nn.Conv2d(2, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS))
        self.net = nn.Sequential(lif(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(CHANNELS * 16, 5), lif())

    def forward(self, x: Tensor) -> Tensor:
        x = self.static(x)
        out: Tensor = self.net(x)
        for _ in range(1, self.T):
            out += self.net(x)
        return out / self.T


class Squeeze(nn.Module):
    """Squeeze-and-excitation over a whole window."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif = layer.Conv2d(2, CHANNELS, 3, padding=1, step_mode="m"), lif("m")
        self.gate = nn.Sequential(nn.Linear(CHANNELS, 2), nn.ReLU(), nn.Linear(2, CHANNELS), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y = self.lif(self.conv(x))
        return (y * self.gate(y.mean((0, 3, 4)))[None, :, :, None, None]).flatten(2).mean(0)  # type: ignore[no-any-return]


class Standardised(nn.Conv2d):
    """Weight standardisation."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


def listed(s: Any, x: Tensor) -> Tensor:
    features = []
    for part in (s.conv, s.lif):
        x = part(x)
        features.append(x)
    return s.fc((features[1] + features[0].relu()).flatten(2)).mean(0)  # type: ignore[no-any-return]


def mixed(s: Any, x: Tensor) -> Tensor:
    a, b = torch.split(s.lif(s.conv(x)), 2, dim=2)
    return s.fc(torch.cat([a * b, 1 - b], 2).flatten(2))[T // 2 :].mean(0)  # type: ignore[no-any-return]


def difference(x: Tensor) -> Tensor:
    return torch.cat([x[:1], x[1:] - x[:-1]], 0)


STRANGERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    # loops over time
    "reset inside forward": (lambda: Net(reset_inside), "batch first"),
    "writes into an empty tensor": (lambda: Net(written_batch_first), "batch first"),
    "the last step": (lambda: Net(last_step), "batch first"),
    "not the first step": (lambda: Net(without_the_first), "window"),
    "enumerate(x.transpose(0, 1))": (
        lambda: Net(lambda s, x: sum([s.step(f) for _, f in enumerate(x.transpose(0, 1))])),
        "batch first",
    ),
    "largest of all steps": (
        lambda: Net(lambda s, x: torch.stack([s.step(f) for f in x]).max(0).values),
        "window",
    ),
    "an image in every step": (Static, "image"),
    # neurons of the user's own, none of SpikingJelly's beside them
    "own cells": (lambda: single(OwnCell(0.5, True), *head(), OwnCell(0.9, False)), "frame"),
    "own loop over a window": (
        lambda: nn.Sequential(
            layer.Conv2d(2, CHANNELS, 3, padding=1, step_mode="m"), OwnWindow(), nn.Flatten(2), nn.Linear(CHANNELS * 64, 5)
        ),
        "window",
    ),
    "own cells in a loop": (
        lambda: Net(lambda s, x: sum(s.fc(s.cell(s.conv(f)).flatten(1)) for f in x)),
        "window",
    ),
    # what frames go through first
    "clamp": (lambda: before(lambda x: x.clone().clamp_(max=1)), "window"),
    "a division by three": (lambda: before(lambda x: x / 3), "window"),
    "mean and deviation": (
        lambda: before(lambda x: (x - torch.tensor([0.1, 0.2]).view(2, 1, 1)) / torch.tensor([0.3, 0.7]).view(2, 1, 1)),
        "window",
    ),
    "nearest interpolation": (
        lambda: before(lambda x: F.interpolate(x[..., ::2, ::2].flatten(0, 1), scale_factor=2).unflatten(0, x.shape[:2])),
        "window",
    ),
    "polarities added and expanded": (
        lambda: before(lambda x: x.sum(2, keepdim=True).expand(-1, -1, 2, -1, -1) * 1.0),
        "window",
    ),
    "expanded and summed": (
        lambda: before(lambda x: x + (x.mean(2, keepdim=True).expand(-1, -1, 6, -1, -1) * 2.0).sum(2, keepdim=True)),
        "window",
    ),
    "polarities exchanged": (lambda: before(lambda x: torch.cat(x.chunk(2, 2)[::-1], 2)), "window"),
    "difference to the frame before": (lambda: before(difference), "window"),
    "on the device of the weights": (
        lambda: Whole(lambda s, x: s.window(x.to(next(s.parameters()).device).float()).mean(0)),
        "window",
    ),
    # axes and parts
    "einops functions": (lambda: Whole(einops_functions), "batch first"),
    "einops layers": (EinopsLayers, "window"),
    "for layer in layers": (lambda: Whole(listed), "window"),
    "split, product, second half": (lambda: Whole(mixed), "window"),
    "permuted back and forth": (
        lambda: Whole(lambda s, x: s.window(x.permute(1, 0, 2, 3, 4).contiguous()).permute(1, 2, 0).mean(-1)),
        "batch first",
    ),
    "squeeze and excitation": (Squeeze, "window"),
    "optional repeat": (
        lambda: Whole(lambda s, x: s.window(x.unsqueeze(0).repeat(T, 1, 1, 1, 1) if x.ndim == 4 else x).mean(0)),
        "window",
    ),
    # wrappers, weights
    "functions of SpikingJelly": (lambda: Net(through_functional), "window"),
    "DataParallel around torch.compile": (
        lambda: nn.DataParallel(torch.compile(Whole(lambda s, x: s.window(x)))),  # type: ignore[arg-type]
        "window",
    ),
    "SyncBatchNorm": (lambda: single(nn.SyncBatchNorm(CHANNELS), lif(), *head()), "frame"),
    "pruned weights": (pruned, "frame"),
    "parametrised weights": (parametrised, "frame"),
    "standardised weights": (
        lambda: nn.Sequential(Standardised(2, CHANNELS, 3, padding=1), lif(), *head()),
        "frame",
    ),
}  # fmt: skip


def of(build: Callable[[], nn.Module]) -> nn.Module:
    """The network, with weights that let every layer spike."""
    torch.manual_seed(1)
    net = build().eval()
    if isinstance(net, Net):
        net.cell = OwnCell(0.5, False)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1:
                p.abs_()
    return net


def forgotten(net: nn.Module) -> nn.Module:
    """The network inside wrappers, reset."""
    net = getattr(net, "module", net)
    net = getattr(net, "_orig_mod", net)
    for part in net.modules():
        reset = getattr(part, "reset", None)
        if callable(reset):
            reset()
    return net
