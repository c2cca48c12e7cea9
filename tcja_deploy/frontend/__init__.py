"""From a trained network to the graph: live modules, named code, checkpoints and state dicts."""
