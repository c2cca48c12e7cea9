"""Small networks and data for the tests of counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tcja_deploy.energy import measure as measuring
from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.price.conventions import CONVENTIONS, AccountingOptions, snn_lines
from tcja_deploy.energy.price.line import Line
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Node, Op, Signal, Value
from tcja_deploy.ir import ops as ir

_ASIC = load_profile("asic45")


class Stored:
    """Recordings in memory, `[n, T, ...]`."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = np.asarray(frames, np.float32)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames[index], None


def measured(graph: Graph, frames: np.ndarray, batch_size: int = 2) -> Measured:
    """Counts over frames `[n, T, ...]`."""
    return measuring.measure(graph, Stored(frames), batch_size=batch_size)


def one_layer(op: ir.Conv2d, shape: tuple[int, ...], T: int = 1, kind: Kind = Kind.BINARY) -> Graph:
    """Input and one op with weights."""
    b = GraphBuilder(T)
    return b.finish(b.add("layer", op, b.add("input", ir.Input(shape, kind))))


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random weights without zeros."""
    return (rng.choice([-1, 1], shape) * rng.uniform(0.1, 1, shape)).astype(np.float32)


def spikes(rng: np.random.Generator, *shape: int, rate: float = 0.3) -> np.ndarray:
    """Random binary frames."""
    return (rng.random(shape) < rate).astype(np.float32)


def small_snn(T: int = 4, *, kind: Kind = Kind.COUNT, bias: bool = False, seed: int = 5) -> Graph:
    """Conv-BN-LIF-MaxPool, Conv-BN-LIF-TCJA-MaxPool, Flatten, Linear, LIF, mean: every sort of work of the
    paper's nets."""
    rng = np.random.default_rng(seed)

    def norm(c: int) -> ir.BatchNorm2d:
        stats = (np.ones(c), np.zeros(c) + 0.1, np.zeros(c), np.full(c, 0.3))
        return ir.BatchNorm2d(*(a.astype(np.float32) for a in stats))

    same = (1, 1, 1, 1)
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((2, 8, 12), kind))
    x = b.add(
        "conv1", ir.Conv2d(weights(rng, 4, 2, 3, 3), weights(rng, 4) if bias else None, padding=same), x
    )
    x = b.add("lif1", ir.LIF(), b.add("bn1", norm(4), x))
    x = b.add("pool1", ir.MaxPool2d((2, 2), (2, 2)), x)
    x = b.add("conv2", ir.Conv2d(weights(rng, 6, 4, 3, 3), padding=same), x)
    x = b.add("lif2", ir.LIF(), b.add("bn2", norm(6), x))
    x = b.add("tcja", ir.TCJA(tla=weights(rng, 6, 6, 2), cla=weights(rng, T, T, 3)), x)
    x = b.add("pool2", ir.MaxPool2d((2, 2), (2, 2)), x)
    x = b.add("flat", ir.Flatten(), x)
    x = b.add("fc", ir.Linear(weights(rng, 20, 36)), x)
    x = b.add("lif3", ir.LIF(), x)
    x = b.add("mean", ir.TimeMean(), x)
    return b.finish(b.add("vote", ir.Vote(3), x))


@dataclass(frozen=True, eq=False)
class Mystery(Op):
    """An op that the counting rules have never heard of."""

    def infer(self, *inputs: Signal, T: int) -> Signal:
        return inputs[0]


def with_unknown_op(graph: Graph) -> Graph:
    """The graph with such an op, called `mystery`, at its end."""
    last = graph[graph.output]
    node = Node("mystery", Mystery(), (last.name,), Value("mystery", last.signal))
    return Graph(graph.T, (*graph.nodes, node), "mystery")


def total(lines: Sequence[Line]) -> float:
    """Mean energy in pJ."""
    return sum(float(e.mean()) for line in lines if (e := line.energies()) is not None)


def lines_of(m: Measured, name: str, profile=_ASIC, **options) -> list[Line]:
    """Lines of a convention."""
    return snn_lines(m, CONVENTIONS[name], profile, AccountingOptions(**options))
