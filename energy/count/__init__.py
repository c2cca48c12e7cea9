"""What a network does in one inference, counted: synaptic operations, and all other work."""
