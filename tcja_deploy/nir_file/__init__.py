"""`.nir` files: the container, the notes that this program leaves in it, and the network that a file describes."""
