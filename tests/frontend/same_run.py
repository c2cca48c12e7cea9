"""The oracle of the frontend's tests: the module's own forward, with the spikes of every neuron."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.base import MemoryModule
from torch import Tensor, nn

from tcja_deploy.ir import Graph
from tcja_deploy.ir.ops import Neuron
from tcja_deploy.runtime.sequence import run


def own_forward(net: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Result of the module on `x` and the spikes `[T, N, ...]` of every neuron, by module path.

    A neuron that is called once per time step has its steps stacked.
    """
    steps: dict[str, list[Tensor]] = {}
    hooks = [
        m.register_forward_hook(lambda m, args, y, name=name: steps.setdefault(name, []).append(y))
        for name, m in net.named_modules()
        if isinstance(m, MemoryModule) and type(m).__name__.endswith("Node")
    ]
    functional.reset_net(net)
    with torch.no_grad():
        y = net(x)
    for hook in hooks:
        hook.remove()
    functional.reset_net(net)
    return y, {k: v[0] if len(v) == 1 else torch.stack(v) for k, v in steps.items()}


def graph_forward(graph: Graph, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Result of the sequence runtime and the spikes of every neuron, by node name."""
    spikes: dict[str, Tensor] = {}
    y = run(
        graph,
        frames,
        observe=lambda node, v: spikes.update({node.name: v}) if isinstance(node.op, Neuron) else None,
    )
    return y, spikes


def assert_same(
    net: nn.Module, graph: Graph, x: Tensor, frames: Tensor | None = None, *, active: bool = True
) -> None:
    """The graph gives the module's output and the spikes of every neuron, bit for bit.

    Args:
        net: The module, in evaluation mode.
        graph: Its translation.
        x: What the module takes.
        frames: The same as `[T, N, ...]`, if it is not `x` already.
        active: Check that every layer spikes, so that equality means something.
    """
    expected, theirs = own_forward(net, x)
    result, ours = graph_forward(graph, x if frames is None else frames)
    assert set(theirs) == set(ours)
    for name, spikes in theirs.items():
        assert torch.equal(spikes, ours[name]), name
        if active:
            assert 0 < spikes.mean() < 1, f"{name} tests nothing: rate {float(spikes.mean())}"
    assert result.shape == expected.shape
    assert torch.equal(result, expected)


def assert_output(net: nn.Module, graph: Graph, x: Tensor) -> None:
    """The graph gives the module's output, bit for bit; for nets with neurons that `forward` does not use."""
    expected, _ = own_forward(net, x)
    assert expected.std() > 0, "the same everywhere: equality would mean nothing"
    assert torch.equal(run(graph, x), expected)
