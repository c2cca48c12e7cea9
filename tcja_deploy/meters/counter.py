"""A counter of energy: what a meter reads, and how it starts over."""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["EnergyCounter", "joules_between"]


class EnergyCounter(ABC):
    """One counter of energy, which only grows until it starts over.

    Attributes:
        source: What it measures and through what, such as `"RAPL package-0"`.
        wraps_at: Microjoules at which it starts over at zero; 0 if it never does.
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
    """Energy between two readings, less than one turn of the counter apart, in joules.

    Args:
        before: The earlier reading, in microjoules.
        after: The later one.
        wraps_at: Where the counter starts over; 0 if it never does.

    Raises:
        OSError: The counter went back although it never starts over: it was reset.
    """
    if after >= before:
        return (after - before) / 1e6
    if not wraps_at:
        raise OSError("the counter went back: it was reset while it was being read")
    return (after - before + wraps_at) / 1e6
