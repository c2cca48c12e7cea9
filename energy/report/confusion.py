"""Predictions against labels: the accuracy, and which classes are confused."""

from __future__ import annotations

from dataclasses import dataclass

from tcja_deploy.runtime.activity.predicted import Predicted

__all__ = ["Confusion", "confusion"]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Predictions of labelled recordings.

    Attributes:
        classes: Name of each class, in the order of the labels; the label itself if there is no name.
        matrix: Numbers of recordings by label (rows) and predicted class (columns).
        recordings: Number of recordings.
        right: Number of recordings whose predicted class is their label.
    """

    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    recordings: int
    right: int

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return self.right / self.recordings


def confusion(predicted: Predicted | None) -> Confusion | None:
    """The confusion matrix of a data set; `None` where predictions or labels are unknown."""
    table = None if predicted is None else predicted.confusion
    if predicted is None or table is None:
        return None
    names = predicted.names or tuple(map(str, range(predicted.outputs)))
    rows = tuple(tuple(int(n) for n in row) for row in table)
    return Confusion(names, rows, int(table.sum()), int(table.trace()))
