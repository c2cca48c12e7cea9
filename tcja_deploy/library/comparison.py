"""Several models on the same recordings, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, Unpack

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.price.conventions import AccountingOptions
from tcja_deploy.energy.price.estimate import select
from tcja_deploy.energy.render.comparison_tables import comparison_plots, comparison_tables
from tcja_deploy.energy.render.documents import tables_document
from tcja_deploy.energy.render.plots import Plot
from tcja_deploy.energy.render.table import Table
from tcja_deploy.energy.report.comparison import NetworkComparison, compare_networks
from tcja_deploy.energy.report.provenance import profile_facts
from tcja_deploy.library.arguments import LoadArguments, RunArguments
from tcja_deploy.library.firing_rates import measured
from tcja_deploy.library.result import Result
from tcja_deploy.library.sources import Data, Model, model_name
from tcja_deploy.library.task import task

__all__ = ["CONVENTIONS", "PROFILES", "ComparisonReport", "compare", "facts_of", "named_models"]

CONVENTIONS = ("paper", "strict")
"""Conventions of a comparison by default."""
PROFILES = ("asic45",)
"""Its price lists by default: 45 nm, as in the papers."""


@dataclass(frozen=True, eq=False)
class ComparisonReport(Result):
    """Models side by side.

    Attributes:
        comparison: The numbers.
        facts: Where they come from, by name.
    """

    comparison: NetworkComparison
    facts: Mapping[str, str]

    def tables(self) -> Sequence[Table]:
        """Models side by side, differences from the first, intervals."""
        return comparison_tables(self.comparison)

    def document(self, suffix: str) -> str:
        """The whole comparison in one format."""
        return tables_document(
            "tcja-deploy comparison",
            "Comparison of networks",
            self.facts,
            self.tables(),
            suffix,
            self.plots(),
        )

    def plots(self) -> Sequence[Plot]:
        """Accuracy against energy."""
        return comparison_plots(self.comparison)


@task
def compare(
    models: Sequence[Model] | Mapping[str, Model],
    data: Data,
    *,
    conventions: Sequence[str] = CONVENTIONS,
    profiles: Sequence[str] = PROFILES,
    options: AccountingOptions | None = None,
    loading: LoadArguments | None = None,
    **running: Unpack[RunArguments],
) -> ComparisonReport:
    """Accuracy, parameters, T, MACs, SOPs, rates and energy of models on the same recordings.

    Differences from the first model have intervals of a paired bootstrap.

    Args:
        models: Models as `load` takes them, or graphs; a mapping names them.
        data: Recordings, as for `rates`; read again for every model, so what can be read only once is refused.
        conventions: Any of `"paper"`, `"strict"`, `"memory"`, `"hardware"`.
        profiles: Price lists: built-in names, or `.toml` files.
        options: Choices that the conventions leave open.
        loading: Arguments of `load` for all models.
        **running: Further arguments of `rates`: `batch_size`, `engine`, `device`, `progress` and those of `open_data`.

    Raises:
        DataError: The recordings cannot be read, or do not fit every model.
        UsageError: Names that repeat, or conventions and profiles that do not fit each other.
    """
    chosen, prices = select(conventions, profiles)
    named = dict(models) if isinstance(models, Mapping) else named_models(models)
    found: list[tuple[str, Measured]] = []
    facts: dict[str, str] = {}
    for name, model in named.items():
        counts, known = measured(model, data, loading=loading, **running)
        found.append((name, counts))
        facts |= facts_of(name, known)
    return ComparisonReport(compare_networks(found, chosen, prices, options), facts | profile_facts(prices))


_OF_A_MODEL = ("model", "graph hash", "code", "weights", "engine", "silence")
"""How the names of facts begin that are about one model."""


def facts_of(name: str, known: Mapping[str, str]) -> dict[str, str]:
    """Where one model's numbers come from: its own facts under its name, and those that all models share."""
    return {
        (f"{name}, {k}" if k == "frames" or k.startswith(_OF_A_MODEL) else k): v for k, v in known.items()
    }


AnyModel = TypeVar("AnyModel", bound=Model)


def named_models(models: Sequence[AnyModel]) -> dict[str, AnyModel]:
    """Models by name; a name that repeats gets a number."""
    named: dict[str, AnyModel] = {}
    for model in models:
        name = model_name(model)
        number = 1 + sum(other.partition(" #")[0] == name for other in named)
        named[name if number == 1 else f"{name} #{number}"] = model
    return named
