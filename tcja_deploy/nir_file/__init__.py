"""`.nir` files: the container, what this program notes in it, and the network that a file describes."""
