"""What a network predicts for each recording, along with the counts of its activity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError

__all__ = ["Outcomes", "Predicted"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predicted classes of a data set.

    Attributes:
        classes: The predicted class of each recording, `[N]`.
        labels: Its label, `[N]`; `None` unless all have one.
        outputs: Number of classes that the network tells apart.
        names: Name of each class; `None` where unknown.
    """

    classes: Ints
    labels: Ints | None
    outputs: int
    names: tuple[str, ...] | None = None

    @property
    def confusion(self) -> Ints | None:
        """Recordings by label (rows) and predicted class (columns), `[outputs, outputs]`; `None` without labels."""
        if self.labels is None:
            return None
        table = np.zeros((self.outputs, self.outputs), np.int64)
        np.add.at(table, (self.labels, self.classes), 1)
        return table


class Outcomes:
    """Collects predictions by recording number.

    Args:
        total: Recordings in the data set.
    """

    def __init__(self, total: int) -> None:
        self._found = np.zeros((2, total), np.int64)  # class and label plus one, so that 0 means none

    def add(self, numbers: Sequence[int], classes: Ints, labels: Sequence[int | None]) -> None:
        """Add the predictions of a batch; recordings are given by their numbers."""
        self._found[0, numbers] = classes + 1
        self._found[1, numbers] = [0 if label is None else label + 1 for label in labels]

    def of(self, numbers: Ints) -> Ints:
        """What is kept for some recordings, `[2, n]`: class and label plus one."""
        found: Ints = self._found[:, numbers]
        return found

    def put(self, numbers: Ints, found: Ints) -> None:
        """Restore what `of` gave in an earlier run."""
        self._found[:, numbers] = found

    def finish(
        self, outputs: int, names: tuple[str, ...] | None, summed: Callable[[Ints], Ints] | None
    ) -> Predicted:
        """All predictions; `summed` adds up the tables of all processes, each of which holds its own recordings.

        Raises:
            DataError: Predictions of an interrupted run name classes that the network does not have.
        """
        classes, labels = (summed(self._found) if summed else self._found) - 1
        if len(classes) and classes.max() >= outputs:
            raise DataError("the predictions of the interrupted run are of another network")
        known = (labels >= 0).all() and (labels < outputs).all()
        return Predicted(classes, labels if known else None, outputs, names)
