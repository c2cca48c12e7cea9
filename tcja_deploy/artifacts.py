"""What an exported file or folder is, by its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcja_deploy.errors import FileFormatError
from tcja_deploy.exporters.manifest import NAME
from tcja_deploy.exporters.target import Target
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.files import path_status

__all__ = ["artifact_target", "is_bundle"]


def artifact_target(path: Path) -> Target[Any, Any]:
    """The target that an artifact belongs to: the first one in the table that recognises it.

    Raises:
        FileFormatError: If there is nothing at the path, or it is not an artifact.
    """
    status = path_status(path)
    if status == "other":
        raise FileFormatError("this is a device, FIFO or socket, not a file", where=str(path))
    if status == "missing":
        raise FileFormatError("there is no such file or folder", where=str(path))
    for target in TARGETS.values():
        if target.recognise(path):
            return target
    raise FileFormatError(
        "this is not an artifact that tcja-deploy writes, or it is damaged",
        where=str(path),
        hint=f"known: {'; '.join(target.about for target in TARGETS.values())}",
    )


def is_bundle(path: Path) -> bool:
    """Whether a path is a folder whose manifest says that it is a Lava bundle.

    Raises:
        FileFormatError: If the path cannot be accessed, or the manifest is damaged or not of this program.
    """
    if path_status(path) != "folder" or path_status(path / NAME) != "file":
        return False
    return artifact_target(path).name == "lava"
