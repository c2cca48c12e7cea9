"""Whether a network fits a chip, and which limit binds where."""
