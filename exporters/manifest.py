"""The manifest of an export: one schema for all targets, sealed, and read back with its files checked.

    format, format_version      what this is
    target                      the target's name
    model                       hash, source, T, input, output, parameters of the network as it was trained
    files                       size and SHA-256 of every other file, by its path
    nodes                       what became of each node
    parity                      the result of the verification; null if there was none
    comparisons                 other comparisons by name: folding, divergence, inclusive, approximation
    notes                       assumptions and approximations, in sentences
    versions                    versions of the programs involved
    <target>                    the target's own section
    manifest_sha256             hash of all of the above, whatever their order

The hashes find damage, not malice: whoever can write the files can write the manifest. What a file may make this program do is
limited elsewhere: no pickles, no paths outside the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tcja_deploy.errors import FileFormatError
from tcja_deploy.files import path_status, sha256
from tcja_deploy.reading.json_text import check_structure, read_json
from tcja_deploy.unsupported import bullets

__all__ = [
    "FORMAT",
    "NAME",
    "SEAL",
    "VERSION",
    "check_files",
    "file_facts",
    "listed_files",
    "manifest_target",
    "read_manifest",
    "seal",
    "sealed",
]

FORMAT, VERSION = "tcja-deploy-manifest", 2
NAME = "manifest.json"
"""Name of the manifest inside a folder; next to a file it is `<stem>.manifest.json`."""
SEAL = "manifest_sha256"


def seal(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's entries without the seal, independent of their order."""
    entries = {key: value for key, value in manifest.items() if key != SEAL}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def sealed(target: str, entries: Mapping[str, Any]) -> str:
    """Text of a target's manifest with these entries and its seal."""
    head = {"format": FORMAT, "format_version": VERSION, "target": target}
    content = json.loads(json.dumps({**head, **entries}))  # as it will be read back: sealed like that
    return json.dumps({**content, SEAL: seal(content)}, indent=2) + "\n"


def file_facts(root: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of each file, by its path relative to `root`."""
    return {
        file.relative_to(root).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(files)
    }


def read_manifest(file: Path, target: str) -> dict[str, Any]:
    """Read a manifest and check its version, seal and target.

    Raises:
        FileFormatError: If it is missing or damaged, or belongs to another version or another target.
    """
    manifest: dict[str, Any] = read_json(file, hint=_HINT)
    if manifest.get("format") != FORMAT or manifest.get("target") != target:
        raise FileFormatError(f"is not the manifest of an export to {target}", where=str(file))
    if manifest.get("format_version") != VERSION:
        raise FileFormatError(
            f"has version {manifest.get('format_version')!r}, this program reads {VERSION}",
            where=str(file),
            hint="use the version of tcja-deploy that wrote it, or export again",
        )
    if manifest.get(SEAL) != seal(manifest):
        raise FileFormatError(
            "its content has changed (SHA-256 differs)", where=str(file), hint="export it again"
        )
    try:
        check_structure(manifest, _STRUCTURE)
    except ValueError as error:
        raise FileFormatError(f"the manifest is incomplete or wrong ({error})", where=str(file)) from None
    return manifest


_HINT = "a Lava bundle or a split NIR export has one"
_STRUCTURE = {"files": {str: {"sha256": str, "bytes": int}}}
"""Structure of the entries that are read from any manifest; targets check their own section."""


def manifest_target(file: Path) -> str:
    """Name of the target that a manifest claims to be for, whatever else is wrong with it.

    Raises:
        FileFormatError: If it is not a manifest of this program.
    """
    manifest = read_json(file, hint=_HINT)
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("target"), str):
        raise FileFormatError("is not a manifest that tcja-deploy writes", where=str(file))
    return str(manifest["target"])


def listed_files(file: Path) -> tuple[str, tuple[str, ...]]:
    """The target of a manifest next to an artifact, and the names of the files that it lists, whatever its version.

    Raises:
        FileFormatError: If it is not a manifest of this program.
    """
    manifest = read_json(file, hint=_HINT)
    listed = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(listed, dict):
        raise FileFormatError("is not a manifest that tcja-deploy writes", where=str(file))
    return str(manifest.get("target")), tuple(name for name in listed if Path(name).name == name)


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Check that a folder holds exactly the files listed, unchanged and inside it (Python's caches are ignored).

    Raises:
        FileFormatError: If a file is missing, changed, unlisted or outside the folder; names all such files.
    """
    listed = manifest["files"]
    root = folder.resolve()
    problems = [
        f"{name}: {problem}"
        for name, facts in listed.items()
        if (problem := _problem(folder / name, facts, root))
    ]
    there = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file() or p.is_symlink())
    known = {*listed, NAME}
    problems += [
        f"{name.as_posix()}: does not belong to the export"
        for name in sorted(there)
        if name.as_posix() not in known and "__pycache__" not in name.parts
    ]
    if problems:
        raise FileFormatError(
            f"the export is damaged:{bullets(problems)}", where=str(folder), hint="export it again"
        )


def _problem(file: Path, facts: Any, root: Path) -> str:
    """What is wrong with a listed file; empty if nothing is."""
    try:
        if path_status(file) != "file":
            return "is missing"
    except FileFormatError as error:
        return error.reason
    if file.is_symlink() or not file.resolve().is_relative_to(root):
        return "lies outside the export"
    size = file.stat().st_size
    if not isinstance(facts, dict) or size != facts.get("bytes"):
        return f"has {size} bytes, not those of the manifest"
    try:
        same = sha256(file) == facts.get("sha256")
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if same else "its content has changed (SHA-256 differs)"
