"""NIR graphs that are refused with a hint, and the same ones after it was followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tcja_deploy.nir_file.load import load_nir

nir = pytest.importorskip("nir", reason="the package nir is not installed")

__all__ = ["NIR_HINTS"]

F, T = 5, 3


def full(value: float, size: int = F) -> Any:
    return np.full(size, value)


def linear(seed: int = 1) -> Any:
    return nir.Linear(np.random.default_rng(seed).normal(size=(F, F)).astype(np.float32))


def lif(**changes: Any) -> Any:
    given = {
        "tau": full(2e-3),
        "r": full(1.0),
        "v_leak": full(0.0),
        "v_threshold": full(1.0),
        "v_reset": full(0.0),
    }
    return nir.LIF(**(given | changes))


def graph(*nodes: Any, shape: tuple[int, ...] = (F,)) -> Any:
    return nir.NIRGraph.from_list(nir.Input(np.array(shape)), *nodes)


def wired(
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
    shape: tuple[int, ...] = (F,),
    out: tuple[int, ...] = (F,),
) -> Any:
    ends = {"input": nir.Input(np.array(shape)), "output": nir.Output(np.array(out))}
    return nir.NIRGraph({**ends, **nodes}, edges, type_check=False)


def read(made: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    return lambda: load_nir(made(), T, **{"dt": 1e-3, **options})


def chain(out: tuple[int, ...] = (F,)) -> Any:
    return wired({"w": linear()}, [("input", "w"), ("w", "output")], out=out)


def second(kind: str, keep: bool) -> Any:
    made = chain()
    if keep:
        made.nodes["more"] = nir.Input(np.array([F])) if kind == "input" else nir.Output(np.array([F]))
        made.edges.append(("more", "w") if kind == "input" else ("w", "more"))
    return made


def flattened(start: int) -> Any:
    return graph(nir.Flatten({"input": np.array([2, 4])}, start, -1), shape=(2, 4))


def matrix(flat: bool) -> Any:
    nodes: dict[str, Any] = {"w": nir.Linear(np.ones((3, 8), np.float32))}
    edges = [("input", "w"), ("w", "output")]
    if flat:
        nodes["flat"] = nir.Flatten({"input": np.array([2, 4])}, 0, -1)
        edges = [("input", "flat"), ("flat", "w"), ("w", "output")]
    return wired(nodes, edges, (2, 4), (3,))


def recurrent(loop: bool) -> Any:
    edges = [("input", "lif"), ("lif", "output"), *([("lif", "w"), ("w", "lif")] if loop else [])]
    return wired({"lif": lif(), **({"w": linear()} if loop else {})}, edges)


def scaled(each: bool) -> Any:
    scale = (
        np.arange(1.0, 9.0).reshape(2, 2, 2)
        if each
        else np.array([1.0, 2.0]).reshape(2, 1, 1) * np.ones((2, 2, 2))
    )
    return graph(nir.Scale(scale), shape=(2, 2, 2))


uneven = full(2e-3)
uneven[0] = 4e-3
NIR_HINTS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "pass a positive number, such as 1e-4": (read(lambda: graph(lif()), dt=-1.0), read(lambda: graph(lif()), dt=1e-4)),
    "'>' or '>='": (read(lambda: graph(lif()), comparison="="), read(lambda: graph(lif()), comparison=">=")),
    "pass a .nir file or a nir.NIRGraph": (lambda: load_nir(3, T), read(lambda: graph(lif()))),
    "merge the inputs": (read(lambda: second("input", True)), read(lambda: second("input", False))),
    "translate one network at a time": (read(lambda: second("output", True)), read(lambda: second("output", False))),
    "the file contradicts itself": (read(lambda: chain((9,))), read(lambda: chain((F,)))),
    "one number per channel can be translated": (read(lambda: scaled(True)), read(lambda: scaled(False))),
    "put a Flatten before it": (read(lambda: matrix(False)), read(lambda: matrix(True))),
    "a file that counts it has start_dim one too large": (read(lambda: flattened(2)), read(lambda: flattened(0))),
    "leave it out; delays have no translation": (
        read(lambda: graph(nir.Delay(full(1.0)), linear())),
        read(lambda: graph(linear())),
    ),
    "recurrent connections have no translation": (read(lambda: recurrent(True)), read(lambda: recurrent(False))),
    "give all neurons of a layer the same value": (read(lambda: graph(lif(tau=uneven))), read(lambda: graph(lif()))),
    "train with v_leak = v_reset": (
        read(lambda: graph(lif(v_leak=full(-0.2)))),
        read(lambda: graph(lif(v_leak=full(-0.2), v_reset=full(-0.2)))),
    ),
    "dt may be wrong": (read(lambda: graph(lif()), dt=1.0), read(lambda: graph(lif()), dt=1e-3)),
    "pass dt squared for its files": (
        read(lambda: graph(lif(tau=full(2e-6)))),
        read(lambda: graph(lif(tau=full(2e-6))), dt=1e-6),
    ),
    "pass dt=1 (--dt 1)": (
        read(lambda: graph(lif(tau=full(20.0))), dt=None),
        read(lambda: graph(lif(tau=full(20.0))), dt=1.0),
    ),
    "SpikingJelly and snnTorch write dt = 1e-4": (
        read(lambda: graph(lif(tau=full(2e-4))), dt=None),
        read(lambda: graph(lif(tau=full(2e-4))), dt=1e-4),
    ),
    "pass timesteps=T, or --timesteps T": (
        lambda: load_nir(graph(lif()), dt=1e-3),
        lambda: load_nir(graph(lif()), T, dt=1e-3),
    ),
}  # fmt: skip
