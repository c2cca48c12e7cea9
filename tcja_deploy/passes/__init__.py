"""Graph to graph: each pass takes a graph and returns a new one."""

from __future__ import annotations

from tcja_deploy.passes.fold import fold_batch_norm

__all__ = ["fold_batch_norm"]
