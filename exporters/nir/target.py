"""The target `nir`: the standard exchange graph of spiking networks, with the TCJA gate handled explicitly, never dropped.

Needs the extra `nir`; without it, exporting and verifying raise `ToolchainError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tcja_deploy.errors import ToolchainError
from tcja_deploy.exporters.manifest import NAME, manifest_target
from tcja_deploy.exporters.nir.options import NirOptions, NirVerification
from tcja_deploy.exporters.target import ExportProgress, Opened, Target, Translation

if TYPE_CHECKING:
    from tcja_deploy.exporters.frames import FrameBatches
    from tcja_deploy.ir import Graph
    from tcja_deploy.passes import Prepared
    from tcja_deploy.runtime.agreement import Agreement

__all__ = ["NIR"]


@contextmanager
def _with_nir() -> Iterator[None]:
    try:
        import nir.ir  # a folder called nir where Python looks for modules has no such part  # noqa: F401

        yield
    except ModuleNotFoundError as error:
        if error.name not in ("nir", "nir.ir"):
            raise
        raise ToolchainError(
            "the package nir is not installed", hint="pip install 'tcja-deploy[nir]'"
        ) from error


def _translate(
    network: Prepared, frames: FrameBatches, options: NirOptions, progress: ExportProgress
) -> Translation:
    with _with_nir():
        from tcja_deploy.exporters.nir.export import translate
    return translate(network, frames, options)


def _recognise(path: Path) -> bool:
    if path.is_dir():
        return manifest_target(path / NAME) == "nir"
    from tcja_deploy.reading.hdf5 import is_hdf5

    return is_hdf5(path)


def _verify(
    artifact: Path,
    network: Prepared,
    frames: FrameBatches,
    options: NirVerification,
    progress: ExportProgress,
) -> Agreement:
    with _with_nir():
        from tcja_deploy.exporters.nir.artifact import read_nir_artifact, reference_of, verify_nir
    read = read_nir_artifact(artifact, options.runner)
    reference = reference_of(read, network, options.engine, frames.samples)
    return verify_nir([read], network, frames, reference, bound=options.bound, progress=progress)[0]


def _open(artifact: Path, graph: Graph) -> AbstractContextManager[Opened]:
    with _with_nir():
        from tcja_deploy.exporters.nir.artifact import open_nir
    return open_nir(artifact, graph.T)


NIR = Target(
    name="nir",
    title="NIR",
    about="a NIR graph, or segments of NIR with the gates between them",
    suffix=".nir",
    runtime="NIR, read back",
    options=NirOptions,
    verification=NirVerification,
    translate=_translate,
    recognise=_recognise,
    verify=_verify,
    open=_open,
    folder=lambda options: options.gate == "split",
)
"""Time constants, thresholds and weights are written so that Norse, SpikingJelly and NIR's equations agree."""
