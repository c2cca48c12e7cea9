"""Options of exports to ONNX models of whole windows."""

from __future__ import annotations

from dataclasses import dataclass, field

from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.target import Bounded, Engined, option

__all__ = ["OnnxOptions", "OnnxVerification"]


@dataclass(frozen=True)
class _Independent(Engined):
    """Options that choose what runs the network: not onnxruntime, which runs the artifact and would agree with itself.

    Raises:
        UsageError: If the engine is onnxruntime.
    """

    def __post_init__(self) -> None:
        if self.engine == "onnx":
            raise UsageError(
                "onnxruntime runs the exported model, so it cannot be the reference as well",
                hint="use --engine torch, events or auto",
            )


@dataclass(frozen=True)
class OnnxOptions(_Independent):
    """How to write the model.

    Attributes:
        opset: Opset version.
        batch_first: Whether frames are `[N, T, ...]` instead of `[T, N, ...]`.
        external_data: Whether weights are in a separate file (always so above 1.8 GB).
    """

    opset: int = field(default=17, metadata=option("Opset version."))
    batch_first: bool = field(default=False, metadata=option("[N, T, ...] instead of [T, N, ...]."))
    external_data: bool = field(default=False, metadata=option("Weights in a separate file."))


@dataclass(frozen=True)
class OnnxVerification(Bounded, _Independent):
    """How to verify a model."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        _Independent.__post_init__(self)
