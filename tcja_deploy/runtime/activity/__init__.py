"""Integer spike counts per value and sample: exact, mergeable, independent of what ran the network."""
