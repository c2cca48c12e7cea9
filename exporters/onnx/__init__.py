"""ONNX models of spiking networks, in standard ops only."""

from __future__ import annotations

from tcja_deploy.exporters.onnx.export import export_onnx
from tcja_deploy.exporters.onnx.verify import verify_onnx

__all__ = ["export_onnx", "verify_onnx"]
