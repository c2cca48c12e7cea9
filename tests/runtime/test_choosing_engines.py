"""What runs a network: the choice between engines, and running with it, without the command line."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from tcja_deploy import zoo
from tcja_deploy.errors import ToolchainError, UnsupportedError, UsageError
from tcja_deploy.exporters.nir.options import NirOptions
from tcja_deploy.exporters.onnx.options import OnnxOptions, OnnxVerification
from tcja_deploy.ir import Graph, Node
from tcja_deploy.runtime.engines import choose, event_driven, watching
from tcja_deploy.runtime.onnx import window
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


@pytest.mark.parametrize("engine", ["torch", "events", "onnx"])
def test_what_is_asked_for_is_taken(graph: Graph, engine: str) -> None:
    choice = choose(graph, engine, samples=1)
    assert (choice.engine, choice.reason) == (engine, "as asked for")


def test_unknown_engines_and_devices_are_refused(graph: Graph) -> None:
    with pytest.raises(UsageError, match="--engine 'fast' is unknown"):
        choose(graph, "fast")
    with pytest.raises(UsageError, match="--device"):
        choose(graph, device="abacus")


@pytest.mark.parametrize("engine", ["torch", "events", "onnx"])
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


def test_onnxruntime_that_is_not_there(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tcja_deploy.runtime.onnx.window", None)
    with pytest.raises(ToolchainError, match="onnxruntime cannot be imported") as caught:
        watching(graph, choose(graph, "onnx"), [])
    assert "pip install" in caught.value.hint


def test_networks_that_onnxruntime_cannot_take(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as smaller:
        smaller.setattr(window, "MOST_BYTES", 1000)
        with pytest.raises(UnsupportedError, match="onnxruntime takes"):
            watching(graph, choose(graph, "onnx"), [])
    monkeypatch.setattr(window, "_OPSET", 13)
    monkeypatch.setattr("tcja_deploy.runtime.onnx.emitter._IR_VERSION", {13: 99})
    with pytest.raises(ToolchainError, match="IR version") as caught:
        watching(graph, choose(graph, "onnx"), [])
    assert "--engine" in caught.value.hint


@pytest.mark.parametrize("options", [OnnxOptions, OnnxVerification])
def test_onnxruntime_does_not_check_itself(options: type[OnnxOptions | OnnxVerification]) -> None:
    with pytest.raises(UsageError, match="cannot be the reference as well"):
        options(engine="onnx")
    assert options(engine="events").engine == NirOptions(engine="events").engine
    with pytest.raises(UsageError, match="bound"):
        OnnxVerification(bound=2.0)
