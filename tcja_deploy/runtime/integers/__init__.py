"""The integer network as Loihi computes it, and its digital twin, over whole windows and as a stream."""
