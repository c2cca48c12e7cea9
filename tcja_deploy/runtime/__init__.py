"""What runs a network: over whole windows, frame by frame, on events, in onnxruntime, and as integers."""
