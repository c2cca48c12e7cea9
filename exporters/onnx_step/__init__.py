"""ONNX models of spiking networks that take one frame at a time."""
