"""What protects a bundle: sizes and hashes of all files, a hash of the manifest itself, limits on what is unpacked.

The hashes find damage, not malice: whoever can write the folder can write the manifest. What a bundle may make this
program do is limited elsewhere: no pickles, no paths outside the folder, and Lava runs the program's own runner, not the
bundle's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError
from tcja_deploy.files import path_status, sha256
from tcja_deploy.reading.json_text import check_structure, read_json
from tcja_deploy.unsupported import bullets

__all__ = [
    "FORMAT",
    "VERSION",
    "array",
    "check_files",
    "read_manifest",
    "seal",
    "write_manifest",
]

FORMAT, VERSION = "tcja-deploy Lava bundle", 1
SEAL = "manifest_sha256"


def seal(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's entries without the seal, in a form that does not depend on their order."""
    entries = {key: value for key, value in manifest.items() if key != SEAL}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest.json with the sizes and hashes of all files that lie in the folder, and its own."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    listed = {
        p.relative_to(folder).as_posix(): {"sha256": sha256(p), "bytes": p.stat().st_size} for p in files
    }
    whole = {**manifest, "files": listed}
    text = json.dumps({**whole, SEAL: seal(whole)}, indent=1)
    (folder / "manifest.json").write_text(text + "\n", "utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a bundle.

    Raises:
        FileFormatError: None, damaged, of another version, or of something else.
    """
    file = path / "manifest.json"
    manifest: dict[str, Any] = read_json(file, hint="is this a Lava bundle?")
    if manifest.get("format") != FORMAT:
        raise FileFormatError("is not the manifest of a Lava bundle", where=str(file))
    if manifest.get("version") != VERSION:
        raise FileFormatError(
            f"has version {manifest.get('version')!r}, this program reads {VERSION}",
            where=str(file),
            hint="use the version of tcja-deploy that wrote it, or export again",
        )
    if manifest.get(SEAL) != seal(manifest):
        raise FileFormatError(
            "its content has changed (SHA-256 differs)", where=str(file), hint="export the bundle again"
        )
    try:
        check_structure(manifest, _STRUCTURE)
    except ValueError as error:
        raise FileFormatError(f"the manifest is incomplete or wrong ({error})", where=str(file)) from None
    return manifest


_LAYER = {"name": str, "kind": str, "in_shape": [int]}
_STRUCTURE = {
    "name": str,
    "frames": int,
    "files": {str: {"sha256": str, "bytes": int}},
    "parts": [{"kind": str, "file": str, "name?": str, "in_shape": [int], "layers?": [_LAYER]}],
    "input": {"shape": [int], "binary": bool, "peak": int, "scale": int, "unit": int, "limbs": [int]},
    "readout": {"vote": int, "time_mean": bool},
}
"""Of the manifest, as far as it is read."""


def check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """All files listed, none changed, none outside the folder, none besides (caches of Python excepted).

    Raises:
        FileFormatError: Names all files that are not as listed.
    """
    listed = manifest["files"]
    root = path.resolve()
    problems = [
        f"{name}: {problem}"
        for name, facts in listed.items()
        if (problem := _problem(path / name, facts, root))
    ]
    there = (p.relative_to(path) for p in path.rglob("*") if p.is_file() or p.is_symlink())
    known = {*listed, "manifest.json"}
    problems += [
        f"{name.as_posix()}: does not belong to the bundle"
        for name in sorted(there)
        if name.as_posix() not in known and "__pycache__" not in name.parts
    ]
    if problems:
        raise FileFormatError(
            f"the bundle is damaged:{bullets(problems)}", where=str(path), hint="export it again"
        )


def _problem(file: Path, facts: Any, root: Path) -> str:
    """What is wrong with a listed file; empty if nothing."""
    try:
        if path_status(file) != "file":
            return "is missing"
    except FileFormatError as error:
        return error.reason
    if file.is_symlink() or not file.resolve().is_relative_to(root):
        return "lies outside the bundle"
    size = file.stat().st_size
    if not isinstance(facts, dict) or size != facts.get("bytes"):
        return f"has {size} bytes, not those of the manifest"
    try:
        same = sha256(file) == facts.get("sha256")
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if same else "its content has changed (SHA-256 differs)"


def array(arrays: Mapping[str, NDArray[Any]], key: str, file: Path) -> NDArray[Any]:
    """One of a file's arrays.

    Raises:
        FileFormatError: If it is missing.
    """
    if key not in arrays:
        raise FileFormatError(f"lacks {key!r}", where=str(file))
    return arrays[key]
