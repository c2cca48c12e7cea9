"""Whether a network fits a chip, and which limits are binding."""
