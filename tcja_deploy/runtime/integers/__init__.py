"""The integer network as Loihi computes it, and its twin: over whole windows and as a stream."""
