"""The table of all targets."""

from __future__ import annotations

from typing import Any

from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.lava.target import LAVA
from tcja_deploy.exporters.nir.target import NIR
from tcja_deploy.exporters.onnx.target import ONNX
from tcja_deploy.exporters.onnx_step.target import ONNX_STEP
from tcja_deploy.exporters.target import Target

__all__ = ["TARGETS", "find_target"]

TARGETS: dict[str, Target[Any, Any]] = {target.name: target for target in (ONNX, ONNX_STEP, LAVA, NIR)}
"""Targets by name, in the order in which they are tried when an artifact is recognised."""


def find_target(name: str) -> Target[Any, Any]:
    """The target with a given name.

    Raises:
        UsageError: If there is no such target.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}", hint=f"choose one of {', '.join(TARGETS)}")
    return TARGETS[name]
