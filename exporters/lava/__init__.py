"""Lava/Loihi: quantisation, bundles, and running them in the real lava-dl."""

from __future__ import annotations

from tcja_deploy.exporters.lava.export import LavaReport, export_lava, verify_bundle
from tcja_deploy.exporters.lava.options import Options

__all__ = ["LavaReport", "Options", "export_lava", "verify_bundle"]
