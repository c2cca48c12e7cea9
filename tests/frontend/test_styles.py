"""Small random networks, each in the three ways that people write them: all are read, and compute the same.

Single-step modules in a loop over time, layers in step mode 'm', and containers around plain layers, with the same weights.
Each graph is compared with its own module, and the three graphs with each other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import einops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from same_run import graph_forward, own_forward
from small_nets import lively
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.ir import Graph
from tcja_deploy.zoo.modules import TCJABlock

CLASSES = 6


class Residual(nn.Module):
    """`x + body(x)`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class FlattenInForward(nn.Module):
    """The rest of a network behind `flatten(1)`; code that folds its steps has no other way."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(-3))  # type: ignore[no-any-return]


class Drawn:
    """One network, drawn stage by stage, of SpikingJelly's layers in step mode 's'."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.T = draw(st.integers(2, 4))
        self.shape = (draw(st.integers(1, 3)), *draw(st.sampled_from([(8, 8), (6, 10)])))
        self.frame = self.shape
        self.stages: list[nn.Module] = []
        for _ in range(draw(st.integers(1, 3))):
            self.stages += self.stage()
        self.gate = self.pick(None, *range(1, len(self.stages) + 1)) if self.pick(True, False) else None
        if self.gate is not None:
            self.gate_channels = self.channels(self.gate)
        self.head = nn.Sequential(*self.readout())

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def channels(self, stages: int) -> int:
        with torch.no_grad():
            frame = nn.Sequential(*copy.deepcopy(self.stages[:stages])).eval()(torch.zeros(1, *self.shape))
        return int(frame.shape[1])

    def neuron(self) -> nn.Module:
        options: dict[str, Any] = {
            "v_threshold": self.pick(0.3, 0.7, 1.0), "v_reset": self.pick(0.0, None), "detach_reset": True,
            "surrogate_function": self.pick(surrogate.ATan(), surrogate.Sigmoid(), surrogate.PiecewiseQuadratic()),
        }  # fmt: skip
        kind = self.pick(neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode)
        if kind is not neuron.IFNode:
            options |= {"decay_input": self.pick(True, False)}
            options |= {"tau" if kind is neuron.LIFNode else "init_tau": self.pick(1.5, 2.0)}
        made: nn.Module = kind(**options)
        return made

    def conv(self, outputs: int, norm: bool) -> list[nn.Module]:
        kernel = self.pick(1, 3)
        groups = 2 if outputs % 2 == self.frame[0] % 2 == 0 and self.pick(True, False) else 1
        conv = layer.Conv2d(
            self.frame[0],
            outputs,
            kernel,
            padding=kernel // 2,
            bias=not norm or self.pick(True, False),
            groups=groups,
        )
        self.frame = (outputs, *self.frame[1:])
        return [conv, *([layer.BatchNorm2d(outputs)] if norm else [])]

    def pool(self) -> nn.Module:
        kind = self.pick(layer.MaxPool2d, layer.AvgPool2d)
        self.frame = (self.frame[0], *(n // 2 for n in self.frame[1:]))
        made: nn.Module = kind(2)
        return made

    def stage(self) -> list[nn.Module]:
        order = self.pick("conv, norm, neuron", "neuron, conv, norm", "conv, neuron", "residual")
        parts: list[nn.Module]
        if order == "residual":
            return [Residual(nn.Sequential(*self.conv(self.frame[0], self.pick(True, False)), self.neuron()))]
        parts = self.conv(self.pick(2, 4), "norm" in order)
        if min(self.frame[1:]) >= 4 and self.pick(True, False):
            parts.append(self.pool())
        parts = [self.neuron(), *parts] if order.startswith("neuron") else [*parts, self.neuron()]
        if self.pick(True, False, False):
            parts.append(self.pick(layer.Dropout(0.5), layer.Dropout2d(0.5)))
        return parts

    def readout(self) -> list[nn.Module]:
        features = self.frame[0] * self.frame[1] * self.frame[2]
        parts: list[nn.Module] = []
        if self.pick(True, False, False):
            features = self.frame[0]
            parts.append(layer.AdaptiveAvgPool2d(1))
        dense: list[nn.Module] = [layer.Linear(features, CLASSES)]
        if self.pick(True, False):
            dense.append(self.neuron())
        if self.pick(True, False):
            return [*parts, FlattenInForward(nn.Sequential(*dense))]
        return [*parts, layer.Flatten(), *dense]

    @property
    def network(self) -> nn.Module:
        """Everything but the loop, in step mode 's'; parts of it are `first`, `gate` and `rest`."""
        net = nn.Module()
        cut = len(self.stages) if self.gate is None else self.gate
        net.first = nn.Sequential(*self.stages[:cut])
        net.gate = None if self.gate is None else TCJABlock(3, 3, self.T, self.gate_channels)
        net.rest = nn.Sequential(*self.stages[cut:], self.head)
        return lively(net, gain=2.0)


# -- the three ways ------------------------------------------------------------------------------------------------------------
class Way(nn.Module):
    """The same network, written in one way; `axes` tells how it takes its input."""

    def __init__(self, parts: nn.Module, T: int, axes: str, readout: str, style: str) -> None:
        super().__init__()
        self.first, self.gate, self.rest = parts.first, parts.gate, parts.rest
        self.T, self.axes, self.readout, self.style = T, axes, readout, style

    def read(self, x: Tensor) -> Tensor:
        """Readout of a window `[T, N, ...]`."""
        match self.readout:
            case "mean":
                return x.mean(0)
            case "sum":
                return x.sum(0)
            case "last":
                return x[-1]
            case "largest":
                return x.max(0).values
        return x

    def window(self, x: Tensor) -> Tensor:
        """The input as `[T, N, ...]`."""
        match self.axes:
            case "batch first":
                return x.transpose(0, 1)
            case "batch first, einops":
                return einops.rearrange(x, "n t c h w -> t n c h w")
            case "image":
                return x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
            case "image, stacked":
                return torch.stack([x] * self.T)
            case "image, einops":
                return einops.repeat(x, "n c h w -> t n c h w", t=self.T)
        return x


class Multi(Way):
    """Layers in step mode 'm', or containers: windows go through."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.window(x))
        return self.read(self.rest(y if self.gate is None else self.gate(y)))


class Looped(Way):
    """Single-step modules, called once per step."""

    def frames(self, x: Tensor) -> Any:
        if self.axes.startswith("image"):
            return [x] * self.T
        if self.axes.startswith("batch first"):
            return [x[:, t] for t in range(self.T)] if "einops" not in self.axes else list(x.unbind(1))
        return x if self.style == "iterate" else [x[t] for t in range(x.shape[0])]

    def forward(self, x: Tensor) -> Any:
        frames = self.frames(x)
        if self.gate is not None:
            frames = self.gate(torch.stack([self.first(f) for f in frames]))
            frames = frames if self.style == "iterate" else [frames[t] for t in range(self.T)]
        step = self.rest if self.gate is not None else lambda f: self.rest(self.first(f))
        if self.readout in ("mean", "sum") and self.style != "list":
            total: Any = 0
            for frame in frames:
                total = total + step(frame)
            return total / self.T if self.readout == "mean" else total
        if self.readout == "last" and self.style != "list":
            for frame in frames:
                out = step(frame)
            return out
        if self.style == "written":
            n = x.shape[0] if self.axes != "time first" else x.shape[1]
            window = torch.zeros(self.T, n, CLASSES)
            for t, frame in enumerate(frames):
                window[t] = step(frame)
            return self.read(window)
        return self.read(torch.stack([step(f) for f in frames], 0))


def multi_step(parts: nn.Module) -> nn.Module:
    parts = copy.deepcopy(parts)
    functional.set_step_mode(parts, "m")
    for module in parts.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module.step_mode = "m"
    return parts


def contained(parts: nn.Module, everything: bool, nested: bool) -> nn.Module:
    """Plain layers in containers, neurons in step mode 'm' beside them; or all of a part in one that loops."""
    parts = copy.deepcopy(parts)

    def folded(module: nn.Module) -> nn.Module:
        if isinstance(module, Residual):
            return Residual(folded(module.body))
        if isinstance(module, FlattenInForward):
            return FlattenInForward(folded(module.inner))
        if not isinstance(module, nn.Sequential):
            if hasattr(module, "v_threshold"):
                module.step_mode = "m"
                return module
            return layer.SeqToANNContainer(module)
        made: list[nn.Module] = []
        waiting: list[nn.Module] = []
        for part in [*module, None]:
            plain = part is not None and not isinstance(part, nn.Sequential | Residual | FlattenInForward)
            if plain and not hasattr(part, "v_threshold"):
                waiting.append(part)
                continue
            if waiting:
                inner = [nn.Sequential(*waiting)] if nested else waiting
                made.append(layer.SeqToANNContainer(*inner))
                waiting = []
            if part is not None:
                made.append(folded(part))
        return nn.Sequential(*made)

    if everything:
        parts.first, parts.rest = (
            layer.MultiStepContainer(*parts.first),
            layer.MultiStepContainer(*parts.rest),
        )
        return parts
    parts.first, parts.rest = folded(parts.first), folded(parts.rest)
    return parts


AXES = ("time first", "batch first", "batch first, einops", "image", "image, stacked", "image, einops")


def loaded(net: nn.Module, drawn: Drawn) -> Graph:
    return td.load(net, timesteps=drawn.T, input_shape=drawn.shape)


def check(data: st.DataObject) -> None:
    drawn = Drawn(data.draw)
    parts = drawn.network
    axes = drawn.pick(*AXES)
    readout = drawn.pick("mean", "sum", "last", "largest", "window")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    frames = torch.poisson(torch.full((drawn.T, 2 + (drawn.T == 2), *drawn.shape), 0.7), generator=generator)
    if axes.startswith("image"):
        frames = frames[:1].expand(frames.shape).contiguous()
    given = (
        frames.transpose(0, 1)
        if axes.startswith("batch")
        else frames[0]
        if axes.startswith("image")
        else frames
    )
    looped = "index", "iterate", "list", "written"
    ways: dict[str, nn.Module] = {
        "loop": Looped(copy.deepcopy(parts), drawn.T, axes, readout, drawn.pick(*looped)),
        "multi-step": Multi(multi_step(parts), drawn.T, axes, readout, ""),
        "containers": Multi(
            contained(parts, drawn.pick(True, False, False), drawn.pick(True, False)),
            drawn.T,
            axes,
            readout,
            "",
        ),
    }
    results = {}
    for name, net in ways.items():
        net.eval()
        graph = loaded(net, drawn)
        expected, _ = own_forward(net, given)
        result, _ = graph_forward(graph, frames)
        # a loop convolves N frames at once, the graph T N: their sums may be rounded in another order
        torch.testing.assert_close(
            result.reshape(expected.shape), expected, rtol=0, atol=1e-5, msg=f"{name}: {net}"
        )
        results[name] = result
    torch.testing.assert_close(results["loop"], results["multi-step"], rtol=0, atol=1e-5)
    torch.testing.assert_close(results["containers"], results["multi-step"], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::tcja_deploy.errors.SilenceWarning")
@settings(max_examples=15)
@given(st.data())
def test_three_ways_to_write_one_network(data: st.DataObject) -> None:
    check(data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tcja_deploy.errors.SilenceWarning")
@settings(max_examples=60)
@given(st.data())
def test_three_ways_to_write_many_networks(data: st.DataObject) -> None:
    check(data)
