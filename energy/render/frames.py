"""Tables as pandas data frames."""

from __future__ import annotations

import pandas as pd

from tcja_deploy.energy.render.rate_tables import rates_table
from tcja_deploy.energy.render.table import Table
from tcja_deploy.energy.report.rates import Rates

__all__ = ["rate_frame", "table_frame"]


def table_frame(table: Table) -> pd.DataFrame:
    """Raw values of a table, with units in the column names."""
    return pd.DataFrame.from_records(table.records())


def rate_frame(rates: Rates) -> pd.DataFrame:
    """Rates of all spiking layers and of all inputs of layers with weights; `rate_t<i>` is time step i."""
    return table_frame(rates_table(rates))
