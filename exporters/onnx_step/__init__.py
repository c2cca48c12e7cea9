"""ONNX models of spiking networks that take one frame at a time."""

from __future__ import annotations

from tcja_deploy.exporters.onnx_step.export import export_onnx_step
from tcja_deploy.exporters.onnx_step.run import OnnxStepper
from tcja_deploy.exporters.onnx_step.verify import verify_onnx_step

__all__ = ["OnnxStepper", "export_onnx_step", "verify_onnx_step"]
