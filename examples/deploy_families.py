"""TCJA's neighbours through the whole pipe: trace, compare with the module's own spikes, export, stream, count.

    python examples/deploy_families.py [NAME ...]

Names: masnn, att-ms-resnet, ms-resnet-tcja, sew-resnet, spiking-vgg, tla, added, heads, cross, stepwise; all if none is given.
Needs the extra `spikingjelly`. The networks are untrained; put your own in their place.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from attention_blocks import CrossConvolution, HeadedAttention, JointAttention, StepwiseAttention
from numpy.typing import NDArray
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import masnn, sew_resnet, spiking_vgg
from torch import Tensor, nn
from untrained import settle

from tcja_deploy import export
from tcja_deploy.energy.measure import measure
from tcja_deploy.energy.price.conventions import AccountingOptions, convention
from tcja_deploy.energy.price.estimate import estimates
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.frontend.trace import trace
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import plan
from tcja_deploy.runtime.stream.cost import measure as stream_cost
from tcja_deploy.zoo.resnet import ms_resnet18_tcja

SAMPLES = 4


@dataclass(frozen=True)
class Example:
    """A network, its time steps, one frame, and what frames hold."""

    make: Callable[[], nn.Module]
    T: int
    shape: tuple[int, ...]
    kind: Kind

    def frames(self) -> Tensor:
        """Pictures repeated over time, or event counts: `[T, N, ...]`."""
        generator = torch.Generator().manual_seed(0)
        if self.kind is Kind.REAL:
            pictures = torch.rand(1, SAMPLES, *self.shape, generator=generator)
            return pictures.repeat(self.T, *(1,) * (1 + len(self.shape)))
        return torch.poisson(torch.full((self.T, SAMPLES, *self.shape), 0.2), generator=generator)


class Recordings:
    """A window `[T, N, ...]` as a data set."""

    def __init__(self, frames: Tensor) -> None:
        self.frames: NDArray[np.float32] = frames.numpy()

    def __len__(self) -> int:
        return self.frames.shape[1]

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], None]:
        return self.frames[:, index], None


def _lif() -> nn.Module:
    return neuron.LIFNode(step_mode="m")


def with_attention(attention: Callable[[int, int], nn.Module]) -> Callable[[], nn.Module]:
    """A small event network with an attention block of the user's."""

    def make() -> nn.Module:
        return nn.Sequential(
            layer.Conv2d(2, 16, 3, padding=1, bias=False, step_mode="m"), layer.BatchNorm2d(16, step_mode="m"),
            _lif(), attention(8, 16), layer.MaxPool2d(2, 2, step_mode="m"),
            nn.Flatten(2), layer.Linear(16 * 256, 10, step_mode="m"),
        )  # fmt: skip

    return make


def multi_step(net: nn.Module) -> nn.Module:
    """A network of the model zoo that takes whole windows."""
    functional.set_step_mode(net, "m")
    return net


EVENTS, PICTURES = ((2, 32, 32), Kind.COUNT), ((3, 32, 32), Kind.REAL)
BLOCK = [sew_resnet.BasicBlock, [1, 1, 1, 1]]
CUSTOM: dict[str, Callable[[int, int], nn.Module]] = {
    "tla": lambda T, c: JointAttention(T, c, along_channels=0),
    "added": lambda T, c: JointAttention(T, c, add=True),
    "heads": HeadedAttention,
    "cross": lambda T, c: CrossConvolution(),
    "stepwise": lambda T, c: StepwiseAttention(c),
}
EXAMPLES = {
    "masnn": Example(lambda: masnn.masnn_dvs128_gesture(T=20), 20, *EVENTS),
    "att-ms-resnet": Example(
        lambda: masnn.AttMSResNet(T=4, num_classes=10, base_channels=16, stem_kernel_size=3, stem_stride=1),
        4, *PICTURES,
    ),
    "ms-resnet-tcja": Example(lambda: ms_resnet18_tcja(width=16), 4, *PICTURES),
    "sew-resnet": Example(
        lambda: multi_step(
            sew_resnet.SEWResNet(*BLOCK, num_classes=10, cnf="ADD", spiking_neuron=neuron.LIFNode)
        ),
        4, *PICTURES,
    ),
    "spiking-vgg": Example(
        lambda: multi_step(spiking_vgg.spiking_vgg11_bn(num_classes=10, spiking_neuron=neuron.LIFNode)), 2, *PICTURES
    ),
    **{name: Example(with_attention(block), 8, *EVENTS) for name, block in CUSTOM.items()},
}  # fmt: skip


def differing_spikes(net: nn.Module, graph: Graph, frames: Tensor) -> tuple[int, int]:
    """Spikes of the module that the graph does not give, and neuron-steps compared."""
    own: dict[str, Tensor] = {}
    modules = dict(net.named_modules())
    for node in graph.neurons:
        modules[node.name].register_forward_hook(lambda m, x, y, name=node.name: own.__setitem__(name, y))
    with torch.no_grad():
        net(frames)
    functional.reset_net(net)
    wrong = total = 0

    def observe(node, value) -> None:  # type: ignore[no-untyped-def]
        nonlocal wrong, total
        if node.name in own:
            wrong += int((own[node.name] != value).sum())
            total += value.numel()

    run(graph, frames, observe=observe)
    return wrong, total


def lava(graph: Graph, path: Path, frames: Tensor) -> str:
    """What Lava says."""
    try:
        export(graph, "lava", path, data=[frames.numpy()])
    except UnsupportedError as error:
        return f"refused: {error.reason.splitlines()[0].removesuffix(':')}"
    return "8-bit bundle"


def deploy(example: Example, folder: Path) -> dict[str, str]:
    """What the targets make of a network."""
    frames = example.frames()
    torch.manual_seed(0)
    net = settle(example.make(), frames, passes=1)
    graph = trace(net, timesteps=example.T, input_shape=example.shape, input_kind=example.kind)
    wrong, total = differing_spikes(net, graph, frames)
    onnx = export(graph, "onnx", folder / "net.onnx", data=[frames.numpy()]).agreement
    cost = stream_cost(plan(graph), frames)
    prices = [load_profile("asic45")], AccountingOptions()
    snn, *ann = estimates(measure(graph, Recordings(frames)), [convention("strict")], *prices)
    energy = [e.energy_pJ.mean / 1e6 if e.energy_pJ else float("nan") for e in (snn, ann[0])]
    return {
        "nodes": f"{len(graph.nodes)}, with {graph.parameters / 1e6:.2f} M weights",
        "spikes unlike the module's": f"{wrong} of {total}",
        "spikes unlike in onnxruntime": "-" if onnx is None else f"{onnx.mismatches} of {onnx.neuron_steps}",
        "stream": f"a result leaves {cost.latency} frames after the one that completes it; "
        f"{cost.held / 1024:.0f} KiB of frames wait",
        "energy (45 nm, strict)": f"{energy[0]:.1f} uJ, as an ANN {energy[1]:.1f} uJ",
        "Lava": lava(graph, folder / "bundle", frames),
    }


def main(names: list[str]) -> None:
    """Deploy the named networks, or all."""
    for name in names or EXAMPLES:
        with tempfile.TemporaryDirectory() as folder:
            found = deploy(EXAMPLES[name], Path(folder))
        print(name, *(f"  {what}: {value}" for what, value in found.items()), sep="\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
