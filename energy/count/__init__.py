"""Counting what a network does in one inference: synaptic operations and all other work."""
