"""An energy counter: what a meter reads, and how it wraps around."""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["EnergyCounter", "joules_between"]


class EnergyCounter(ABC):
    """One energy counter, which only grows until it wraps around.

    Attributes:
        source: What it measures and by which interface, such as `"RAPL package-0"`.
        wraps_at: Microjoules at which it wraps around to zero; 0 if it never does.
    """

    source: str
    wraps_at: int = 0

    @abstractmethod
    def read(self) -> int:
        """Microjoules counted so far.

        Raises:
            OSError: It cannot be read any more.
        """


def joules_between(before: int, after: int, wraps_at: int) -> float:
    """Energy in joules between two readings, between which the counter wraps around at most once.

    Args:
        before: The earlier reading, in microjoules.
        after: The later reading, in microjoules.
        wraps_at: Microjoules at which the counter wraps around; 0 if it never does.

    Raises:
        OSError: The counter went back although it never wraps around: it was reset.
    """
    if after >= before:
        return (after - before) / 1e6
    if not wraps_at:
        raise OSError("the counter went back: it was reset while it was being read")
    return (after - before + wraps_at) / 1e6
