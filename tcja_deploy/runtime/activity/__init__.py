"""Integer spike counts per value and sample: exact, mergeable, independent of the engine that ran the network."""
