"""Energy of a model in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.count.model import kept_activity
from tcja_deploy.energy.measure import join
from tcja_deploy.energy.price.conventions import AccountingOptions
from tcja_deploy.energy.price.estimate import EnergyEstimate, select
from tcja_deploy.energy.render.documents import report_document
from tcja_deploy.energy.render.plots import Plot, report_plots
from tcja_deploy.energy.render.report_tables import summary_tables, totals_table
from tcja_deploy.energy.render.table import Table
from tcja_deploy.energy.report.provenance import profile_facts
from tcja_deploy.energy.report.record import Report, make_report
from tcja_deploy.errors import UsageError
from tcja_deploy.ir import Graph
from tcja_deploy.library.arguments import LoadArguments, RunArguments
from tcja_deploy.library.firing_rates import RateReport, measured
from tcja_deploy.library.result import Result
from tcja_deploy.library.sources import Data, Model, model_facts, open_model
from tcja_deploy.library.task import task
from tcja_deploy.passes.fold import fold_batch_norm

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EnergyReport", "energy"]


@dataclass(frozen=True, eq=False)
class EnergyReport(Result):
    """Energy of a model per inference, by named conventions and price lists.

    Attributes:
        report: All numbers of the report.
        activity: The exact counts that it is computed from.
    """

    report: Report
    activity: Measured

    @property
    def estimates(self) -> tuple[EnergyEstimate, ...]:
        """One estimate for each network (the SNN and its ANN), convention and price list; energies in pJ."""
        return self.report.estimates

    def tables(self) -> Sequence[Table]:
        """What the terminal shows."""
        return summary_tables(self.report)

    def frame(self) -> pd.DataFrame:
        """One row for each network, convention and price list."""
        from tcja_deploy.energy.render.frames import table_frame

        return table_frame(totals_table(self.report))

    def document(self, suffix: str) -> str:
        """The whole report in one format."""
        return report_document(self.report, suffix)

    def plots(self) -> Sequence[Plot]:
        """Totals of each convention, energy by layer, sensitivity, firing rates."""
        return report_plots(self.report)


@task
def energy(
    model: Model,
    data: Data | None = None,
    *,
    activity: RateReport | str | Path | None = None,
    profiles: Sequence[str] = (),
    conventions: Sequence[str] = (),
    options: AccountingOptions | None = None,
    allow_uncounted: bool = False,
    loading: LoadArguments | None = None,
    **running: Unpack[RunArguments],
) -> EnergyReport:
    """Energy per inference, from exact counts over recordings.

    Args:
        model: What `load` takes, or a graph.
        data: Recordings, as for `rates`.
        activity: The result of `rates`, or a file of counts (`rates(...).save_counts(path)`), instead of recordings.
        profiles: Price lists: built-in names such as `"asic45"`, or `.toml` files; if none, the papers' 45 nm.
        conventions: Any of `"paper"`, `"strict"`, `"memory"`, `"hardware"`; if none, all that the profiles can price.
        options: Choices that the conventions leave open.
        allow_uncounted: Report ops without a counting rule instead of refusing them.
        loading: Arguments of `load`, for a model that is not a graph.
        **running: Further arguments of `rates`: `batch_size`, `engine`, `device`, `progress` and those of `open_data`.

    Raises:
        UnsupportedError: An op has no counting rule, or the counts belong to another network.
        UsageError: Neither recordings nor counts, both, or conventions and profiles that do not fit each other.
        ProfileError: A profile breaks the schema.
        DataError: The recordings cannot be read, or do not fit the model.
        FileFormatError, TraceError, CodeError: The model cannot be loaded (see `load`), or the file holds no counts.
    """
    chosen, prices = select(conventions, profiles)
    if data is not None and activity is None:
        counts, facts = measured(model, data, loading=loading, **running)
    elif data is not None or activity is None:
        raise UsageError(
            "energy depends on activity: give either recordings (data) or saved counts (activity)",
            hint="no rate is ever assumed",
        )
    else:
        if running:
            raise UsageError(
                f"{', '.join(running)} are about recordings, but the counts are kept already",
                hint="leave them out",
            )
        graph = open_model(model, loading)
        counts, facts = _counted(graph, activity)
        facts = {**model_facts(model, graph), **facts}
    report = make_report(
        counts, prices, chosen, options,
        provenance=facts | profile_facts(prices), allow_unsupported=allow_uncounted,
    )  # fmt: skip
    return EnergyReport(report, counts)


def _counted(graph: Graph, activity: RateReport | str | Path) -> tuple[Measured, dict[str, str]]:
    """Counts of an earlier run, and facts about them.

    Raises:
        UnsupportedError: They belong to another network.
        FileFormatError: The file holds no counts.
    """
    if not isinstance(activity, RateReport):
        kept = kept_activity(graph, Path(activity))
        return kept.measured, kept.facts
    counts = activity.activity
    joined = join(graph, counts.activity, fold_batch_norm(graph))
    return replace(joined, predicted=counts.predicted), dict(activity.facts)
