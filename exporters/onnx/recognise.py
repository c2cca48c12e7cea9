"""Which target an ONNX file was exported for, judged by its content."""

from __future__ import annotations

from pathlib import Path

from tcja_deploy.errors import FileFormatError
from tcja_deploy.files import path_status
from tcja_deploy.reading.onnx_file import onnx_metadata

__all__ = ["TARGET_KEY", "model_target"]

TARGET_KEY = "tcja_deploy.target"
"""Metadata property that names the target that a model was exported for."""


def model_target(path: Path) -> str | None:
    """Target that an ONNX model was exported for, `""` if it does not say; `None` if the file is not a model.

    Raises:
        FileFormatError: If it cannot be read.
    """
    if path_status(path) != "file":
        return None
    try:
        properties = onnx_metadata(path)
    except OSError as error:
        raise FileFormatError(f"cannot be read ({error.strerror})", where=str(path)) from error
    return None if properties is None else properties.get(TARGET_KEY, "")
