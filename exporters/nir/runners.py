"""Running a `.nir` file step by step: in this program, in Norse, in SpikingJelly."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import ToolchainError, UnsupportedError, UsageError
from tcja_deploy.ir import Node
from tcja_deploy.nir_file.context import ThresholdComparison
from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.nir_file.notes import READOUT
from tcja_deploy.runtime.sequence import run

__all__ = ["RUNNERS", "NirRun", "Runnable", "find_runner", "spelled"]


@dataclass(frozen=True)
class NirRun:
    """Values that a NIR graph computed.

    Attributes:
        output: Values of the graph's output node, `[T, N, ...]`.
        values: Values of each node by its name as nirtorch spells it, with underscores in place of dots; `[T, N, ...]`.
    """

    output: NDArray[np.float32]
    values: dict[str, NDArray[np.float32]]


Runnable = Callable[[NDArray[np.float32]], NirRun]
"""Runs a file that has been read on frames `[T, N, ...]`."""
Runner = Callable[[Path, float], Runnable]
"""Reads a file that is to be run with a time step of `dt` seconds."""


def find_runner(name: str) -> Runner:
    """A runner by name.

    Raises:
        UsageError: If there is no such runner.
    """
    if name not in RUNNERS:
        raise UsageError(f"no runner is called {name!r}", hint=f"choose one of {', '.join(RUNNERS)}")
    return RUNNERS[name]


def spelled(name: str) -> str:
    """A node name as nirtorch spells it: with underscores in place of dots."""
    return name.replace(".", "_")


def _sequence(path: Path, dt: float, comparison: ThresholdComparison = ">") -> Runnable:
    """The sequence runtime, on the graph that `load_nir` reads from the file."""
    graph_of = cache(lambda T: load_nir(path, T, dt=dt, comparison=comparison))

    def run_frames(frames: NDArray[np.float32]) -> NirRun:
        graph = graph_of(len(frames))
        last = graph.output
        while type(graph[last].op) in READOUT.values():
            last = graph[last].inputs[0]
        values: dict[str, NDArray[np.float32]] = {}
        run(graph, frames, observe=lambda node, value: _keep(values, node, value))
        return NirRun(values[spelled(last)], values)

    return run_frames


def _keep(values: dict[str, NDArray[np.float32]], node: Node, value: torch.Tensor) -> None:
    values[spelled(node.name)] = value.numpy()


def _norse(path: Path, dt: float) -> Runnable:
    """Norse, through its own `from_nir`.

    Raises:
        ToolchainError: If Norse is not installed.
        UnsupportedError: If Norse fails on the file, or would leave out nodes.
    """
    try:
        import norse.torch
    except ImportError as error:
        raise ToolchainError(f"Norse cannot be imported ({error})", hint="pip install norse") from error
    with _foreign("Norse", path):
        graph = nir.read(path)
        network = norse.torch.from_nir(graph, ignore_warnings=True, dt=dt)
    modules = dict(network.named_children())
    lost = [f"{n} ({type(node).__name__})" for n, node in graph.nodes.items() if spelled(n) not in modules]
    if lost:
        raise UnsupportedError(
            f"Norse has no translation for {', '.join(lost)}, and would silently stop before it",
            where=str(path),
        )

    def run_frames(frames: NDArray[np.float32]) -> NirRun:
        with _foreign("Norse", path):
            return _step_by_step(network, modules, frames)

    return run_frames


def _spikingjelly(path: Path, dt: float) -> Runnable:
    """SpikingJelly, through its own `nir_exchange`.

    Raises:
        ToolchainError: If SpikingJelly or nirtorch is not installed.
        UnsupportedError: If SpikingJelly fails on the file.
    """
    try:
        from spikingjelly.activation_based.nir_exchange import import_from_nir
    except ImportError as error:
        raise ToolchainError(
            f"SpikingJelly's NIR exchange cannot be imported ({error})",
            hint="pip install spikingjelly nirtorch",
        ) from error
    with _foreign("SpikingJelly", path):
        network = import_from_nir(path, dt=dt, step_mode="s")

    def run_frames(frames: NDArray[np.float32]) -> NirRun:
        with _foreign("SpikingJelly", path):
            return _step_by_step(network, dict(network.named_children()), frames)

    return run_frames


def _step_by_step(
    network: torch.nn.Module, modules: dict[str, torch.nn.Module], frames: NDArray[np.float32]
) -> NirRun:
    """Run frame after frame with the state that the network returns, recording the result of every node."""
    seen: dict[str, list[NDArray[np.float32]]] = {name: [] for name in modules}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, result: Any) -> None:
            value = result[0] if isinstance(result, tuple) else result
            seen[name].append(value.detach().numpy())

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
    state, outputs = None, []
    try:
        with torch.no_grad():
            for frame in torch.from_numpy(np.ascontiguousarray(frames, np.float32)):
                result, state = network(frame, state)
                outputs.append(result.numpy())
    finally:
        for handle in handles:
            handle.remove()
    values = {name: np.stack(v) for name, v in seen.items() if len(v) == len(frames)}
    return NirRun(np.stack(outputs), values)


@contextmanager
def _foreign(name: str, path: Path) -> Iterator[None]:
    """Run another program without the deprecation warnings and notes that it prints.

    Raises:
        UnsupportedError: If it fails in any way.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # their exceptions have no common base class
        raise UnsupportedError(f"{name} does not take this file: {error}", where=str(path)) from error
    finally:
        logging.disable(level)


RUNNERS: dict[str, Runner] = {
    "sequence": _sequence,
    "sequence>=": partial(_sequence, comparison=">="),
    "norse": _norse,
    "spikingjelly": _spikingjelly,
}
"""Runners by name; with `sequence>=` neurons fire at the threshold as well as above it, as SpikingJelly reads NIR."""
