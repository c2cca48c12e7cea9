"""A network as an ONNX model, and onnxruntime to run it."""
