"""Options of exports to ONNX models that take one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcja_deploy.exporters.target import Bounded, option

if TYPE_CHECKING:
    from tcja_deploy.runtime.stream import FrameProfile

__all__ = ["OnnxStepOptions", "OnnxStepVerification", "states_file"]


@dataclass(frozen=True)
class OnnxStepOptions:
    """How to write the model.

    Attributes:
        opset: Opset version.
        lookahead: Number of frames that every TCJA block waits for its gate, at most as many as it needs; `None` for
            exact.
        profile: What the blocks expect of frames that have not arrived; `None` for zeros.
    """

    opset: int = field(default=17, metadata=option("Opset version."))
    lookahead: int | None = field(
        default=None, metadata=option("Frames every TCJA block waits; exact if not given.", flag="-D")
    )
    profile: FrameProfile | None = field(
        default=None,
        metadata=option("What to assume about future frames: a file of 'stream --fit'.", reads="profile"),
    )


@dataclass(frozen=True)
class OnnxStepVerification(Bounded):
    """How to verify a model.

    Attributes:
        profile: The profile that the model was exported with.
    """

    profile: FrameProfile | None = field(
        default=None,
        metadata=option("The profile that an onnx-step model was exported with.", reads="profile"),
    )


def states_file(name: str) -> str:
    """Name of the file of the states before the first frame, next to a model of this name."""
    return f"{name.removesuffix('.onnx')}.states.npz"
