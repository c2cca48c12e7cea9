"""The memory that running one recording through a network takes, before anything is allocated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import ParamSpec

from tcja_deploy.errors import DeployError, FileFormatError, GraphError
from tcja_deploy.ir import Graph
from tcja_deploy.reading.limits import check_bytes, out_of_memory_told

__all__ = ["check_size", "within_limits"]

_Arguments = ParamSpec("_Arguments")
_MOST_STEPS = 1 << 20
_FLOAT32 = 4


def within_limits(load: Callable[_Arguments, Graph]) -> Callable[_Arguments, Graph]:
    """Make a reader of graphs refuse one that is too large to run, and say so if memory or stack runs out.

    What reading a file raises beyond this package's own errors is blamed on the file (`--debug` shows it all);
    with code from the file allowed, or for a module in memory, it is passed on.
    """

    @functools.wraps(load)
    def checked(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> Graph:
        source = arguments[0] if arguments else options.get("source")
        read = isinstance(source, str | Path) and not options.get("trust_pickle")
        with out_of_memory_told():
            try:
                return check_size(load(*arguments, **options))
            except (DeployError, MemoryError, RecursionError, OSError):
                raise
            except Exception as error:
                if not read:  # a module in memory: a defect
                    raise
                raise FileFormatError(
                    f"the content of this file is inconsistent ({type(error).__name__}: {error})"[:300],
                    where=str(source),
                    hint="the file is damaged, or made by another program in an unknown way",
                ) from error

    return checked


def check_size(graph: Graph) -> Graph:
    """A graph whose values, each for one window of one recording, are within the limit on memory.

    Raises:
        GraphError: If a value is larger, or the window has more than a million steps.
    """
    if graph.T > _MOST_STEPS:
        raise GraphError(f"a window of {str(graph.T)[:30]} time steps is longer than any network's")
    for node in graph:
        shape = node.signal.shape(graph.T, 1)
        check_bytes(
            _FLOAT32 * prod(shape), f"one window of it, {list(shape)}", where=node.name, error=GraphError
        )
    return graph
