"""What folding batch normalisation into weights changes, measured apart from the export."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.report import change
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.reference import Reference

__all__ = ["folding_effect", "folding_note"]


def folding_effect(
    network: Prepared, folded: Reference, sample: NDArray[np.float32], *, bound: float
) -> Agreement | None:
    """How far folding batch normalisation takes the network from the one that was trained, which runs in torch.

    Folding is exact up to rounding. PyTorch rounds the unfolded network in its own way (a fused multiply-add on the CPU), so a
    membrane within that rounding of the threshold may end up on the other side of it. A spike that appears or disappears
    this way changes what comes after it, and in a TCJA block the gates of all channels and steps: a network with chaotic
    activity, such as an untrained one, may give a different result.

    Args:
        network: The network, as it was trained and folded.
        folded: The folded network.
        sample: The golden sample, frames `[T, 1, ...]`.
        bound: Allowed mismatches per neuron-step.

    Returns:
        The folded network against the trained one; `None` if there is nothing to fold.
    """
    if len(network.folded.nodes) == len(network.trained.nodes):
        return None
    from tcja_deploy.runtime.compare import compare

    found = folded.run_sample(sample)
    return compare(network.trained, sample, found.output, found.spikes, bound=bound)


def folding_note(effect: Agreement) -> str:
    """One sentence on what folding changed on the golden sample, and why."""
    note = f"folding batch normalisation, on the golden sample: {change(effect, 'the network as trained')}"
    roots = [
        abs(f.distance)
        for f in (layer.first for layer in effect.layers)
        if f is not None and f.distance is not None
    ]
    return f"{note}; it began {max(roots):.1e} from the threshold" if roots else note
