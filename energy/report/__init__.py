"""The energy report and everything that goes into it."""

from __future__ import annotations

from tcja_deploy.energy.report.record import Report, make_report

__all__ = ["Report", "make_report"]
