"""Whether a bundle is as it was written: the seal of its manifest, and size and SHA-256 of every file that it lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcja_deploy.exporters.manifest import NAME, check_files, read_manifest, seal
from tcja_deploy.files import sha256

__all__ = ["intact_manifest", "seal", "sha256"]


def intact_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle, every file of which is as listed.

    Raises:
        FileFormatError: A missing, changed or foreign file.
    """
    manifest = read_manifest(bundle / NAME, "lava")
    check_files(bundle, manifest)
    return manifest
