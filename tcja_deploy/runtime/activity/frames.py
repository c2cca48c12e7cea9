"""Checks that frames hold what the model takes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tcja_deploy.ir import Graph
from tcja_deploy.runtime.activity.collect import LabelledFrames

__all__ = ["CheckedFrames", "frame_fault"]


class CheckedFrames(LabelledFrames, Protocol):
    """Recordings that know whether their frames hold whole numbers."""

    @property
    def whole(self) -> bool:
        """Whether nothing but whole numbers was found so far."""
        ...


_LOOKED_AT = 3
"""How many recordings are checked."""


def frame_fault(graph: Graph, dataset: CheckedFrames) -> str:
    """What the frames of some recordings hold that the kind of the graph's input rules out, as a sentence; empty if nothing.

    Operations are counted by that kind: an accumulate per event, a multiply-accumulate per real number.
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
