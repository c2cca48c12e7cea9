"""Networks for the tests of NIR, with weights such that every layer spikes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Graph, GraphBuilder, Kind, Op
from tcja_deploy.ir import ops as ir

Array = NDArray[np.float32]


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
