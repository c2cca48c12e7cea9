"""What tracing knows of one tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from tcja_deploy.frontend.elementary import Made
from tcja_deploy.ir import Signal
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = [
    "SAMPLES",
    "STATIC",
    "Abort",
    "Blank",
    "LoopRefusal",
    "OtherLength",
    "OtherReading",
    "TimeReading",
    "Traced",
    "View",
    "tensors_in",
]

TimeReading = Literal["window", "frame", "image", "static"]
"""What a network takes: see `View`; `static` is an image that a loop over time passes to a single-step network."""

View = Literal["window", "batch", "frame", "image", "lone"]
"""How the code sees a stream `[T, N, ...]` of the graph.

* `window`: `[T, N, ...]`, multi-step code;
* `batch`: `[T N, ...]`, inside `SeqToANNContainer` or after `flatten(0, 1)`; or more leading axes in one;
* `frame`: `[N, ...]`, single-step code that is run once per time step;
* `image`: `[N, ...]`, the same in every time step: code that repeats its input over time has not done so yet;
* `lone`: `[1, N, ...]`, an image with a time axis of length 1.
"""

SAMPLES = 7919
"""Batch size that traced code sees: a prime, so that an axis of this length cannot be anything but the batch."""


STATIC = -1
"""Step of a frame that is the same in every time step."""


class OtherReading(UnsupportedInContext):
    """Code that treats samples as something else: another reading of the first axes may be the right one."""


class LoopRefusal(UnsupportedInContext):
    """A loop over time that is not a single-step network run once per step: it may keep membranes by hand."""


class OtherLength(Unsupported):
    """The code takes more or fewer steps than the window has: what follows tells nothing more."""


class Abort(Exception):  # noqa: N818
    """Tracing cannot go on."""


@dataclass
class Blank:
    """A preallocated tensor: one number everywhere, and the frames that a loop over time writes over it.

    Attributes:
        shape: Its shape as the code sees it.
        fill: The number.
        parts: What was written, by index along `axis`.
        axis: The axis along which was written.
    """

    shape: tuple[int, ...]
    fill: float
    parts: dict[int, Traced] = field(default_factory=dict)
    axis: int = 0


@dataclass(frozen=True)
class Traced:
    """Stand-in for one tensor.

    Attributes:
        name: IR value after it.
        signal: Signal of that value.
        view: How the code sees its time axis.
        lead: Leading axes of the value that the code sees as its first one, in the view `batch`.
        tainted: Whether something untranslatable went into it; its shape may be wrong.
        pair: Whether it stands for `(values, indices)` of `Tensor.max(dim)`, or `(result, state)` of Norse's modules.
        expanded: Shape that the code sees after `expand`; the value itself is left to broadcasting.
        storage: Number of the memory that it shares with its views.
        stale: Whether that memory was changed through another tensor since.
        step: In a loop over time, the step whose frame the code holds (view `frame`), or `STATIC`; `None` elsewhere.
        since: For a running sum of frames, the step of the first one; `step` is that of the last.
        blank: What a preallocated tensor holds, before it is read.
        line: What a frame of a membrane kept by hand was computed from; it has no value in the graph then.
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
    step: int | None = None
    since: int | None = None
    blank: Blank | None = None
    line: Made | None = None

    def shape(self, T: int) -> tuple[int, ...]:
        """Shape as the code sees it."""
        if self.blank is not None:
            return self.blank.shape
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


def tensors_in(value: Any) -> list[Traced]:
    """The tensors among arguments, nested ones included."""
    if isinstance(value, Traced):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [x for v in value for x in tensors_in(v)]
    return []
