"""Made-up input: of the right kind, the same for the same seed, and lively."""

from __future__ import annotations

import numpy as np
import pytest

from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames


def graph(shape: tuple[int, ...], kind: Kind, T: int = 6) -> Graph:
    b = GraphBuilder(T)
    return b.finish(b.add("input", ir.Input(shape, kind)))


@pytest.mark.parametrize("shape", [(2, 34, 34), (2, 18, 24), (1, 5, 5), (7,), (3, 4)])
@pytest.mark.parametrize("kind", list(Kind))
def test_frames(shape: tuple[int, ...], kind: Kind) -> None:
    g = graph(shape, kind)
    x = synthetic_frames(g, 3, seed=1)
    assert (x.shape, x.dtype) == ((6, 3, *shape), np.float32)
    assert np.array_equal(x, synthetic_frames(g, 3, seed=1))
    assert not np.array_equal(x, synthetic_frames(g, 3, seed=2))
    assert not np.array_equal(x[:, 0], x[:, 1])
    assert run(g, x).shape == x.shape
    if kind is Kind.REAL:
        assert (x == x[:1]).all()
        assert x.min() >= 0
        assert x.max() <= 1
    else:
        assert np.array_equal(x, np.round(x))
        assert x.min() == 0
        assert not np.array_equal(x[0], x[1])
        assert 0.01 < (x > 0).mean() < 0.9
    if kind is Kind.BINARY:
        assert x.max() == 1
    if kind is Kind.COUNT:
        assert x.max() > 1


def test_events_are_clustered() -> None:
    """As recordings are: neighbouring pixels are active together much more often than pixels anywhere."""
    x = synthetic_frames(graph((2, 64, 64), Kind.COUNT), 4, seed=0) > 0
    rate = x.mean()
    neighbours = (x[..., 1:] & x[..., :-1]).mean()
    assert neighbours > 1.3 * rate**2
