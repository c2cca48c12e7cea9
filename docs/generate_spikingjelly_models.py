"""Writes `spikingjelly-models.md`: every model of SpikingJelly's `activation_based.model`, loaded and run.

    python docs/generate_spikingjelly_models.py [NAME ...]

Each model gets random weights, statistics of a few batches, and weights scaled so that deep layers spike; then module and
graph run on the same frames. Named models are printed alone; without names the page is written.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import (
    masnn,
    maxformer,
    ms_resnet,
    parametric_lif_net,
    qkformer,
    sew_resnet,
    snas_net,
    spike_dhs,
    spike_driven_transformer,
    spikformer,
    spiking_resnet,
    spiking_vgg,
    spiking_vggws_ottt,
)
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.ir import Graph
from tcja_deploy.ir.ops import Neuron
from tcja_deploy.runtime.sequence import run

__all__ = ["MODELS", "Model", "row"]

T, N = 2, 2
PAGE = Path(__file__).with_name("spikingjelly-models.md")


@dataclass(frozen=True)
class Model:
    """One builder.

    Attributes:
        build: Makes the network.
        frame: Shape of a frame.
        steps: Time steps.
        image: Whether the network takes one image and repeats it itself.
        single: Whether the network is that of one time step.
        gain: Factor of the weights of dense layers, which have no normalisation behind them.
    """

    build: Callable[[], nn.Module]
    frame: tuple[int, ...] = (3, 32, 32)
    steps: int = T
    image: bool = False
    single: bool = False
    gain: float = 1.0


def _multi_step(build: Callable[..., nn.Module], **options: Any) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        net = build(
            spiking_neuron=neuron.IFNode, surrogate_function=surrogate.ATan(), detach_reset=True, **options
        )
        functional.set_step_mode(net, "m")
        return net

    return made


def _snas(cells: str) -> nn.Module:
    """A network of the architecture search, with every kind of connection in its cells."""
    args = SimpleNamespace(
        timestep=T, second_avgpooling=2, dataset="cifar10", celltype=cells, threshold=1.0, tau=4 / 3
    )
    connections = torch.tensor([[0, 2, 3, 4], [1, 0, 1, 2], [2, 1, 0, 3], [4, 2, 1, 0]])
    return snas_net.SNASNet(args, connections)


def _spike_dhs() -> nn.Module:
    net = nn.Sequential(
        spike_dhs.SearchSpikingConv2d_stem(3, 8), spike_dhs.SpikingConv2d(8, 8),
        layer.AvgPool2d(4), layer.Flatten(), layer.Linear(8 * 64, 10),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    return net


_SEW = (
    "sew_resnet18", "sew_resnet34", "sew_resnet50", "sew_resnet101", "sew_resnet152", "sew_resnext50_32x4d",
    "sew_resnext101_32x8d", "sew_wide_resnet50_2", "sew_wide_resnet101_2",
)  # fmt: skip
MODELS: dict[str, Model] = {
    **{n: Model(_multi_step(getattr(sew_resnet, n), cnf="ADD", num_classes=10)) for n in _SEW},
    **{
        n.removeprefix("sew_") if n.startswith("x") else f"spiking_{n.removeprefix('sew_')}": Model(
            _multi_step(getattr(spiking_resnet, f"spiking_{n.removeprefix('sew_')}"), num_classes=10)
        )
        for n in _SEW
    },
    **{
        n: Model(_multi_step(getattr(spiking_vgg, n), num_classes=10))
        for n in sorted(spiking_vgg.__all__)
        if n.startswith("spiking_")
    },
    **{
        n: Model(_multi_step(getattr(parametric_lif_net, n)), frame, gain=6.0)
        for n, frame in {
            "MNISTNet": (1, 28, 28),
            "FashionMNISTNet": (1, 28, 28),
            "NMNISTNet": (2, 34, 34),
            "CIFAR10Net": (3, 32, 32),
            "CIFAR10DVSNet": (2, 128, 128),
            "DVSGestureNet": (2, 128, 128),
        }.items()
    },
    "ms_resnet18": Model(lambda: ms_resnet.ms_resnet18(T=T, num_classes=10), image=True),
    "ms_resnet34": Model(lambda: ms_resnet.ms_resnet34(T=T, num_classes=10), image=True),
    "max_resnet18": Model(lambda: ms_resnet.max_resnet18(T=T), image=True),
    "masnn_dvs128_gesture": Model(lambda: masnn.masnn_dvs128_gesture(T=10), (2, 32, 32), 10),
    "att_ms_resnet18": Model(lambda: masnn.att_ms_resnet18(T=T, num_classes=10), image=True),
    "maxformer_cifar": Model(lambda: maxformer.maxformer_cifar(T=T), image=True),
    "maxformer_10_384": Model(lambda: maxformer.maxformer_10_384(T=T), image=True),
    "qkformer_10_384": Model(lambda: qkformer.qkformer_10_384(T=T), image=True),
    "sdt_8_384": Model(lambda: spike_driven_transformer.sdt_8_384(T=T), image=True),
    "spikformer_cifar10": Model(lambda: spikformer.spikformer_cifar10(T=T), image=True),
    "spikformer_ti": Model(
        lambda: spikformer.spikformer_ti(T=T, img_size_h=64, img_size_w=64), (3, 64, 64), image=True
    ),
    "spikformer_s": Model(
        lambda: spikformer.spikformer_s(T=T, img_size_h=64, img_size_w=64), (3, 64, 64), image=True
    ),
    "SNASNet (forward cells)": Model(lambda: _snas("forward"), image=True),
    "SNASNet (backward cells)": Model(lambda: _snas("backward"), image=True),
    "layers of spike_dhs": Model(_spike_dhs),
    **{
        n: Model(lambda n=n: getattr(spiking_vggws_ottt, n)(num_classes=10), single=True)
        for n in spiking_vggws_ottt.__all__
        if n.startswith("ottt_") and n != "ottt_spiking_vggws"
    },
}
"""Every builder of the package. `spike_dhs` holds parts of networks and no network: they are put one behind the other."""


def result_of(net: nn.Module, model: Model, x: Tensor) -> Tensor:
    """What the module gives for a window."""
    with torch.no_grad():
        result: Tensor = torch.stack([net(frame) for frame in x]) if model.single else net(x)
    functional.reset_net(net)
    return result


def lively(net: nn.Module, model: Model, x: Tensor) -> None:
    """Statistics of the frames and factors that let neurons fire; where there are none, weights for outputs of variance one."""
    normalised = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())
    handles = []
    if not normalised:

        def scaled(module: Any, inputs: Any, y: Tensor) -> Tensor:
            factor = 1.0 / float(y.std()) if float(y.std()) else 1.0
            with torch.no_grad():
                for p in module.parameters():
                    p.mul_(factor)
            return y * factor

        layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        handles = [m.register_forward_hook(scaled) for m in layers]
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine:
            m.momentum = None
            nn.init.constant_(m.weight, 2.5)
            nn.init.constant_(m.bias, 0.75)
        if isinstance(m, nn.Linear):
            m.weight.data.mul_(model.gain)
    net.train(normalised)
    for _ in range(2 if normalised else 1):
        result_of(net, model, x)
    for handle in handles:
        handle.remove()
    net.eval()


def _agreement(graph: Graph, net: nn.Module, model: Model, x: Tensor) -> str:
    fired: dict[str, float] = {}

    def observe(node: Any, value: Any) -> None:
        if isinstance(node.op, Neuron):
            fired[node.name] = float(np.asarray(value).mean())

    frames = x.expand(model.steps, *x.shape).contiguous() if model.image else x
    result = torch.as_tensor(np.asarray(run(graph, frames.numpy(), observe=observe)))
    expected = result_of(net, model, x)
    silent = sum(rate == 0 for rate in fired.values())
    apart = float((result.reshape(expected.shape) - expected).abs().max())
    spiking = f"{len(fired) - silent} of {len(fired)} layers spike"
    return f"translated | {len(graph.nodes)} nodes, {spiking} | {apart:.2g} (outputs up to {float(expected.abs().max()):.2g})"


def row(name: str) -> str:
    """One line of the table."""
    model = MODELS[name]
    torch.manual_seed(0)
    shape = (N, *model.frame) if model.image else (model.steps, N, *model.frame)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    try:
        net = model.build()
        lively(net, model, x)
    except Exception as error:  # a builder that does not run says nothing about this project
        reason = str(error).splitlines()[0][:110]
        return f"| `{name}` | cannot be built or run with its default arguments | {type(error).__name__}: {reason} | |"
    try:
        graph = td.load(net, timesteps=model.steps, input_shape=model.frame, input_kind="real")
    except td.DeployError as error:
        reasons = [line.strip(" -") for line in str(error).splitlines() if line.startswith("  - ")]
        kinds = list(dict.fromkeys(r.partition(": ")[2] or r for r in reasons)) or [
            str(error).splitlines()[0]
        ]
        return f"| `{name}` | refused | {len(reasons)} place{'s' * (len(reasons) > 1)}: {'; '.join(kinds[:3])[:220]} | |"
    return f"| `{name}` | {_agreement(graph, net, model, x)} |"


def main() -> None:
    """Write the page, or print the lines of the models named."""
    warnings.simplefilter("ignore")
    if sys.argv[1:]:
        for name in sys.argv[1:]:
            print(row(name), flush=True)
        return
    lines = [row(name) for name in MODELS]
    PAGE.write_text(page(lines))


def page(lines: list[str]) -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Models of SpikingJelly",
            "",
            "Every builder of `spikingjelly.activation_based.model`",
            f"(SpikingJelly {version('spikingjelly')}), loaded as a live module. Written by",
            "`python docs/generate_spikingjelly_models.py`: random weights, normalisation statistics of the frames (or",
            "weights scaled to outputs of variance one), small images; then module and graph run on the same two samples.",
            "The last column is the largest difference of the outputs.",
            "",
            "<!-- figures of: minutes of work: the command above -->",
            "",
            "| model | | graph, or why not | difference |",
            "|---|---|---|---|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
