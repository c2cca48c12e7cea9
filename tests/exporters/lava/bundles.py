"""Bundles of integer networks that no graph was quantised to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tcja_deploy.exporters.lava.bundle import golden_arrays, write_parts
from tcja_deploy.exporters.lava.manifest_section import describe
from tcja_deploy.exporters.manifest import NAME, file_facts, sealed
from tcja_deploy.files import atomic_directory
from tcja_deploy.runtime.integers.network import IntegerNetwork

__all__ = ["write_bundle"]


def write_bundle(
    network: IntegerNetwork,
    path: Path,
    sample: np.ndarray | None,
    *,
    about: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write a bundle with its golden sample and manifest, as an export does."""
    with atomic_directory(path, force=force) as folder:
        write_parts(network, folder)
        np.savez_compressed(folder / "golden.npz", **golden_arrays(network, sample))  # type: ignore[arg-type]
        files = file_facts(folder, (f for f in folder.rglob("*") if f.is_file()))
        (folder / NAME).write_text(sealed("lava", {"files": files, "lava": describe(network), **about}))
