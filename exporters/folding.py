"""What folding batch normalisation into weights changes, measured apart from the export."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.compare import Agreement, compare
from tcja_deploy.runtime.sequence import run

__all__ = ["folding_effect", "folding_note"]


def folding_effect(graph: Graph, frames: NDArray[np.float32], *, bound: float) -> Agreement | None:
    """How far folding batch normalisation takes the network from the one that was trained, both in the sequence runtime.

    Folding is exact up to rounding. PyTorch rounds the unfolded network in its own way (a fused multiply-add on the CPU), so a
    membrane within that rounding of the threshold may change sides. Such a spike changes what comes after it, and in a TCJA
    block the gates of all channels and steps: a network whose activity is chaotic, as without training, may end elsewhere.

    Args:
        graph: The network, not folded.
        frames: ``[T, N, ...]``.
        bound: Allowed mismatches per neuron-step.

    Returns:
        The folded network against the trained one; ``None`` if there is nothing to fold.
    """
    folded, spikes = fold_batch_norm(graph), {}
    if len(folded.nodes) == len(graph.nodes):
        return None

    def observe(node: Node, value: torch.Tensor) -> None:
        if isinstance(node.op, ir.Neuron):
            spikes[node.name] = value.numpy()

    output = run(folded, frames, observe=observe).numpy()
    return compare(graph, frames, output, spikes, bound=bound)


def folding_note(effect: Agreement) -> str:
    """What folding changed on the golden sample, and why, in a sentence."""
    same = "the same prediction" if effect.predictions_equal == effect.samples else "another prediction"
    note = (
        f"folding batch normalisation, on the golden sample: {effect.mismatches:,} of {effect.neuron_steps:,} neuron-steps "
        f"differ from the network as trained ({effect.mismatch_rate:.1e}), {same}"
    )
    roots = [
        abs(f.distance)
        for f in (layer.first for layer in effect.layers)
        if f is not None and f.distance is not None
    ]
    return f"{note}; it began {max(roots):.1e} from the threshold" if roots else note
