"""The event engine: a graph over whole windows, in time that depends on the number of spikes."""
