"""Recognising TCJA: the same block in many spellings, and near misses that have to stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.ir import Graph, GraphBuilder, Kind, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.attention import recognise_tcja
from tcja_deploy.passes.simplify import simplify
from tcja_deploy.runtime.sequence import run

T, C, H, W = 4, 3, 2, 6
Fusion = Literal["multiply", "add"]


class Spelling:
    """Writes one block with generic ops; what is left open by the equations is chosen by `pick`."""

    def __init__(self, b: GraphBuilder, prefix: str, pick: Callable[[int], int]) -> None:
        self.b, self.prefix, self.pick, self.count = b, prefix, pick, 0

    def add(self, op: Op, *inputs: str) -> str:
        self.count += 1
        return self.b.add(f"{self.prefix}op{self.count}", op, *inputs)

    def dims(self, x: str) -> tuple[Any, ...]:
        return self.b.signal(x).dims

    def turn(self, x: str, *wanted: Any) -> str:
        """The same value with axes in another order, with a detour now and then."""
        dims = self.dims(x)
        order = tuple(dims.index(d) for d in wanted)
        if self.pick(3) == 0:
            detour = (1, 2, 0, *range(3, len(dims)))
            x = self.add(ir.Permute(detour), x)
            order = tuple(detour.index(i) for i in order)
        return x if order == tuple(range(len(order))) else self.add(ir.Permute(order), x)

    def reshape(self, x: str, *dims: Any) -> str:
        return self.add(
            ir.Reshape(dims, tuple(i for i, d in enumerate(self.dims(x)) if isinstance(d, str))), x
        )

    def squeeze(self, x: str) -> str:
        """Mean over space, as `[T, N, C]` or `[N, T, C]`."""
        t, n, c, h, w = self.dims(x)
        how = self.pick(7)
        if how == 0:
            return self.add(ir.Reduce("mean", (3, 4)), x)
        if how == 1:
            return self.reshape(self.add(ir.Reduce("mean", (3, 4), True), x), t, n, c)
        if how == 2:
            return self.add(ir.Reduce("mean", (3,)), self.add(ir.Reduce("mean", (4,)), x))
        if how == 3:
            return self.reshape(self.add(ir.AdaptiveAvgPool2d((1, 1)), x), t, n, c)
        if how == 4:
            return self.reshape(self.add(ir.AvgPool2d((h, w), (h, w)), x), t, n, c)
        if how == 5:
            return self.add(ir.Reduce("mean", (3,)), self.reshape(x, t, n, c, h * w))
        return self.add(ir.Reduce("mean", (3, 4)), self.turn(x, "N", "T", c, h, w))

    def convolved(self, x: str, weight: np.ndarray, *dims: Any) -> str:
        """Convolution of `[N, *dims]`, given back as `[T, N, C]` or in the order it came."""
        y = self.turn(x, "N", *dims)
        y = self.add(ir.Conv1d(weight, padding=ir.same_padding(weight.shape[2])), y)
        return self.turn(y, "T", "N", next(d for d in dims if d != "T")) if self.pick(2) else y

    def gated(self, x: str, maps: list[str], fusion: Fusion) -> str:
        c = self.dims(x)[2]
        early = self.pick(2)
        wanted = ("T", "N", c) if self.pick(2) else ("N", "T", c)
        maps = [self.turn(m, *wanted) for m in maps]
        joint = maps[0]
        if len(maps) == 2:
            pair = maps if self.pick(2) else maps[::-1]
            joint = self.add(ir.Mul() if fusion == "multiply" else ir.Add(), *pair)
        gate = self.add(ir.Sigmoid(), joint) if early else joint
        gate = self.reshape(self.turn(gate, "T", "N", c), "T", "N", c, 1, 1)
        gate = gate if early else self.add(ir.Sigmoid(), gate)
        return self.add(ir.Mul(), *((x, gate) if self.pick(2) else (gate, x)))

    def block(self, x: str, op: ir.TCJA) -> str:
        c = self.dims(x)[2]
        z = self.squeeze(x)
        maps = []
        if op.tla is not None:
            maps.append(self.convolved(z, op.tla, c, "T"))
        if op.cla is not None:
            again = z if self.pick(2) else self.squeeze(x)
            maps.append(self.convolved(again, op.cla, "T", c))
        return self.gated(x, maps, op.fusion)


def kernels(k_t: int, k_c: int, fusion: Fusion = "multiply", *, size: float = 1.0, seed: int = 0) -> ir.TCJA:
    rng = np.random.default_rng(seed)
    tla = rng.normal(0, size, (C, C, k_t)).astype(np.float32) if k_t else None
    cla = rng.normal(0, size, (T, T, k_c)).astype(np.float32) if k_c else None
    return ir.TCJA(tla, cla, fusion)


def start(shape: tuple[int, int, int] = (C, H, W), steps: int = T) -> tuple[GraphBuilder, str]:
    b = GraphBuilder(steps)
    return b, b.add("spikes", ir.LIF(), b.add("input", ir.Input(shape, Kind.REAL)))


def frames(graph: Graph) -> np.ndarray:
    return np.random.default_rng(5).normal(1, 2, (graph.T, 2, *graph.input_shape)).astype(np.float32)


def recognised(graph: Graph) -> list[ir.TCJA]:
    found = recognise_tcja(graph)
    a, b = run(graph, frames(graph)).numpy(), run(found, frames(graph)).numpy()
    # Sums in another order inside a sigmoid: a few units in the last place.
    assert np.allclose(a, b, rtol=1e-5, atol=1e-5)
    blocks = [n.op for n in found if isinstance(n.op, ir.TCJA)]
    if not blocks:
        assert found.hash == graph.hash, "nothing was recognised, but something was changed"
    return blocks


@given(
    st.data(),
    st.sampled_from([(4, 4), (2, 4), (1, 1), (3, 5), (4, 0), (1, 0), (0, 4), (0, 2)]),
    st.sampled_from(["multiply", "add"]),
    st.sampled_from([1.0, 1e-3]),
    st.booleans(),
)
@settings(max_examples=150)
def test_any_spelling(
    data: st.DataObject, k: tuple[int, int], fusion: Fusion, size: float, simple: bool
) -> None:
    op = kernels(*k, fusion, size=size)
    b, x = start()
    y = Spelling(b, "conv.3.", lambda n: data.draw(st.integers(0, n - 1))).block(x, op)
    graph = b.finish(y, {"format": "test"})
    graph = simplify(graph) if simple else graph
    found = recognise_tcja(graph)
    assert [type(n.op).__name__ for n in found] == ["Input", "LIF", "TCJA"]
    assert (found.output, found.source) == ("conv.3", {"format": "test"})
    (block,) = recognised(graph)
    for name in ("tla", "cla"):
        mine, theirs = getattr(op, name), getattr(block, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or np.array_equal(mine, theirs)
    assert 0 in k or block.fusion == fusion


def test_blocks_in_one_module_and_one_after_the_other() -> None:
    """Both products stand in the same module: the first takes its name, the second keeps its own."""
    b, x = start()
    first = Spelling(b, "net.a_", lambda n: 0)
    second = Spelling(b, "net.b_", lambda n: n - 1)
    y = second.block(first.block(x, kernels(2, 3)), kernels(4, 0, seed=1))
    graph = b.finish(y)
    names = [n.name for n in recognise_tcja(graph) if isinstance(n.op, ir.TCJA)]
    assert names[0] == "net"
    assert names[1].startswith("net.b_op")
    assert len(recognised(graph)) == 2


def test_a_name_that_is_taken() -> None:
    b = GraphBuilder(T)
    x = b.add("att", ir.LIF(), b.add("input", ir.Input((C, H, W), Kind.REAL)))
    graph = b.finish(Spelling(b, "att.", lambda n: 0).block(x, kernels(4, 4)))
    assert [n.name for n in recognise_tcja(graph)][1] == "att"
    assert recognise_tcja(graph).output.startswith("att.op")


def test_a_gate_that_others_read_stays_beside_the_block() -> None:
    b, x = start()
    s = Spelling(b, "m.", lambda n: 0)
    y = s.block(x, kernels(4, 4))
    gate = next(i for i in b[y].inputs if i != x)
    graph = b.finish(b.add("sum", ir.Add(), y, b.add("more", ir.ReLU(), gate)))
    assert len(recognised(graph)) == 1
    assert any(isinstance(n.op, ir.Sigmoid) for n in recognise_tcja(graph))


@pytest.mark.parametrize(
    ("channels", "steps", "height", "width"),
    [(4, 4, 2, 3), (4, 4, 4, 4), (4, 3, 2, 2), (4, 3, 4, 4), (1, 3, 2, 2), (3, 1, 2, 2), (1, 1, 1, 1)],
)
@pytest.mark.parametrize("k", [(4, 4), (2, 0), (0, 3)])
def test_axes_of_equal_length(channels: int, steps: int, height: int, width: int, k: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    tla = rng.normal(0, 1, (channels, channels, k[0])).astype(np.float32) if k[0] else None
    cla = rng.normal(0, 1, (steps, steps, k[1])).astype(np.float32) if k[1] else None
    b, x = start((channels, height, width), steps)
    graph = b.finish(Spelling(b, "m.", lambda n: 0).block(x, ir.TCJA(tla, cla)))
    (block,) = recognised(graph)
    assert (block.k_t, block.k_c) == k


# -- near misses -------------------------------------------------------------------------------------------------------------
def by_hand(
    *,
    squeeze: tuple[Op, ...] = (ir.Reduce("mean", (3, 4)),),
    tla: Op | None = None,
    cla: Op | None = None,
    joint: Op | None = None,
    before_sigmoid: Op | None = None,
    gate: Op | None = None,
    shape: tuple[int, int, int] = (C, H, W),
) -> Graph:
    """The plain spelling, with one part replaced."""
    usual = kernels(4, 2)
    assert usual.tla is not None
    assert usual.cla is not None
    b, x = start(shape)
    z = x
    for i, op in enumerate(squeeze):
        z = b.add(f"m.squeeze{i}", op, z)
    c = shape[0]
    tm = b.add("m.channels_time", ir.Permute((1, 2, 0)), z)
    tm = b.add("m.tla", tla or ir.Conv1d(usual.tla, padding=(1, 2)), tm)
    tm = b.add("m.tm", ir.Permute((2, 0, 1)), tm)
    cm = b.add("m.time_channels", ir.Permute((1, 0, 2)), z)
    cm = b.add("m.cla", cla or ir.Conv1d(usual.cla, padding=(0, 1)), cm)
    cm = b.add("m.cm", ir.Permute((1, 0, 2)), cm)
    y = b.add("m.joint", joint or ir.Mul(), tm, cm)
    if before_sigmoid is not None:
        y = b.add("m.more", before_sigmoid, y)
    y = b.add("m.gate", gate or ir.Sigmoid(), y)
    y = b.add("m.shape", ir.Reshape(("T", "N", c, 1, 1), (0, 1)), y)
    return b.finish(b.add("m.product", ir.Mul(), x, y))


def weight(*shape: int, size: float = 1.0) -> np.ndarray:
    return np.random.default_rng(3).normal(0, size, shape).astype(np.float32)


def test_the_plain_spelling_is_recognised() -> None:
    assert len(recognised(by_hand())) == 1


NEAR_MISSES: dict[str, Graph] = {
    "a bias along time": by_hand(tla=ir.Conv1d(weight(C, C, 4), weight(C), padding=(1, 2))),
    "a tiny bias": by_hand(tla=ir.Conv1d(weight(C, C, 4), weight(C, size=1e-6), padding=(1, 2))),
    "a bias along channels": by_hand(cla=ir.Conv1d(weight(T, T, 2), weight(T), padding=(0, 1))),
    "causal padding": by_hand(tla=ir.Conv1d(weight(C, C, 4), padding=(3, 0))),
    "padding on the other side": by_hand(cla=ir.Conv1d(weight(T, T, 2), padding=(1, 0))),
    "dilation": by_hand(tla=ir.Conv1d(weight(C, C, 3), padding=(2, 2), dilation=2)),
    "groups": by_hand(tla=ir.Conv1d(weight(C, 1, 3), padding=(1, 1), groups=C)),
    "the largest value instead of the mean": by_hand(squeeze=(ir.Reduce("max", (3, 4)),)),
    "the sum instead of the mean": by_hand(squeeze=(ir.Reduce("sum", (3, 4)),)),
    "a mean that leaves out the border": by_hand(squeeze=(ir.AvgPool2d((1, 5), (1, 5)), ir.Reduce("mean", (3, 4)))),
    "a mean of the largest values": by_hand(squeeze=(ir.Reduce("max", (4,)), ir.Reduce("mean", (3,)))),
    "a scale in between": by_hand(before_sigmoid=ir.Affine(0.5)),
    "an offset in between": by_hand(before_sigmoid=ir.Affine(1.0, 1.0)),
    "no sigmoid": by_hand(gate=ir.ReLU()),
    "a layer on both maps": by_hand(joint=ir.Concat(2), before_sigmoid=ir.Linear(weight(C, 2 * C))),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_stay_generic(name: str) -> None:
    assert recognised(NEAR_MISSES[name]) == []


def test_stride_stays_generic() -> None:
    """A stride shortens the map; only a kernel over all channels keeps a length that broadcasts."""
    b, x = start()
    z = b.add("m.z", ir.Permute((1, 0, 2)), b.add("m.squeeze", ir.Reduce("mean", (3, 4)), x))
    z = b.add("m.cla", ir.Conv1d(weight(T, T, 1), stride=2), z)
    z = b.add("m.back", ir.Permute((1, 0, 2)), z)
    z = b.add("m.full", ir.Linear(weight(C, 2)), z)
    gate = b.add("m.shape", ir.Reshape(("T", "N", C, 1, 1), (0, 1)), b.add("m.gate", ir.Sigmoid(), z))
    assert recognised(b.finish(b.add("m.product", ir.Mul(), x, gate))) == []


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4])
def test_positions_are_no_channels_even_if_there_are_as_many(size: float) -> None:
    """C = H W: means over channels, convolved over positions. With small weights all gates are close to one half."""
    c = H * W
    b, x = start((c, H, W))
    z = b.add("m.mean", ir.Reduce("mean", (2,)), x)
    z = b.add("m.positions", ir.Reshape(("T", "N", H * W), (0, 1)), z)
    z = b.add("m.turn", ir.Permute((1, 2, 0)), z)
    z = b.add("m.conv", ir.Conv1d(weight(c, c, 3, size=size), padding=(1, 1)), z)
    z = b.add("m.back", ir.Permute((2, 0, 1)), b.add("m.gate", ir.Sigmoid(), z))
    gate = b.add("m.shape", ir.Reshape(("T", "N", c, 1, 1), (0, 1)), z)
    assert recognised(b.finish(b.add("m.product", ir.Mul(), x, gate))) == []


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4])
def test_channels_are_no_time_even_if_there_are_as_many(size: float) -> None:
    """C = T, and the two axes change roles on the way: the names are as in a block, the numbers are not."""
    b, x = start((T, H, W))
    z = b.add("m.mean", ir.Reduce("mean", (3, 4)), x)
    z = b.add("m.roles", ir.Reshape((T, "N", "T"), (1, 2)), z)  # channels are called time, and time channels
    z = b.add("m.turn", ir.Permute((1, 0, 2)), z)
    z = b.add("m.conv", ir.Conv1d(weight(T, T, 3, size=size), padding=(1, 1)), z)
    z = b.add("m.gate", ir.Sigmoid(), b.add("m.back", ir.Permute((2, 0, 1)), z))
    gate = b.add("m.shape", ir.Reshape(("T", "N", T, 1, 1), (0, 1)), z)
    assert recognised(b.finish(b.add("m.product", ir.Mul(), x, gate))) == []


def test_a_gate_made_of_another_value_stays_generic() -> None:
    b, x = start()
    other = b.add("other", ir.IF(), "input")
    s = Spelling(b, "m.", lambda n: 0)
    z = s.squeeze(other)
    tla = kernels(4, 0).tla
    assert tla is not None
    y = s.gated(x, [s.convolved(z, tla, C, "T")], "multiply")
    assert recognised(b.finish(y)) == []
    assert len(recognised(b.finish(s.gated(other, [s.convolved(z, tla, C, "T")], "multiply")))) == 1
