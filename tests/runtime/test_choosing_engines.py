"""What runs a network: the choice between engines, and running with it, without the command line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tcja_deploy import zoo
from tcja_deploy.errors import UsageError
from tcja_deploy.ir import Graph, Node
from tcja_deploy.runtime.engines import choose, event_driven, watching
from tcja_deploy.runtime.sequence import run


@pytest.fixture(scope="module")
def graph() -> Graph:
    return zoo.build("events34", channels=(6, 8, 8), T=3, hidden=16)


def test_sparse_layers_count_as_event_driven(graph: Graph) -> None:
    """All layers of this network read events or spikes, so every multiply-accumulate is driven by them."""
    macs, share = event_driven(graph)
    assert macs == sum(node.op.macs(*graph.signals_in(node), T=graph.T) for node in graph)
    assert share == 1.0


def test_auto_takes_torch_until_loading_kernels_pays(graph: Graph) -> None:
    macs, _ = event_driven(graph)
    assert choose(graph, samples=1).engine == "torch"
    assert choose(graph, samples=int(1e12 / macs)).engine == "events"
    assert choose(graph).engine == "events"


@pytest.mark.parametrize("engine", ["torch", "events"])
def test_what_is_asked_for_is_taken(graph: Graph, engine: str) -> None:
    choice = choose(graph, engine, samples=1)
    assert (choice.engine, choice.reason) == (engine, "as asked for")


def test_unknown_engines_and_devices_are_refused(graph: Graph) -> None:
    with pytest.raises(UsageError, match="--engine 'fast' is unknown"):
        choose(graph, "fast")
    with pytest.raises(UsageError, match="--device"):
        choose(graph, device="abacus")


@pytest.mark.parametrize("engine", ["torch", "events"])
def test_watched_values_are_those_of_the_sequence_runtime(graph: Graph, engine: str) -> None:
    frames = np.random.default_rng(0).poisson(0.3, (3, 2, *graph.input_shape)).astype(np.float32)
    names = [node.name for node in graph.neurons]
    expected: dict[str, torch.Tensor] = {}
    got: dict[str, torch.Tensor] = {}

    def keep(node: Node, value: torch.Tensor) -> None:
        expected[node.name] = value

    output = watching(graph, choose(graph, engine), names)(
        frames, lambda node, value: got.update({node.name: value})
    )
    assert np.allclose(output, run(graph, frames, observe=keep).numpy(), atol=1e-6)
    assert set(got) == set(names)
    differing = sum(int((got[name] != expected[name]).sum()) for name in names)
    assert differing <= 1e-5 * sum(expected[name].numel() for name in names)
