"""Whether frames hold what the model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tcja_deploy.events import EventData
    from tcja_deploy.ir import Graph

__all__ = ["frame_fault"]

_LOOKED_AT = 3
"""Recordings whose numbers are looked at."""


def frame_fault(graph: Graph, dataset: EventData) -> str:
    """What the frames of some recordings hold that the signal kind of the graph's input rules out; empty if nothing.

    Ops are counted by that kind: an accumulate for each event, a multiply-accumulate for each real number.
    """
    kind = graph.input.signal.kind
    if kind in ("real", "graded") or not len(dataset):
        return ""
    what = {"count": "event counts", "binary": "zeros and ones"}[kind]
    for i in range(0, len(dataset), -(-len(dataset) // _LOOKED_AT)):
        frames = np.asarray(dataset[i][0])
        found = "numbers below zero" if (frames < 0).any() else ""
        found = "fractions" if not dataset.whole or (frames != np.rint(frames)).any() else found
        found = found or ("numbers above one" if kind == "binary" and (frames > 1).any() else "")
        if found:
            return (
                f"the frames hold {found}, but the model takes {what}, and operations are counted for those; "
                f"say what they are: --input-kind {'count' if found == 'numbers above one' else 'real'}"
            )
    return ""
