"""NIR: the standard exchange graph of spiking networks."""
