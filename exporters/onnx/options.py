"""Options of ONNX exports over whole windows."""

from __future__ import annotations

from dataclasses import dataclass, field

from tcja_deploy.exporters.target import Bounded, Engined, option

__all__ = ["OnnxOptions", "OnnxVerification"]


@dataclass(frozen=True)
class OnnxOptions(Engined):
    """How to write the model.

    Attributes:
        opset: Opset version.
        batch_first: `[N, T, ...]` instead of `[T, N, ...]`.
        external_data: Weights in a separate file (always done above 1.8 GB).
    """

    opset: int = field(default=17, metadata=option("Opset version."))
    batch_first: bool = field(default=False, metadata=option("[N, T, ...] instead of [T, N, ...]."))
    external_data: bool = field(default=False, metadata=option("Weights in a separate file."))


@dataclass(frozen=True)
class OnnxVerification(Bounded, Engined):
    """How to verify a model."""
