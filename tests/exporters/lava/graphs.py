"""Graphs that exercise the lowering."""

from __future__ import annotations

import numpy as np

from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir


class Builder:
    """Random weights, one node after another."""

    def __init__(self, shape, T=6, kind=Kind.COUNT, seed=0):
        self.rng = np.random.default_rng(seed)
        self.graph = GraphBuilder(T)
        self.x = self.graph.add("input", ir.Input(tuple(shape), kind))
        self.number = 0

    def add(self, op, name=None):
        self.number += 1
        self.x = self.graph.add(name or f"{self.number}.{type(op).__name__.lower()}", op, self.x)
        return self

    @property
    def features(self):
        return self.graph.signal(self.x).features

    def weights(self, *shape, gain=1.0):
        bound = gain * 2.4 / np.sqrt(np.prod(shape[1:]))
        return self.rng.uniform(-0.7 * bound, bound, shape).astype(np.float32)

    def conv(self, channels, kernel=(3, 3), padding=(1, 1, 1, 1), bias=True, groups=1, gain=1.0, **geometry):
        weight = self.weights(channels, self.features[0] // groups, *kernel, gain=gain)
        offset = self.rng.uniform(-0.2, 0.4, channels).astype(np.float32) if bias else None
        return self.add(ir.Conv2d(weight, offset, padding=padding, groups=groups, **geometry))

    def linear(self, outputs, bias=True, gain=3.0):
        (size,) = self.features
        offset = self.rng.uniform(-0.2, 0.4, outputs).astype(np.float32) if bias else None
        return self.add(ir.Linear(self.weights(outputs, size, gain=gain), offset))

    def lif(self, **rule):
        return self.add(ir.LIF(**rule))

    def pool(self, kind, kernel, stride=None, padding=(0, 0), **more):
        op = {"max": ir.MaxPool2d, "avg": ir.AvgPool2d}[kind]
        return self.add(op(kernel, stride or kernel, padding, **more))

    def tcja(self, k_t=3, k_c=2, fusion="multiply"):
        channels, T = self.features[0], self.graph.T
        tla = self.rng.normal(0, 0.4, (channels, channels, k_t)).astype(np.float32) if k_t else None
        cla = self.rng.normal(0, 0.6, (T, T, k_c)).astype(np.float32) if k_c else None
        return self.add(ir.TCJA(tla, cla, fusion))

    def done(self) -> Graph:
        return self.graph.finish(self.x)


def frames_for(graph: Graph, samples=2, seed=0):
    rng = np.random.default_rng(seed)
    shape = (graph.T, samples, *graph.input_shape)
    if graph.input.signal.kind is Kind.REAL:
        return np.repeat(rng.integers(0, 256, (1, *shape[1:])) / 255, graph.T, 0).astype(np.float32)
    spikes = rng.random(shape) < 0.3
    return (spikes * (1 if graph.input.signal.kind is Kind.BINARY else rng.integers(1, 4, shape))).astype(
        np.float32
    )
