"""Small NIR graphs, frames for them, and what this program makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.runtime.sequence import run

nir = pytest.importorskip("nir", reason="the package nir is not installed")

__all__ = ["DT", "Array", "F", "N", "T", "frames", "full", "graph_of", "lif_file", "result", "weights"]

Array = NDArray[np.float32]
T, N, F = 12, 2, 5
DT = 1e-3


def full(value: float, *shape: int) -> NDArray[np.float64]:
    return np.full(shape or (F,), value)


def graph_of(*nodes: Any, shape: tuple[int, ...] = (F,)) -> Any:
    return nir.NIRGraph.from_list(nir.Input(np.array(shape)), *nodes)


def frames(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0.5, 2.0, (T, N, *(shape or (F,)))).astype(np.float32)


def result(node: Any, x: Array, **options: Any) -> Array:
    """What a graph of one node gives when it is read and run."""
    graph = load_nir(graph_of(node, shape=x.shape[2:]), T, dt=DT, **options)
    return run(graph, x).numpy()


def weights(*shape: int) -> Array:
    """Normal numbers, the same for the same shape."""
    return np.random.default_rng([1, *shape]).normal(size=shape).astype(np.float32)


def lif_file(folder: Path) -> Path:
    node = nir.LIF(full(2 * DT), full(1.0), full(0.0), full(1.0), full(0.0))
    nir.write(folder / "lif.nir", graph_of(nir.Linear(weights(F, F)), node))
    return folder / "lif.nir"
