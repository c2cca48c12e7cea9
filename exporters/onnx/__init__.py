"""ONNX models over whole windows."""
