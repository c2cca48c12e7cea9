"""The event engine: a graph over whole windows, whose time follows the spikes."""
