"""Networks for the tests of NIR, with weights such that every layer spikes, and what tests of several readers share."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tcja_deploy import zoo
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames

Array = NDArray[np.float32]
RECORDINGS = Array
FOREIGN = ("norse", "spikingjelly")
INSTALLED = [name for name in FOREIGN if all(find_spec(p) for p in (name, "nirtorch"))]


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    return (rng.normal(size=shape) * scale).astype(np.float32)


def chain(T: int, shape: tuple[int, ...], *ops: Op, kind: Kind = Kind.COUNT) -> Graph:
    """Ops one after the other."""
    b = GraphBuilder(T)
    x = b.add("input", ir.Input(shape, kind))
    for i, op in enumerate(ops):
        x = b.add(f"{type(op).__name__.lower()}.{i}", op, x)
    return b.finish(x)


def conv_net(
    T: int = 10, *, neuron: ir.Neuron | None = None, pool: Op | None = None, gain: float = 1.0
) -> Graph:
    """Two convolutions with neurons and pooling and two dense layers for 2 x 34 x 34 events."""
    rng = np.random.default_rng(0)
    neuron = neuron or ir.LIF()
    pool = pool or ir.MaxPool2d((2, 2), (2, 2))
    drive = 1 / (neuron.v_threshold - neuron.v_rest) / gain
    return chain(
        T,
        (2, 34, 34),
        ir.Conv2d(
            normal(rng, 8, 2, 3, 3, scale=0.6 / drive),
            normal(rng, 8, scale=0.1 / drive),
            padding=(1, 1, 1, 1),
        ),
        neuron,
        pool,
        ir.Conv2d(
            normal(rng, 12, 8, 3, 3, scale=0.6 / drive), normal(rng, 12, scale=0.1 / drive), stride=(2, 2)
        ),
        neuron,
        ir.Flatten(),
        ir.Linear(normal(rng, 20, 12 * 64, scale=0.3 / drive), normal(rng, 20, scale=0.1 / drive)),
        neuron,
        ir.Linear(normal(rng, 10, 20, scale=2.0 / drive)),
        neuron,
        ir.TimeMean(),
    )


def small(**changes: Any) -> Graph:
    """A small network with TCJA in its last two blocks."""
    return zoo.build("events34", channels=(6, 8, 8), hidden=24, voters=2, T=6, **changes)


def frames_of(graph: Graph, n: int = 2, count: int = 2) -> list[Any]:
    return [synthetic_frames(graph, n, seed=seed) for seed in range(count)]


def needs(runner: str) -> None:
    pytest.importorskip({"norse": "norse.torch", "spikingjelly": "spikingjelly"}[runner])
    pytest.importorskip("nirtorch", reason="nirtorch is not installed")


def counts(graph: Graph, frames: RECORDINGS) -> dict[str, int]:
    found: dict[str, int] = {}

    def observe(node: Node, value: torch.Tensor) -> None:
        if isinstance(node.op, ir.Neuron):
            found[node.name] = int(value.sum())

    run(graph, frames, observe=observe)
    return found


class Recorder:
    """Spikes of modules, step by step."""

    def __init__(self, net: nn.Module, kinds: tuple[type, ...]) -> None:
        self.spikes: dict[str, list[Array]] = {}
        for name, module in net.named_modules():
            if isinstance(module, kinds):
                self.spikes[name] = []
                module.register_forward_hook(
                    lambda m, i, o, name=name: self.spikes[name].append(
                        (o[0] if isinstance(o, tuple) else o).detach().numpy()
                    )
                )

    def counts(self) -> dict[str, int]:
        return {name: int(np.sum(values)) for name, values in self.spikes.items()}

    def stacked(self) -> dict[str, Array]:
        return {name: np.concatenate([v[None] for v in values]) for name, values in self.spikes.items()}
