"""Small networks of the families, for frames of two channels and 17 x 17 pixels: what quantisation is tried on.

Frames of 34 x 34 are averaged before every network, which Lava's host does exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet
from torch import Tensor, nn

from examples.attention_blocks import CrossConvolution
from tcja_deploy.zoo.resnet import ms_resnet18_tcja

__all__ = ["CLASSES", "TIMESTEPS", "WITNESSES", "Witness"]

TIMESTEPS = 4
CLASSES = 10


def _lif(threshold: float = 1.0) -> nn.Module:
    lif: nn.Module = neuron.LIFNode(
        tau=2.0, v_threshold=threshold, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m"
    )
    return lif


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = layer.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, step_mode="m")
    return nn.Sequential(conv, layer.BatchNorm2d(outputs, step_mode="m"))


def _halved() -> nn.Module:
    pool: nn.Module = layer.AvgPool2d(2, step_mode="m")
    return pool


class Rates(nn.Module):
    """Mean over time of a network's scores of each frame."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """Scores `[N, classes]` of frames `[T, N, 2, 34, 34]`."""
        scores: Tensor = self.parts(x).mean(0)
        return scores


def _head(channels: int) -> list[nn.Module]:
    """A readout of every place of the last maps, 5 x 5: their mean alone would lose where on the digit a stroke is."""
    return [nn.Flatten(2), layer.Linear(channels * 5 * 5, CLASSES, step_mode="m")]


def _ms_resnet(place: str) -> nn.Module:
    net = ms_resnet18_tcja(
        T=TIMESTEPS, classes=CLASSES, in_channels=2, width=16, depths=(1, 1, 1), place=place  # type: ignore[arg-type]
    )  # fmt: skip
    return nn.Sequential(_halved(), net)


def _sew(connect: str) -> nn.Module:
    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        shortcut = None if stride == 1 else nn.Sequential(*_conv(inputs, outputs, 1, stride))
        made: nn.Module = sew_resnet.BasicBlock(
            inputs, outputs, stride, shortcut, cnf=connect, spiking_neuron=neuron.LIFNode,
            tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True,
        )  # fmt: skip
        functional.set_step_mode(made, "m")
        return made

    return Rates(
        _halved(), _conv(2, 16), _lif(), block(16, 16, 1), block(16, 32, 2), block(32, 64, 2), *_head(64)
    )


def _cross_convolution() -> nn.Module:
    """Three convolutions, the attention after the neurons of the last two, and a readout."""
    return Rates(
        _halved(), _conv(2, 16), _lif(),
        _conv(16, 32, stride=2), _lif(), CrossConvolution(),
        _conv(32, 64, stride=2), _lif(), CrossConvolution(), *_head(64),
    )  # fmt: skip


def _ma_snn(which: str) -> nn.Module:
    """Three convolutions, the attention before the neurons of the last two, as its authors place it, and a readout."""

    def attention(channels: int) -> nn.Module:
        used = {"use_temporal": "t" in which, "use_channel": "c" in which, "use_spatial": "s" in which}
        made: nn.Module = layer.MultiDimensionalAttention(
            TIMESTEPS, channels, reduction_t=2, reduction_c=8, **used
        )
        return made

    threshold = 1.0 if len(which) == 1 else 0.25  # three gates of a half each leave an eighth
    return Rates(
        _halved(), _conv(2, 16), _lif(),
        _conv(16, 32, stride=2), attention(32), _lif(threshold),
        _conv(32, 64, stride=2), attention(64), _lif(threshold), *_head(64),
    )  # fmt: skip


@dataclass(frozen=True)
class Witness:
    """A network to train.

    Attributes:
        title: What pages call it.
        make: Makes the untrained network; torch's seed decides the weights.
        loss: `classes` for cross entropy of the scores, `rates` for their squared error.
    """

    title: str
    make: Callable[[], nn.Module]
    loss: Literal["classes", "rates"] = "classes"


WITNESSES = {
    "ms-resnet-tcja-output": Witness("MS-ResNet, TCJA after the sum", lambda: _ms_resnet("output"), "rates"),
    "ms-resnet-tcja-branch": Witness("MS-ResNet, TCJA on the branch", lambda: _ms_resnet("branch"), "rates"),
    "sew-add": Witness("SEW-ResNet, ADD", lambda: _sew("ADD")),
    "sew-iand": Witness("SEW-ResNet, IAND", lambda: _sew("IAND")),
    "ma-snn": Witness("MA-SNN, all three", lambda: _ma_snn("tcs")),
    "ma-snn-c": Witness("MA-SNN, channels", lambda: _ma_snn("c")),
    "ma-snn-t": Witness("MA-SNN, temporal", lambda: _ma_snn("t")),
    "ma-snn-s": Witness("MA-SNN, space", lambda: _ma_snn("s")),
    "cross-convolution": Witness("cross-convolution attention", _cross_convolution),
}
"""By name, in the order of the tables in docs/lava.md."""
