"""From a network as it was trained to the form that every target translates."""

from __future__ import annotations

from dataclasses import dataclass

from tcja_deploy.ir import Graph
from tcja_deploy.passes.attention import recognise_tcja, written_out
from tcja_deploy.passes.contract import Condition, Pass, run_passes
from tcja_deploy.passes.fold import fold_batch_norm, foldable
from tcja_deploy.passes.simplify import idle_moves, simplify

__all__ = [
    "FOLD_BATCH_NORM",
    "PASSES",
    "READING",
    "RECOGNISE_TCJA",
    "SIMPLIFY",
    "Prepared",
    "prepare",
    "tidy",
]

FOLD_BATCH_NORM = Pass(
    "fold batch normalisation",
    fold_batch_norm,
    leaves=(Condition("no batch normalisation directly after weights", lambda graph: list(foldable(graph))),),
)
"""Exact up to rounding: see `fold_batch_norm`."""

RECOGNISE_TCJA = Pass(
    "recognise TCJA blocks",
    recognise_tcja,
    leaves=(Condition("no TCJA block in generic ops", written_out),),
)
"""Equal up to rounding: see `recognise_tcja`."""

SIMPLIFY = Pass(
    "simplify moves of axes",
    simplify,
    leaves=(Condition("no permutation or reshape that does nothing", idle_moves),),
)
"""Exact."""

READING = (RECOGNISE_TCJA, SIMPLIFY)
"""What is done to every network that was read from a module, in order; every pass preserves what those before it leave."""

PASSES = (FOLD_BATCH_NORM,)
"""What is done to every network before it is translated, in order."""


def tidy(graph: Graph) -> Graph:
    """Run the passes of a network that was read from a module.

    Raises:
        GraphError: If a pass breaks its contract, which is a defect of it.
    """
    return run_passes(graph, READING)


@dataclass(frozen=True)
class Prepared:
    """A network in both forms, so that nothing is folded twice.

    Attributes:
        trained: As it was given; its hash identifies it.
        folded: After the passes: what targets translate, and what their results are compared with.
    """

    trained: Graph
    folded: Graph


def prepare(graph: Graph) -> Prepared:
    """Run the passes.

    Raises:
        GraphError: If a pass breaks its contract, which is a defect of it.
    """
    return Prepared(graph, run_passes(graph, PASSES))
