"""Tables of predictions against labels."""

from __future__ import annotations

from tcja_deploy.energy.render.table import Column, Table, recordings_text
from tcja_deploy.energy.report.confusion import Confusion

__all__ = ["accuracy_table", "confusion_table"]


def accuracy_table(found: Confusion) -> Table:
    """Number and share of correct predictions."""
    return Table(
        "accuracy",
        "Predictions",
        (
            Column("recordings", "Recordings", "int"),
            Column("right", "Right", "int"),
            Column("accuracy", "Accuracy", "percent"),
        ),
        ((found.recordings, found.right, found.accuracy),),
    )


def confusion_table(found: Confusion) -> Table:
    """Recordings by class and predicted class; classes that occur as neither are left out."""
    used = [
        label
        for label, row in enumerate(found.matrix)
        if any(row) or any(other[label] for other in found.matrix)
    ]
    rows = tuple(
        (
            found.classes[label],
            label,
            sum(found.matrix[label]),
            found.matrix[label][label] / sum(found.matrix[label]) if any(found.matrix[label]) else None,
            *(found.matrix[label][guess] for guess in used),
        )
        for label in used
    )
    return Table(
        "confusion",
        f"Confusion matrix of {recordings_text(found.recordings)}: {found.right} right, {100 * found.accuracy:.1f} %",
        (
            Column("class", "Class"),
            Column("label", "Label", "int"),
            Column("recordings", "Recordings", "int"),
            Column("right", "Right", "percent"),
            *(Column(f"predicted_{guess}", f"{found.classes[guess]}", "int") for guess in used),
        ),
        rows,
        (
            "A row is a class of the recordings, a column what they were taken for. Classes without recordings and "
            f"predictions are left out; the network distinguishes {len(found.classes)} classes.",
        ),
    )
