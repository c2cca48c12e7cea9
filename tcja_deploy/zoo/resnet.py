"""MS-ResNet with a TCJA block under each residual block, as a SpikingJelly module: the paper's network for CIFAR10/100.

Residual blocks with membrane shortcuts (Hu et al., "Advancing Spiking Neural Networks Toward Deep Residual Learning", TNNLS
2024, arXiv 2112.08954): spike, convolve, normalise, twice, and add real values, so that spikes alone meet the 3 x 3 weights.
Neurons are those of the TCJA paper (LIF, tau = 2, threshold 1, hard reset).

Our sources tell neither where in the block the attention is nor T: both are arguments. `tcja_deploy.load` traces the net.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from tcja_deploy.errors import UsageError
from tcja_deploy.zoo.modules import TCJABlock

__all__ = ["GatePlace", "MSResNetTCJA", "ResidualBlock", "ms_resnet18_tcja"]

GatePlace = Literal["output", "branch"]
"""Where the attention of a block is: after the sum with the shortcut, or on the convolution branch before it."""


def _lif() -> nn.Module:
    lif: nn.Module = neuron.LIFNode(
        tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m"
    )
    return lif


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = layer.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False, step_mode="m"
    )
    return nn.Sequential(conv, layer.BatchNorm2d(outputs, step_mode="m"))


class ResidualBlock(nn.Module):
    """Two convolutions on spikes, a membrane shortcut, and TCJA.

    Args:
        inputs: Input channels.
        outputs: Output channels; with another number or a stride the shortcut is a strided 1 x 1 convolution with BN.
        stride: Of the first convolution.
        attention: The TCJA block.
        place: Where the block is.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, attention: TCJABlock, place: GatePlace
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(_lif(), _conv_bn(inputs, outputs, 3, stride))
        self.second = nn.Sequential(_lif(), _conv_bn(outputs, outputs, 3))
        straight = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if straight else _conv_bn(inputs, outputs, 1, stride)
        self.attention = attention
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        """`[T, N, C, H, W]` to `[T, N, C', H', W']`, real values."""
        branch: Tensor = self.second(self.first(x))
        if self.place == "branch":
            branch = self.attention(branch)
        y: Tensor = branch + self.shortcut(x)
        return self.attention(y) if self.place == "output" else y


class MSResNetTCJA(nn.Module):
    """The network, multi-step: frames `[T, N, C, H, W]` in, class scores `[N, classes]` (time mean) out.

    A static image is repeated T times by whoever feeds it. See `ms_resnet18_tcja` for the arguments.
    """

    def __init__(
        self, T: int, in_channels: int, classes: int, width: int, depths: Sequence[int], k_t: int, k_c: int, place: GatePlace
    ) -> None:  # fmt: skip
        super().__init__()
        if place not in ("output", "branch"):
            raise UsageError(f"there is no place {place!r}", hint="choose 'output' or 'branch'")
        if not k_t and not k_c:
            raise UsageError(
                "k_t and k_c are both 0: nothing is left of the attention", hint="give at least one of them"
            )
        self.T = T
        self.stem = _conv_bn(in_channels, width, 3)
        blocks: list[nn.Module] = []
        channels = width
        for stage, depth in enumerate(depths):
            outputs = width * 2**stage
            for i in range(depth):
                stride = 2 if stage and i == 0 else 1
                attention = TCJABlock(k_t, k_c, T, outputs)
                blocks.append(ResidualBlock(channels, outputs, stride, attention, place))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            _lif(),
            layer.AdaptiveAvgPool2d((1, 1), step_mode="m"),
            nn.Flatten(2),
            layer.Linear(channels, classes, step_mode="m"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run a window. Reset the state with `functional.reset_net` before the next one."""
        scores: Tensor = self.head(self.blocks(self.stem(x)))
        return scores.mean(0)


def ms_resnet18_tcja(
    *,
    T: int = 4,
    classes: int = 10,
    in_channels: int = 3,
    width: int = 64,
    depths: Sequence[int] = (2, 2, 2, 2),
    k_t: int = 2,
    k_c: int = 2,
    place: GatePlace = "output",
) -> MSResNetTCJA:
    """MS-ResNet-18 for 32 x 32 images: 3 x 3 stem without stride, four stages that double the channels, TCJA in every block.

    Args:
        T: Time steps; not published, 4 to 6 is usual.
        classes: 10 or 100.
        in_channels: Channels of an image.
        width: Channels of the first stage.
        depths: Residual blocks of each stage.
        k_t: Kernel of TLA, along time; 0 leaves it out.
        k_c: Kernel of CLA, along channels; 0 leaves it out.
        place: Where the attention is in its block; not published.

    Raises:
        UsageError: If both kernels are 0 or there is no such place.
    """
    return MSResNetTCJA(T, in_channels, classes, width, tuple(depths), k_t, k_c, place)
