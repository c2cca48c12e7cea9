"""From a network as it was trained to the form that every target translates."""

from __future__ import annotations

from dataclasses import dataclass

from tcja_deploy.ir import Graph
from tcja_deploy.passes.contract import Condition, Pass, run_passes
from tcja_deploy.passes.fold import fold_batch_norm, foldable

__all__ = ["FOLD_BATCH_NORM", "PASSES", "Prepared", "prepare"]

FOLD_BATCH_NORM = Pass(
    "fold batch normalisation",
    fold_batch_norm,
    leaves=(Condition("no batch normalisation right behind weights", lambda graph: list(foldable(graph))),),
)
"""Exact up to rounding: see `fold_batch_norm`."""

PASSES = (FOLD_BATCH_NORM,)
"""What is done to every network before it is translated, in order."""


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
