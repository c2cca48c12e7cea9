"""Time as a plain axis and back: what attention over whole windows needs of reshapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tcja_deploy.errors import GraphError
from tcja_deploy.ir import GraphBuilder, Kind, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.simplify import simplify
from tcja_deploy.runtime.sequence import run

T, N = 4, 3


def through_steps(op: ir.Reshape, signal: Signal, x: np.ndarray) -> np.ndarray:
    """The op one frame at a time; an input that does not stream goes in once."""
    state, out = op.initial_state(signal, T=T, N=N), []
    for frame in x if signal.streams else [x]:
        frames, state = op.step((frame,), state)
        out += frames
    return np.stack(out) if op.infer(signal, T=T).streams else out[0]


@pytest.mark.parametrize(
    ("dims", "op"),
    [
        (("T", "N", 2, 3), ir.Reshape((T, "N", 6), (1,))),  # time becomes a plain axis
        (("N", "T", 2, 3), ir.Reshape(("N", T * 2, 3), (0,))),  # time and channels become one axis
        ((T, "N", 6), ir.Reshape(("T", "N", 2, 3), (0, 1))),  # a plain axis becomes time
        (("N", T, 2), ir.Reshape(("N", "T", 2, 1), (0, 1))),
        (("T", "N", T), ir.Reshape((T, "N", "T"), (1, 2))),  # another axis becomes time
    ],
)
def test_reshape_keeps_every_element(dims: tuple[int | str, ...], op: ir.Reshape) -> None:
    signal = Signal(dims, Kind.REAL)  # type: ignore[arg-type]
    x = np.arange(np.prod(signal.shape(T, N)), dtype=np.float32).reshape(signal.shape(T, N))
    result = op.infer(signal, T=T)
    y = op.apply(x)
    assert y.shape == result.shape(T, N)
    assert np.array_equal(y.ravel(), x.ravel())
    assert np.array_equal(through_steps(op, signal, x), y)


@pytest.mark.parametrize(
    ("dims", "op"),
    [
        (("T", "N", 6), ir.Reshape(("T", 6, "N"), (0, 1))),  # elements would change their sample
        (("T", "N", 6), ir.Reshape(("T", 2, 3), (0,))),  # the samples would be gone
        (("N", 5, 2), ir.Reshape(("N", "T", 2), (0, 1))),  # an axis of another length than T
        (("N", "T", 2), ir.Reshape(("T", "N", 2), (1, 0))),  # not a reshape
        (("N", 2, T), ir.Reshape(("N", "T", 2), (0, 2))),  # elements would change their step
    ],
)
def test_reshape_refuses_what_would_mix_elements(dims: tuple[int | str, ...], op: ir.Reshape) -> None:
    with pytest.raises(GraphError):
        op.infer(Signal(dims, Kind.REAL), T=T)  # type: ignore[arg-type]


def test_simplify_merges_reshapes_only_where_time_can_be_followed() -> None:
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((2, 3)))
    x = b.add("permute", ir.Permute((1, 0, 2, 3)), x)
    a = b.add("kept1", ir.Reshape(("N", "T", 6), (0, 1)), x)
    a = b.add("kept2", ir.Reshape(("N", "T", 3, 2), (0, 1)), a)  # with the one before: one reshape
    c = b.add("plain", ir.Reshape(("N", T * 6), (0,)), x)
    c = b.add("named", ir.Reshape(("N", "T", 3, 2), (0, 1)), b.add("split", ir.Reshape(("N", T, 6), (0,)), c))
    graph = b.finish(b.add("sum", ir.Add(), a, c))
    smaller = simplify(graph)
    frames = np.random.default_rng(0).poisson(1, (T, N, 2, 3)).astype(np.float32)
    assert torch.equal(run(graph, frames), run(smaller, frames))
    assert torch.equal(run(graph, frames), 2 * torch.from_numpy(frames).transpose(0, 1).reshape(N, T, 3, 2))
    assert "kept1" not in {n.name for n in smaller}
    assert sum(isinstance(n.op, ir.Reshape) for n in smaller) == 3
