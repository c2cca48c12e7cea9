"""Small networks of every family, with batch statistics that let spikes through, and made-up frames for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import norse.torch as norse
import numpy as np
import torch
from attention_blocks import CrossConvolution, HeadedAttention, JointAttention, StepwiseAttention
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import masnn, ms_resnet, sew_resnet, spiking_resnet, spiking_vgg
from torch import Tensor, nn
from untrained import settle

from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.zoo.fsvae import Decoder, Encoder, Sizes
from tcja_deploy.zoo.modules import TCJABlock
from tcja_deploy.zoo.resnet import ms_resnet18_tcja

__all__ = ["FAMILIES", "Family", "Net", "net"]


@dataclass(frozen=True)
class Family:
    """One row of the support matrix.

    Attributes:
        title: What it is.
        make: A network, untrained.
        shape: One frame.
        T: Time steps.
        kind: What the frames hold.
        by_steps: Whether the module takes one frame and its state, as Norse's cells do, instead of a window.
    """

    title: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (2, 12, 12)
    T: int = 5
    kind: Kind = Kind.COUNT
    by_steps: bool = False

    def frames(self, samples: int = 2, seed: int = 0) -> Tensor:
        """Made-up frames `[T, N, ...]`: clustered events, spikes, or pictures repeated over time."""
        rng = np.random.default_rng(seed)
        if self.kind is Kind.REAL:
            picture = rng.random((1, samples, *self.shape), np.float32)
            return torch.from_numpy(picture).repeat(self.T, *(1,) * (1 + len(self.shape)))
        rate = rng.gamma(0.3, 1.5, (1, samples, *self.shape))
        events = rng.poisson(rate, (self.T, samples, *self.shape)).astype(np.float32)
        return torch.from_numpy(events if self.kind is Kind.COUNT else np.minimum(events, 1))


@dataclass(frozen=True)
class Net:
    """A network and its graph."""

    family: Family
    module: nn.Module
    graph: Graph

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The module's own output, and its spikes by the name of the neuron."""
        seen: dict[str, list[Tensor]] = {n.name: [] for n in self.graph.neurons}
        inside = dict(self.module.named_modules())
        hooks = [
            inside[name].register_forward_hook(
                lambda m, x, y, mine=mine: mine.append(y[0] if isinstance(y, tuple) else y)
            )
            for name, mine in seen.items()
        ]
        with torch.no_grad():
            output = _by_steps(self.module, frames) if self.family.by_steps else self.module(frames)
        functional.reset_net(self.module)
        for hook in hooks:
            hook.remove()
        return output, {n: torch.stack(v) if self.family.by_steps else v[0] for n, v in seen.items()}


def _by_steps(module: nn.Module, frames: Tensor) -> Tensor:
    """Frame after frame, with the state that the module hands back."""
    state, outputs = None, []
    for frame in frames:
        y, state = module(frame, state)
        outputs.append(y)
    return torch.stack(outputs)


def _lif() -> nn.Module:
    return neuron.LIFNode(tau=2.0, step_mode="m")


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    conv = layer.Conv2d(inputs, outputs, 3, padding=1, bias=False, step_mode="m")
    return [conv, layer.BatchNorm2d(outputs, step_mode="m")]


def _events(attention: Callable[[int, int], nn.Module], T: int = 5, channels: int = 8) -> nn.Module:
    """Two convolutions, the attention behind each neuron, and a readout."""
    return nn.Sequential(
        *_conv(2, channels), _lif(), attention(T, channels), layer.MaxPool2d(2, 2, step_mode="m"),
        *_conv(channels, channels), _lif(), attention(T, channels), layer.AvgPool2d(2, 2, step_mode="m"),
        nn.Flatten(2), layer.SeqToANNContainer(nn.Linear(channels * 9, 10, bias=False), nn.BatchNorm1d(10)), _lif(),
    )  # fmt: skip


def _masnn(**used: bool) -> Callable[[], nn.Module]:
    def attention(T: int, channels: int) -> nn.Module:
        return layer.MultiDimensionalAttention(T, channels, reduction_t=2, reduction_c=4, **used)

    none = {"use_temporal": False, "use_channel": False, "use_spatial": False}
    used = {**none, **used}
    return lambda: _events(attention)


def _multi_step(net: nn.Module) -> nn.Module:
    functional.set_step_mode(net, "m")
    return net


def _vgg() -> nn.Module:
    """The zoo's class with few channels; its classifier of 120 million weights, never in memory, in small."""
    with torch.device("meta"):
        net = spiking_vgg.SpikingVGG([8, "M", 16, 16, "M"], batch_norm=True, spiking_neuron=neuron.LIFNode)
    net.features.to_empty(device="cpu")
    for module in net.features:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    net.avgpool = layer.AdaptiveAvgPool2d((2, 2))
    net.classifier = nn.Sequential(
        layer.Linear(64, 32), layer.BatchNorm1d(32), neuron.LIFNode(), layer.Dropout(), layer.Linear(32, 10)
    )
    return _multi_step(net)


def _sew(connect: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        net = sew_resnet.SEWResNet(
            sew_resnet.BasicBlock, [1, 1, 1, 1], num_classes=10, cnf=connect, spiking_neuron=neuron.LIFNode
        )
        return _multi_step(net)

    return make


def _spiking_resnet() -> nn.Module:
    net = spiking_resnet.SpikingResNet(
        spiking_resnet.BasicBlock, [1, 1, 1, 1], num_classes=10, spiking_neuron=neuron.LIFNode
    )
    return _multi_step(net)


def _norse(cells: Callable[[int], nn.Module], readout: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Cells in a `SequentialState`, with weights that let spikes through: there is no normalisation in between."""

    def make() -> nn.Module:
        net = norse.SequentialState(
            nn.Conv2d(2, 8, 3, padding=1), cells(0), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), cells(1), nn.Flatten(),
            nn.Linear(8 * 16, 10), readout(),
        )  # fmt: skip
        with torch.no_grad():
            for weights in (net[0], net[3], net[6]):
                weights.weight.mul_(6.0)
        return net.eval()

    return make


def _leaky_currents(layer_: int) -> nn.Module:
    mem, syn = torch.tensor(500.0), torch.tensor(250.0 + 250.0 * layer_)
    return norse.LIFCell(norse.LIFParameters(tau_syn_inv=syn, tau_mem_inv=mem), dt=1e-3)


def _leaky_box(layer_: int) -> nn.Module:
    if layer_:
        return norse.IAFCell()
    return norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0)), dt=1e-3)


_SMALL = {"num_classes": 10, "layers": (1, 1, 1), "base_channels": 8, "stem_kernel_size": 3, "stem_stride": 1}
_IMAGE = {"shape": (3, 16, 16), "T": 4, "kind": Kind.REAL}
_SIZES = Sizes(T=5)

FAMILIES: dict[str, Family] = {
    "tcja": Family("TCJA", lambda: _events(lambda T, c: TCJABlock(4, 4, T, c))),
    "tla": Family("TLA alone", lambda: _events(lambda T, c: TCJABlock(2, 0, T, c))),
    "cla": Family("CLA alone", lambda: _events(lambda T, c: TCJABlock(0, 3, T, c))),
    "tcja-added": Family("TCJA, maps added", lambda: _events(lambda T, c: JointAttention(T, c, add=True))),
    "tcja-heads": Family("TCJA, two heads", lambda: _events(HeadedAttention)),
    "cross": Family("cross-convolution attention", lambda: _events(lambda T, c: CrossConvolution())),
    "ma-t": Family("MA-SNN: temporal attention", _masnn(use_temporal=True)),
    "ma-c": Family("MA-SNN: channel attention", _masnn(use_channel=True)),
    "ma-s": Family("MA-SNN: spatial attention", _masnn(use_spatial=True)),
    "ma-tcs": Family(
        "MA-SNN network (all three, DVS128)",
        lambda: masnn.MASNN(
            T=5,
            input_size=(12, 12),
            channels=(8, 8),
            pools=(1, 2),
            fc_hidden=16,
            reduction_t=2,
            reduction_c=4,
        ),
    ),
    "ma-stepwise": Family(
        "channel and spatial attention of each step", lambda: _events(lambda T, c: StepwiseAttention(c))
    ),
    "att-ms-resnet": Family("Att-MS-ResNet", lambda: masnn.AttMSResNet(T=4, **_SMALL), **_IMAGE),
    "ms-resnet-tcja": Family(
        "MS-ResNet with TCJA", lambda: ms_resnet18_tcja(width=8, depths=(1, 1, 1)), **_IMAGE
    ),
    "ms-resnet": Family("MS-ResNet", lambda: ms_resnet.MSResNet(T=4, **_SMALL), **_IMAGE),
    "max-resnet": Family("Max-ResNet", lambda: ms_resnet.MaxResNet(T=4, **_SMALL), **_IMAGE),
    "sew-add": Family("SEW-ResNet, ADD", _sew("ADD"), (3, 16, 16), 4, Kind.REAL),
    "sew-and": Family("SEW-ResNet, AND", _sew("AND"), (3, 16, 16), 4, Kind.REAL),
    "sew-iand": Family("SEW-ResNet, IAND", _sew("IAND"), (3, 16, 16), 4, Kind.REAL),
    "spiking-resnet": Family("spiking ResNet", _spiking_resnet, (3, 16, 16), 4, Kind.REAL),
    "spiking-vgg": Family("spiking VGG", _vgg, **_IMAGE),
    "norse-lif": Family(
        "Norse: LIF cells, read out by LI", _norse(_leaky_currents, norse.LICell), by_steps=True
    ),
    "norse-box": Family("Norse: LIFBox and IAF cells", _norse(_leaky_box, norse.IAFCell), by_steps=True),
    "fsvae-encoder": Family(
        "spiking VAE: encoder", lambda: Encoder(_SIZES), _SIZES.image, _SIZES.T, Kind.REAL
    ),
    "fsvae-decoder": Family(
        "spiking VAE: decoder", lambda: Decoder(_SIZES), (_SIZES.latent,), _SIZES.T, Kind.BINARY
    ),
}
"""Every family by key, in the order of the support matrix."""


@cache
def net(key: str) -> Net:
    """The network of a family and its graph; the same for every caller."""
    family = FAMILIES[key]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = family.make()
        if not family.by_steps:
            settle(module, family.frames(8, seed=1))
    graph = trace(module, timesteps=family.T, input_shape=family.shape, input_kind=family.kind)
    return Net(family, module, graph)
