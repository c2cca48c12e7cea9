"""Lava/Loihi: quantisation, bundles, and running them in the real lava-dl."""
