"""Firing rates of a model in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.count.model import measure_model
from tcja_deploy.energy.render.documents import rates_document
from tcja_deploy.energy.render.plots import Plot, rate_plots
from tcja_deploy.energy.render.rate_tables import rate_summary, rates_table
from tcja_deploy.energy.render.table import Table
from tcja_deploy.energy.report.rates import Rates
from tcja_deploy.energy.report.rates import rates as find_rates
from tcja_deploy.library.arguments import LoadArguments, RecordingArguments
from tcja_deploy.library.progress import progress_bar
from tcja_deploy.library.result import Result
from tcja_deploy.library.sources import Data, Model, model_facts, open_model, open_parts
from tcja_deploy.library.task import task
from tcja_deploy.runtime.activity.file import save_activity

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RateReport", "measured", "rates"]


@dataclass(frozen=True, eq=False)
class RateReport(Result):
    """Firing rates of a model over recordings.

    Attributes:
        rates: The numbers: every spiking layer, and what enters every layer with weights.
        activity: The exact spike counts that they are computed from.
        facts: Where the numbers come from, by name.
    """

    rates: Rates
    activity: Measured
    facts: Mapping[str, str]

    @property
    def accuracy(self) -> float | None:
        """Share of correct predictions; `None` without labels."""
        return None if self.rates.confusion is None else self.rates.confusion.accuracy

    def tables(self) -> Sequence[Table]:
        """What the terminal shows."""
        return rate_summary(self.rates)

    def frame(self) -> pd.DataFrame:
        """One row per spiking layer and per input of a layer with weights; `rate_t<i>` is time step i."""
        from tcja_deploy.energy.render.frames import table_frame

        return table_frame(rates_table(self.rates))

    def document(self, suffix: str) -> str:
        """The whole result in one format."""
        return rates_document(self.rates, self.facts, suffix)

    def plots(self) -> Sequence[Plot]:
        """Rates per layer, over time, and of single neurons."""
        return rate_plots(self.rates)

    def save_counts(self, path: str | Path, *, force: bool = False) -> Path:
        """Save the exact counts (`.npz`), which `energy(model, activity=path)` reads.

        Returns:
            The path.

        Raises:
            ExportError: The path is taken, or cannot be written.
        """
        save_activity(self.activity.activity, Path(path), force=force)
        return Path(path)


def measured(
    model: Model,
    data: Data,
    *,
    batch_size: int | None = None,
    engine: str = "auto",
    device: str = "cpu",
    progress: bool = True,
    loading: LoadArguments | None = None,
    **recordings: Unpack[RecordingArguments],
) -> tuple[Measured, dict[str, str]]:
    """Run a model over recordings: the counts, and facts about model, data and run. The arguments are those of `rates`."""
    graph = open_model(model, loading, progress=progress)
    found = measure_model(
        graph,
        open_parts(graph, data, **recordings),
        batch_size=batch_size,
        engine=engine,
        device=device,
        progress=progress_bar("counting spikes", shown=progress),
    )
    return found.measured, {**model_facts(model, graph), **found.facts}


@task
def rates(
    model: Model,
    data: Data,
    *,
    batch_size: int | None = None,
    engine: str = "auto",
    device: str = "cpu",
    progress: bool = True,
    loading: LoadArguments | None = None,
    **recordings: Unpack[RecordingArguments],
) -> RateReport:
    """Firing rates of every layer, from exact spike counts over all recordings.

    Args:
        model: What `load` takes, or a graph.
        data: Paths, arrays `[T, N, C, H, W]`, `(frames, labels)`, or batches of them such as a `DataLoader` gives; see
            `open_data`.
        batch_size: Recordings that run together; a number that suits the device if not given.
        engine: What runs the network: `"auto"`, `"torch"`, `"events"` or `"onnx"`.
        device: Where torch computes, such as `"cuda"`.
        progress: Show a progress bar if it takes longer than two seconds.
        loading: Arguments of `load`, for a model that is not a graph.
        **recordings: Arguments of `open_data`, for paths.

    Raises:
        DataError: The recordings cannot be read, or do not fit the model.
        UsageError: An argument makes no sense.
        FileFormatError, TraceError, CodeError: The model cannot be loaded; see `load`.
    """
    counts, facts = measured(
        model, data, batch_size=batch_size, engine=engine, device=device, progress=progress, loading=loading,
        **recordings,
    )  # fmt: skip
    return RateReport(find_rates(counts), counts, facts)
