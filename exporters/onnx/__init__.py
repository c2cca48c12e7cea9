"""ONNX models of whole windows."""
