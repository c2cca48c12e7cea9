"""What an exported file or folder is, by its content."""

from __future__ import annotations

import json
from pathlib import Path

from tcja_deploy.errors import FileFormatError

__all__ = ["artifact_target"]

_HDF5 = b"\x89HDF\r\n\x1a\n"


def artifact_target(path: Path) -> str:
    """Export target that an artifact belongs to: ``"onnx"``, ``"onnx-step"``, ``"lava"`` or ``"nir"``.

    Raises:
        FileFormatError: If there is nothing at the path, or it is no artifact.
    """
    if path.is_dir():
        return _folder_target(path)
    if not path.is_file():
        raise FileFormatError("there is no such file or folder", where=str(path))
    with path.open("rb") as stream:
        if stream.read(len(_HDF5)) == _HDF5:
            return "nir"
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.output:  # any empty file decodes to a model
            raise DecodeError("the graph has no output")
    except DecodeError as error:
        raise FileFormatError(
            "this is no artifact that tcja-deploy writes, or it is damaged",
            where=str(path),
            hint="known: .onnx and .nir files, Lava bundles and split NIR exports",
        ) from error
    properties = {p.key: p.value for p in model.metadata_props}
    return "onnx-step" if properties.get("tcja_deploy.target") == "step" else "onnx"


def _folder_target(path: Path) -> str:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise FileFormatError(
            "the folder has no readable manifest.json",
            where=str(path),
            hint="a Lava bundle or a split NIR export has one",
        ) from error
    if isinstance(manifest, dict):
        if manifest.get("target") == "nir":
            return "nir"
        if "Lava bundle" in str(manifest.get("format")):
            return "lava"
    raise FileFormatError("the manifest is not one of a folder that tcja-deploy writes", where=str(path))
