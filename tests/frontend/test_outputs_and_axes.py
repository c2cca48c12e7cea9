"""What forward gives (a dictionary of one tensor), how deep modules lie in containers, and time on the last axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError
from tcja_deploy.runtime.sequence import run

SHAPE, T = (2, 5, 5), 6


def counts(batch: int = 3) -> Tensor:
    return torch.poisson(torch.full((T, batch, *SHAPE), 0.7), generator=torch.Generator().manual_seed(3))


def same(net: nn.Module, expected: Any) -> None:
    """The graph computes what the module does."""
    net.eval()
    graph = td.load(net, timesteps=T, input_shape=SHAPE)
    functional.reset_net(net)
    with torch.no_grad():
        y = expected(net, counts())
    assert y.abs().sum() > 0
    assert torch.equal(run(graph, counts()), y)


class Named(nn.Module):
    """Gives a dictionary, in one of the step modes."""

    def __init__(self, mode: str, *others: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.others = others
        self.body = nn.Sequential(layer.Conv2d(2, 3, 3), neuron.LIFNode(v_threshold=0.3))
        functional.set_step_mode(self.body, mode)

    def forward(self, x: Tensor) -> dict[str, Tensor | None]:
        y = self.body(x)
        return {"logits": y, "loss": None} | dict.fromkeys(self.others, y)


def test_a_dictionary_of_one_tensor() -> None:
    same(Named("m"), lambda net, x: net(x)["logits"])
    same(Named("s"), lambda net, x: torch.stack([net(frame)["logits"] for frame in x]))
    with pytest.raises(TraceError, match=r"several values \(logits, loss, features\)"):
        td.load(Named("m", "features"), timesteps=T, input_shape=SHAPE)


class Nest(nn.Module):
    """Layers in containers within containers, called in order."""

    def __init__(self, tree: Any) -> None:
        super().__init__()
        self.held = _held(tree)

    def forward(self, x: Tensor) -> Tensor:
        return _called(self.held, x)


def _held(tree: Any) -> nn.Module:
    if isinstance(tree, nn.Module):
        return tree
    kind, inner = tree
    parts = [_held(part) for part in inner]
    if kind == "dict":
        return nn.ModuleDict({f"part{i}": part for i, part in enumerate(parts)})
    if kind == "own":
        return Nest(("list", parts))
    plain = all(not isinstance(part, nn.ModuleList | nn.ModuleDict) for part in parts)
    return nn.Sequential(*parts) if kind == "sequential" and plain else nn.ModuleList(parts)


def _called(held: nn.Module, x: Tensor) -> Tensor:
    if isinstance(held, nn.ModuleDict):
        for part in held.values():
            x = _called(part, x)
    elif isinstance(held, nn.ModuleList):
        for part in held:
            x = _called(part, x)
    else:
        x = held(x)
    return x


def layers(seed: int) -> list[nn.Module]:
    torch.manual_seed(seed)
    return [
        layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), neuron.IFNode(v_threshold=0.4), layer.MaxPool2d(2, 2),
        layer.Conv2d(4, 3, 2), neuron.LIFNode(v_threshold=0.3), layer.Flatten(), layer.Linear(3, 4),
    ]  # fmt: skip


KINDS = st.sampled_from(["sequential", "list", "dict", "own"])


@st.composite
def trees(draw: Any, parts: list[nn.Module], depth: int = 3) -> Any:
    """A way to hold layers, which stay in order."""
    if len(parts) == 1 and draw(st.booleans()):
        return parts[0]
    if depth == 0 or len(parts) == 1:
        return draw(KINDS), parts
    cut = draw(st.integers(1, len(parts) - 1))
    return draw(KINDS), [draw(trees(parts[:cut], depth - 1)), draw(trees(parts[cut:], depth - 1))]


@settings(max_examples=12)
@given(st.data(), st.sampled_from("ms"))
def test_containers_in_containers(data: Any, mode: str) -> None:
    parts = layers(data.draw(st.integers(0, 3)))
    net = Nest(data.draw(trees(parts)))
    functional.set_step_mode(net, mode)
    alone = nn.Sequential(*parts)

    def expected(_: nn.Module, x: Tensor) -> Tensor:
        return alone(x) if mode == "m" else torch.stack([alone(frame) for frame in x])

    same(net, expected)


class TimeLast(nn.Module):
    """A loop over time as SLAYER's users write it, or with time in front."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.last, self.conv, self.lif = last, nn.Conv2d(2, 3, 3), neuron.LIFNode(v_threshold=0.3)

    def forward(self, x: Tensor) -> Tensor:
        frames = []
        if self.last:
            for t in range(x.shape[-1]):
                frames.append(self.lif(self.conv(x[..., t])))
            return torch.stack(frames, -1)
        for t in range(x.shape[0]):
            frames.append(self.lif(self.conv(x[t])))
        return torch.stack(frames)


def trained(net: nn.Module) -> nn.Module:
    """After a step of training: its memories have a history, which cannot be copied as it is."""
    net(counts().movedim(0, -1)).sum().backward()
    return net


@pytest.mark.parametrize("timesteps", [T, None])
@pytest.mark.parametrize("made", [nn.Module.float, nn.Module.double, trained])
def test_time_on_the_last_axis_is_told_and_the_hint_works(
    timesteps: int | None, made: Callable[[nn.Module], nn.Module]
) -> None:
    with pytest.raises(TraceError, match=r"last axis of its input, \[N, C, H, W, T\]") as caught:
        td.load(made(TimeLast(True)), timesteps=timesteps, input_shape=SHAPE)
    assert "x[t] for x[..., t]" in caught.value.hint
    assert "torch.stack(frames) for torch.stack(frames, -1)" in caught.value.hint
    same(TimeLast(False), lambda net, x: net(x))
    with torch.no_grad():
        functional.reset_net(before := TimeLast(True))
        assert torch.equal(before(counts().movedim(0, -1)).movedim(-1, 0), TimeLast(False)(counts()))
