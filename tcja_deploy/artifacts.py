"""What an exported file or folder is, by its content."""

from __future__ import annotations

from pathlib import Path

from tcja_deploy.errors import FileFormatError
from tcja_deploy.files import path_status
from tcja_deploy.reading.hdf5 import is_hdf5
from tcja_deploy.reading.json_text import read_json
from tcja_deploy.reading.onnx_file import onnx_metadata

__all__ = ["artifact_target"]


def artifact_target(path: Path) -> str:
    """Export target that an artifact belongs to: ``"onnx"``, ``"onnx-step"``, ``"lava"`` or ``"nir"``.

    Raises:
        FileFormatError: If there is nothing at the path, or it is no artifact.
    """
    status = path_status(path)
    if status == "folder":
        return _folder_target(path)
    if status == "other":
        raise FileFormatError("this is a device, FIFO or socket and no file", where=str(path))
    if status == "missing":
        raise FileFormatError("there is no such file or folder", where=str(path))
    try:
        if is_hdf5(path):
            return "nir"
        properties = onnx_metadata(path)
    except OSError as error:
        raise FileFormatError(f"cannot be read ({error.strerror})", where=str(path)) from error
    if properties is None:
        raise FileFormatError(
            "this is no artifact that tcja-deploy writes, or it is damaged",
            where=str(path),
            hint="known: .onnx and .nir files, Lava bundles and split NIR exports",
        )
    return "onnx-step" if properties.get("tcja_deploy.target") == "step" else "onnx"


def _folder_target(path: Path) -> str:
    manifest = read_json(path / "manifest.json", hint="a Lava bundle or a split NIR export has one")
    if manifest.get("target") == "nir":
        return "nir"
    if "Lava bundle" in str(manifest.get("format")):
        return "lava"
    raise FileFormatError("the manifest is not one of a folder that tcja-deploy writes", where=str(path))
