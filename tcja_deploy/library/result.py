"""What every result can do: print itself, become a data frame or a plot, and save itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tcja_deploy.energy.render.documents import write_text
from tcja_deploy.energy.render.html import table_html
from tcja_deploy.energy.render.table import Table
from tcja_deploy.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from tcja_deploy.energy.render.plots import Plot

__all__ = ["Result"]


class Result(ABC):
    """A result of the Python interface.

    Notebooks show its tables; `print` gives them as text.
    """

    @abstractmethod
    def tables(self) -> Sequence[Table]:
        """What the terminal shows, most important first."""

    @abstractmethod
    def document(self, suffix: str) -> str:
        """The whole result as `.html`, `.json`, `.csv`, `.tex` or `.md`."""

    @abstractmethod
    def plots(self) -> Sequence[Plot]:
        """All drawings."""

    def frame(self) -> pd.DataFrame:
        """The main table as a pandas data frame: raw values, units in the column names."""
        from tcja_deploy.energy.render.frames import table_frame

        return table_frame(self.tables()[0])

    def plot(self, key: str | None = None) -> Axes:
        """Draw with matplotlib.

        Args:
            key: Which plot, by its `key` in `plots()`; the first if not given.

        Returns:
            The first axes of a new figure.

        Raises:
            UsageError: There is no such plot.
        """
        from matplotlib import pyplot

        drawings = {plot.key: plot for plot in self.plots()}
        if not drawings:
            raise UsageError(
                "there is nothing to draw: no layer spikes, and nothing was compared or has a price"
            )
        if key is not None and key not in drawings:
            raise UsageError(f"there is no plot {key!r}", hint=f"use one of {', '.join(drawings)}")
        chosen = next(iter(drawings.values())) if key is None else drawings[key]
        figure = pyplot.figure(figsize=chosen.size, layout="constrained")
        chosen.paint(figure)
        axes: Axes = figure.axes[0]
        return axes

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the whole result.

        Args:
            path: File; its suffix decides the format: `.html`, `.json`, `.csv`, `.tex` or `.md`.
            force: Replace what is there.

        Returns:
            The path.

        Raises:
            UsageError: The suffix is none of these.
            ExportError: The path is taken, or cannot be written.
        """
        write_text(Path(path), self.document, force=force)
        return Path(path)

    def _repr_html_(self) -> str:
        return "".join(table_html(table) for table in self.tables())

    def __str__(self) -> str:
        from tcja_deploy.energy.render.formats import to_text

        return "\n".join(to_text(table) for table in self.tables())

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]
