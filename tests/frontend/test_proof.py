"""What load hands out has been run beside the module: what code remembers in plain attributes never goes missing in silence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError
from tcja_deploy.runtime.sequence import run

T = 6


class FrameCount(nn.Module):
    """Scales by the number of frames so far: no element-wise rule of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def reset(self) -> None:
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * float(self.calls)


class Trace(nn.Module):
    """Remembers the mean over all channels: memory that is not element by element."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: Any = None

    def reset(self) -> None:
        self.memory = None

    def forward(self, x: Tensor) -> Tensor:
        mixed = x.mean(-1, keepdim=True)
        y = x if self.memory is None else x + 0.5 * self.memory
        self.memory = mixed
        return y


class NeverReset(nn.Module):
    """An offset that the first window leaves behind for ever, with nothing that takes it back."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.offset = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        if self.seen > T:
            self.offset = 1.0
        return x + self.offset


def network(own: nn.Module, steps: str) -> nn.Module:
    torch.manual_seed(0)
    if steps == "s":
        return nn.Sequential(nn.Linear(8, 5), neuron.LIFNode(v_threshold=0.3), own).eval()
    lif = neuron.LIFNode(v_threshold=0.3, step_mode="m")
    return nn.Sequential(nn.Linear(8, 5), lif, layer.MultiStepContainer(own)).eval()


@pytest.mark.parametrize("steps", ["s", "m"])
@pytest.mark.parametrize(
    ("kind", "attribute"), [(FrameCount, "calls"), (Trace, "memory"), (NeverReset, "offset")]
)
def test_memory_without_a_translation_is_refused_by_path_and_attribute(
    kind: type[nn.Module], attribute: str, steps: str
) -> None:
    net = network(kind(), steps)
    with pytest.raises(TraceError) as refused:
        td.load(net, timesteps=T, input_shape=(8,))
    text = str(refused.value)
    assert repr(attribute) in text
    assert ("2.0" if steps == "m" else "2:") in text


def test_the_module_is_left_as_it_was() -> None:
    own = Trace()
    net = network(own, "s")
    own.memory = torch.ones(1, 5)
    with pytest.raises(TraceError):
        td.load(net, timesteps=T, input_shape=(8,))
    assert torch.equal(own.memory, torch.ones(1, 5))
    assert net[1].v == 0.0
    assert not any(m._forward_hooks for m in net.modules())


def test_without_proof_the_source_says_so() -> None:
    graph = td.load(network(Trace(), "s"), timesteps=T, input_shape=(8,), prove=False)
    assert graph.source["proof"] == "switched off"


def test_what_was_proven_is_told() -> None:
    graph = td.load(network(nn.Identity(), "m"), timesteps=T, input_shape=(8,))
    assert (
        graph.source["proof"]
        == "equal to the module on 3 windows of 2 made-up samples, 1 of 1 layers of neurons spiked"
    )


def test_states_with_a_history_do_not_hinder() -> None:
    """After training, membranes hang on a graph of autograd, which deepcopy refuses."""
    net = network(nn.Identity(), "s").train()
    net(torch.rand(2, 8))
    assert net[1].v.requires_grad
    graph = td.load(net, timesteps=T, input_shape=(8,))
    assert graph.source["proof"].startswith("equal")


def test_random_numbers_are_found() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float(torch.rand(()))

    with pytest.raises(TraceError, match="random numbers"):
        td.load(network(Noise(), "m"), timesteps=T, input_shape=(8,))


def test_a_membrane_at_the_threshold_is_no_mismatch() -> None:
    """Sums of many terms are rounded by the order of summation, which is another one for a window than for a frame: single
    spikes may flip, and everything behind them. Weights on a grid put every membrane on the threshold or a step beside it."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(40, 300, bias=False), neuron.IFNode(v_threshold=1.0), nn.Linear(300, 300, bias=False),
        neuron.IFNode(v_threshold=1.0), nn.Linear(300, 5),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for i in (0, 2):
            net[i].weight.copy_((net[i].weight * 20).round() / 10)
    graph = td.load(net, timesteps=T, input_shape=(40,))
    assert graph.source["proof"].startswith("equal")


def test_an_input_that_calls_for_scaling_reaches_deep_layers() -> None:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for threshold in (20.0, 0.1, 0.1):
        parts += [nn.Linear(8, 8), neuron.LIFNode(v_threshold=threshold)]
    graph = td.load(nn.Sequential(*parts).eval(), timesteps=T, input_shape=(8,))
    assert "3 of 3 layers of neurons spiked" in graph.source["proof"]
    assert run(graph, torch.ones(T, 1, 8)).sum() == 0
