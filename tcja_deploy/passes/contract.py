"""What a pass promises: what it needs, what it leaves, and what no pass may change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tcja_deploy.errors import GraphError
from tcja_deploy.ir import Graph
from tcja_deploy.ir.verify import violations

__all__ = ["SOUND", "Condition", "Pass", "run_passes"]


@dataclass(frozen=True)
class Condition:
    """A property that a graph has or does not have.

    Attributes:
        name: The property, as a phrase that follows "the graph has".
        violations: The nodes that break it, by name.
    """

    name: str
    violations: Callable[[Graph], list[str]]


SOUND = Condition("no broken rule of the IR", violations)
"""What every pass needs: inference of signals holds, constants are finite, everything is read (`ir.verify`)."""


@dataclass(frozen=True)
class Pass:
    """A function from graph to graph with its contract.

    Calling it checks the contract. Beyond its own conditions, every pass keeps T, the input, the shape and kind of the output,
    and the names of the spiking layers: two graphs, one before and one after, can be compared spike for spike.

    Attributes:
        name: What it does.
        apply: The function that does it.
        needs: What has to hold before.
        leaves: What holds afterwards.
    """

    name: str
    apply: Callable[[Graph], Graph]
    needs: tuple[Condition, ...] = (SOUND,)
    leaves: tuple[Condition, ...] = ()

    def __call__(self, graph: Graph) -> Graph:
        """Run the pass.

        Raises:
            GraphError: If the graph lacks what the pass needs, or the pass broke its promise, which is a defect in it.
        """
        self._check(self.needs, graph, "needs a graph that has")
        result = self.apply(graph)
        self._check(self.leaves, result, "did not leave a graph that has")
        before, after = _interface(graph), _interface(result)
        changed = [name for name, value in before.items() if after[name] != value]
        if changed:
            raise GraphError(f"the pass {self.name!r} changed the {', '.join(changed)} of the network")
        return result

    def _check(self, conditions: tuple[Condition, ...], graph: Graph, problem: str) -> None:
        for condition in conditions:
            if nodes := condition.violations(graph):
                raise GraphError(f"the pass {self.name!r} {problem} {condition.name}", where=", ".join(nodes))


def _interface(graph: Graph) -> dict[str, object]:
    output = graph[graph.output].signal
    return {
        "time steps": graph.T,
        "input": (graph.input.name, graph.input.signal),
        "output": (output.dims, output.kind),
        "spiking layers": [node.name for node in graph.neurons],
    }


def run_passes(graph: Graph, passes: Iterable[Pass]) -> Graph:
    """Run passes one after the other. Errors as for `Pass`."""
    for step in passes:
        graph = step(graph)
    return graph
