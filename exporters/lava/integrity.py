"""Whether a bundle is unchanged: the seal of its manifest, and the size and SHA-256 of every file that it lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcja_deploy.exporters.manifest import NAME, check_files, read_manifest, seal
from tcja_deploy.files import sha256

__all__ = ["intact_manifest", "seal", "sha256"]


def intact_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle, after all files have been checked against it.

    Raises:
        FileFormatError: If a file is missing, changed or unlisted.
    """
    manifest = read_manifest(bundle / NAME, "lava")
    check_files(bundle, manifest)
    return manifest
