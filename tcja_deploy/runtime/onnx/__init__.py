"""A network as an ONNX model, and onnxruntime that runs it."""
