"""What running one recording through a network takes, before anything is allocated."""

from __future__ import annotations

from math import prod

from tcja_deploy.errors import GraphError
from tcja_deploy.ir import Graph
from tcja_deploy.reading.limits import check_bytes

__all__ = ["check_size"]

_MOST_STEPS = 1 << 20
_FLOAT32 = 4


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
