"""Random graphs for the tests of the stream, and a stream run as arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.stream import Emission, Stepper

SMALL: dict[str, dict[str, Any]] = {
    "dvs128": {"channels": 8},
    "ncaltech101": {"channels": [4, 4, 6, 6, 8], "hidden": 32},
    "cifar10dvs": {"channels": [8] * 8},
    "fashion_mnist": {"channels": [8, 8], "hidden": 32},
}
"""The zoo's networks small enough for tests."""


def strong(graph: Graph) -> Graph:
    """The graph with attention ten times as strong: gates of untrained networks hardly leave one half."""
    b = GraphBuilder(graph.T)
    for node in graph:
        op = node.op
        if isinstance(op, ir.TCJA):
            op = replace(
                op, tla=None if op.tla is None else op.tla * 10, cla=None if op.cla is None else op.cla * 10
            )
        b.add(node.name, op, *node.inputs)
    return b.finish(graph.output, graph.source)


DISTANCE = 1e-4
"""How near to the threshold a membrane must be for rounding to decide: 2 n eps |w| |x| with eps = 2**-24 is below it for
n = 2048 inputs (the widest layer of the zoo) and membranes of the order of 1."""


def run_stream(
    stepper: Stepper, frames: np.ndarray, windows: int = 1
) -> tuple[list[torch.Tensor], dict[str, np.ndarray]]:
    """Push `windows` windows of frames, then silence until all their results are out.

    Returns the result of each window, shaped like the graph's output, and for each value its frames
    `[windows T, N, ...]`.
    """
    emissions, values = [], {}
    T = stepper.plan.T

    def observe(name: str, index: int, item: torch.Tensor) -> None:
        assert index == (len(values.get(name, ())) % T if stepper.plan.signals[name].streams else 0)
        values.setdefault(name, []).append(item.numpy())

    needed = windows * (T if stepper.plan.streams else 1)
    for i in range(1000):
        frame = frames[i] if i < windows * T else np.zeros_like(frames[0])
        emissions += stepper.push(frame, observe=observe)
        if i >= windows * T - 1 and len(emissions) >= needed:
            break
    results = []
    for w in range(windows):
        mine: list[Emission] = [e for e in emissions[:needed] if e.window == w]
        if stepper.plan.streams:
            assert [e.frame for e in mine] == list(range(T))
            results.append(torch.stack([e.value for e in mine]))
        else:
            assert [e.frame for e in mine] == [None]
            results.append(mine[0].value)
    return results, {name: np.stack(items[: windows * T]) for name, items in values.items()}


class _Drawing:
    """Adds random layers to a graph."""

    def __init__(self, draw: Callable, T: int) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.b = GraphBuilder(T)
        shape = (draw(st.integers(1, 3)), draw(st.integers(4, 7)), draw(st.integers(4, 7)))
        self.x = self.b.add(
            "input", ir.Input(shape, draw(st.sampled_from([Kind.COUNT, Kind.BINARY, Kind.REAL])))
        )
        self.count = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.b.signal(self.x).features

    def weight(self, *shape: int, gain: float = 2.0) -> np.ndarray:
        return (self.rng.normal(0.3, 1, shape) * gain / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def add(self, op: ir.Op, *inputs: str) -> str:
        self.count += 1
        self.x = self.b.add(f"{type(op).__name__.lower()}.{self.count}", op, *(inputs or (self.x,)))
        return self.x

    def conv(self) -> None:
        out, k = self.draw(st.integers(1, 4)), self.draw(st.sampled_from([1, 3]))
        bias = self.weight(out, 1)[:, 0] if self.draw(st.booleans()) else None
        self.add(ir.Conv2d(self.weight(out, self.shape[0], k, k), bias, padding=(k // 2,) * 4))
        if self.draw(st.booleans()):
            stats = [self.rng.uniform(0.5, 1.5, out).astype(np.float32) for _ in range(4)]
            self.add(ir.BatchNorm2d(*stats))

    def neuron(self) -> None:
        reset, strict = self.draw(st.sampled_from([0.0, None, -0.1])), self.draw(st.booleans())
        decay_input = self.draw(st.booleans())
        self.add(
            self.draw(
                st.sampled_from(
                    [
                        ir.LIF(v_reset=reset, strict=strict, decay_input=decay_input),
                        ir.PLIF(v_reset=reset, strict=strict, decay=0.3, decay_input=decay_input),
                        ir.IF(v_reset=reset, strict=strict, v_threshold=1.5),
                    ]
                )
            )
        )

    def tcja(self) -> None:
        c, T = self.shape[0], self.b.T
        k_t, k_c = self.draw(
            st.sampled_from([(4, 4), (2, 3), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1), (0, 4), (5, 2)])
        )
        tla = self.weight(c, c, k_t) if k_t else None
        cla = self.weight(T, T, k_c) if k_c else None
        self.add(ir.TCJA(tla, cla, self.draw(st.sampled_from(["multiply", "add"]))))

    def pool(self) -> None:
        if min(self.shape[1:]) >= 2:
            kind = self.draw(st.sampled_from([ir.MaxPool2d, ir.AvgPool2d]))
            self.add(kind((2, 2), (2, 2)))

    def residual(self) -> None:
        skip, c = self.x, self.shape[0]
        self.neuron()
        if self.draw(st.booleans()):
            self.tcja()
        self.add(ir.Conv2d(self.weight(c, c, 3, 3), padding=(1, 1, 1, 1)))
        self.add(ir.Add(), skip, self.x)

    def window_attention(self) -> None:
        x = self.x
        self.add(ir.Reduce("mean", (3, 4)))
        self.add(ir.Permute((1, 2, 0)))
        self.add(ir.Conv1d(self.weight(self.shape[0], self.shape[0], 3), padding=(1, 1)))
        self.add(ir.Sigmoid())
        self.add(ir.Permute((2, 0, 1)))
        self.add(ir.Reshape(("T", "N", self.b.signal(x).features[0], 1, 1), (0, 1)))
        self.add(ir.Mul(), x, self.x)

    def cross_attention(self) -> None:
        """A two-dimensional convolution over the [T, C] plane."""
        x, c = self.x, self.shape[0]
        self.add(ir.Reduce("mean", (3, 4)))
        self.add(ir.Permute((1, 0, 2)))
        self.add(ir.Reshape(("N", 1, "T", c), (0, 1)))
        self.add(ir.Conv2d(self.weight(1, 1, 3, 3), padding=(1, 1, 1, 1)))
        self.add(ir.Sigmoid())
        self.add(ir.Permute((2, 0, 3, 1)))
        self.add(ir.Reshape(("T", "N", c, 1, 1), (0, 1)))
        self.add(ir.Mul(), x, self.x)

    def channel_attention(self) -> None:
        """One gate per channel for the whole window, with a time axis of length 1."""
        x = self.x
        self.add(ir.Reduce(self.draw(st.sampled_from(["mean", "max"])), (0, 3, 4), keepdims=True))
        self.add(ir.Sigmoid())
        self.add(ir.Mul(), self.x, x)

    def mean_attention(self) -> None:
        x = self.x
        self.add(ir.TimeMean())
        self.add(ir.Sigmoid())
        self.add(ir.Mul(), x, self.x)

    def concat(self) -> None:
        self.add(ir.Concat(2), self.x, self.add(ir.ReLU(), self.x))

    def head(self) -> None:
        self.add(ir.Flatten())
        self.add(ir.Linear(self.weight(6, self.shape[0]), self.weight(6, 1)[:, 0]))
        if self.draw(st.booleans()):
            self.neuron()
        how = self.draw(st.sampled_from(["frames", "mean", "vote", "linear"]))
        if how != "frames":
            self.add(ir.TimeMean())
        if how == "vote":
            self.add(ir.Vote(2))
        if how == "linear":
            self.add(ir.Linear(self.weight(3, 6)))


@st.composite
def graphs(draw: Callable, *, generic: bool = True) -> Graph:
    """Networks of up to five random layers, with TCJA blocks, residual branches and attention that needs a window."""
    d = _Drawing(draw, draw(st.integers(1, 6)))
    layers = ["conv", "neuron", "tcja", "pool", "residual", "concat"]
    layers += (
        ["window_attention", "mean_attention", "cross_attention", "channel_attention"] if generic else []
    )
    for name in draw(st.lists(st.sampled_from(layers), min_size=1, max_size=5)):
        getattr(d, name)()
    if draw(st.booleans()):
        d.head()
    return d.b.finish(d.x)


def random_frames(graph: Graph, windows: int, samples: int, seed: int) -> np.ndarray:
    """Frames `[windows T, N, ...]` of the graph's input kind."""
    rng = np.random.default_rng(seed)
    shape = (windows * graph.T, samples, *graph.input_shape)
    kind = graph.input.signal.kind
    if kind is Kind.REAL:
        return rng.normal(0, 1, shape).astype(np.float32)
    counts = rng.poisson(0.6, shape)
    return (np.minimum(counts, 1) if kind is Kind.BINARY else counts).astype(np.float32)
