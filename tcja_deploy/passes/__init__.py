"""Graph to graph: each pass takes a graph and returns a new one."""

from __future__ import annotations

from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.passes.prepare import Prepared, prepare

__all__ = ["Prepared", "fold_batch_norm", "prepare"]
