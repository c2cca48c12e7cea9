"""What is counted of a value."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Measure"]


class Measure(IntEnum):
    """What is counted of the elements of a value; also the index in a table of counts."""

    NONZERO = 0  #: elements that are not zero
    UNIT = 1  #: elements equal to 1 or -1: weights are added or subtracted, nothing is multiplied
    INTEGER = 2  #: non-zero elements that are whole numbers, units included
    PAYLOAD = 3  #: sum of the magnitudes of the whole-number elements
