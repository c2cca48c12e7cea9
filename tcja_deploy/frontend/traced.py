"""What tracing knows of one tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tcja_deploy.ir import Signal

__all__ = ["SAMPLES", "Abort", "Traced", "View"]

View = Literal["window", "batch", "frame", "image", "lone"]
"""How the code sees a stream ``[T, N, ...]`` of the graph.

* ``window``: ``[T, N, ...]``, multi-step code;
* ``batch``: ``[T N, ...]``, inside ``SeqToANNContainer`` or after ``flatten(0, 1)``; or more leading axes in one;
* ``frame``: ``[N, ...]``, single-step code that is run once a time step;
* ``image``: ``[N, ...]``, the same in every time step: code that repeats its input over time has not done so yet;
* ``lone``: ``[1, N, ...]``, an image with a time axis of length 1.
"""

SAMPLES = 7919
"""Batch size that traced code sees: a prime, so that an axis of this length cannot be anything but the batch."""


class Abort(Exception):  # noqa: N818
    """Tracing cannot go on."""


@dataclass(frozen=True)
class Traced:
    """Stand-in for one tensor.

    Attributes:
        name: IR value behind it.
        signal: Signal of that value.
        view: How the code sees its time axis.
        lead: Leading axes of the value that the code sees as its first one, in the view ``batch``.
        tainted: Whether something untranslatable went into it; its shape may be wrong.
        pair: Whether it stands for ``(values, indices)`` of ``Tensor.max(dim)``, or ``(result, state)`` of Norse's modules.
        expanded: Shape that the code sees after ``expand``; the value itself is left to broadcasting.
        storage: Number of the memory that it shares with its views.
        stale: Whether that memory was changed through another tensor since.
    """

    name: str
    signal: Signal
    view: View
    lead: int = 2
    tainted: bool = False
    pair: bool = False
    expanded: tuple[int, ...] | None = None
    storage: int = -1
    stale: bool = False

    def shape(self, T: int) -> tuple[int, ...]:
        """Shape as the code sees it."""
        if self.expanded is not None:
            return self.expanded
        full = self.signal.shape(T, SAMPLES)
        match self.view:
            case "window":
                return full
            case "batch":
                return (math.prod(full[: self.lead]), *full[self.lead :])
            case "lone":
                return (1, *full[1:])
        return full[1:]
