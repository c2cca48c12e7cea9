"""Published break-even points between spiking and ordinary networks, as data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["THRESHOLDS", "Threshold", "Verdict"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """One published break-even point.

    Attributes:
        name: Short name.
        quantity: The quantity that it limits: `spikes per synapse and inference` or `mean input rate per step`.
        low: Below this, the spiking network can use less energy.
        high: Above this, it uses more; between the two it is undecided.
        condition: The conditions under which it was derived.
        source: Publication.
    """

    name: str
    quantity: str
    low: float
    high: float
    condition: str
    source: str

    def judge(self, value: float) -> str:
        """The verdict on a value, as text."""
        if value < self.low:
            return "below: the spiking network can win"
        if value > self.high:
            return "above: the spiking network loses"
        return "inside: undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A threshold, with the network's own value and the verdict."""

    threshold: Threshold
    value: float
    text: str


SPIKES = "spikes per synapse and inference"
RATE = "mean input rate per step"

THRESHOLDS = (
    Threshold(
        "Davidson and Furber",
        SPIKES,
        1.72,
        1.72,
        "memory traffic included, against an ANN of the same structure",
        "Front. Neurosci. 2021, doi:10.3389/fnins.2021.651141",
    ),
    Threshold(
        "Dampfhoffer et al.",
        SPIKES,
        0.15,
        1.38,
        "memory traffic included, several architectures",
        "IEEE TETCI 7(3), 2023",
    ),
    Threshold(
        "Yan et al.",
        RATE,
        0.034,
        0.108,
        "T = 5, against a network with ceil(log2(T+1))-bit activations; 5.7 % in the nominal case",
        "arXiv:2409.08290v4",
    ),
)
"""All thresholds, in the order of reports."""
