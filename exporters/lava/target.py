"""The target `lava`: bundles of integer networks for lava-dl."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcja_deploy.exporters.lava.options import LavaOptions, LavaVerification
from tcja_deploy.exporters.manifest import NAME, manifest_target
from tcja_deploy.exporters.target import ExportProgress, Opened, Target, Translation

if TYPE_CHECKING:
    from tcja_deploy.exporters.frames import FrameBatches
    from tcja_deploy.ir import Graph
    from tcja_deploy.passes import Prepared
    from tcja_deploy.runtime.agreement import Agreement

__all__ = ["LAVA"]


def _translate(
    network: Prepared, frames: FrameBatches, options: LavaOptions, progress: ExportProgress
) -> Translation:
    from tcja_deploy.exporters.lava.export import LavaTranslation

    return LavaTranslation(network, frames, options, progress)


def _recognise(path: Path) -> bool:
    return path.is_dir() and manifest_target(path / NAME) == "lava"


def _own_input(path: Path) -> tuple[int, tuple[int, ...]]:
    from tcja_deploy.exporters.lava.bundle import read_bundle

    network = read_bundle(path).network
    return network.frames, network.host_input.shape


def _verify(
    artifact: Path,
    network: None,
    batches: Iterable[Any] | None,
    options: LavaVerification,
    progress: ExportProgress,
) -> Agreement:
    from tcja_deploy.exporters.lava.verify import verify_bundle

    return verify_bundle(artifact, batches, options, progress)


def _open(artifact: Path, graph: Graph) -> AbstractContextManager[Opened]:
    from tcja_deploy.exporters.lava.running import open_bundle

    return open_bundle(artifact)


LAVA = Target(
    name="lava",
    title="Lava",
    about="a bundle of integers for lava-dl and Loihi",
    suffix=".lava",
    runtime="Lava",
    options=LavaOptions,
    verification=LavaVerification,
    translate=_translate,
    recognise=_recognise,
    verify=_verify,
    open=_open,
    folder=lambda options: True,
    own_input=_own_input,
)
"""Quantised to 8-bit weights; the export compares the staged bundle with the twin, `verify` runs the real Lava."""
