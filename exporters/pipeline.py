"""The steps of every export: prepare, translate, stage, golden sample, manifest, verify, move into place.

Everything is written into a staging folder, where the artifact is verified together with its golden sample and manifest.
Then everything moves into place at once. An artifact that differs from its reference by more than the bound is moved too,
because its user has to see where it differs: the manifest says so in `parity`, and so does the report.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.companions import GOLDEN, beside, card_name, check_owner, set_names
from tcja_deploy.exporters.folding import folding_effect, folding_note
from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.manifest import NAME, file_facts, sealed
from tcja_deploy.exporters.report import ExportReport
from tcja_deploy.exporters.target import (
    Check,
    ExportProgress,
    Target,
    Translation,
    given_options,
    unmonitored,
)
from tcja_deploy.files import atomic_directory, check_free, staged_files
from tcja_deploy.ir import Graph
from tcja_deploy.passes import Prepared, prepare
from tcja_deploy.runtime.agreement import BOUND, Agreement
from tcja_deploy.version import __version__, torch_version

__all__ = ["run_export", "run_verification"]

Batches = Iterable[NDArray[np.float32]]

Card = Callable[[Mapping[str, Any], ExportReport], str]
"""Makes the text of a model card from the manifest's entries and the report, which does not list the files yet."""


def run_export(
    target: Target[Any, Any],
    graph: Graph,
    path: Path,
    *,
    data: Batches | None = None,
    verify: bool = True,
    bound: float = BOUND,
    force: bool = False,
    card: Card | None = None,
    progress: ExportProgress = unmonitored,
    **options: Any,
) -> ExportReport:
    """Export a network.

    A single-file artifact is written as `<stem><suffix>` with `<stem>.golden.npz` and `<stem>.manifest.json` next to it;
    a folder contains `golden.npz` and `manifest.json`. On failure nothing is left behind. A model card is called
    `<stem>.card.md` or, in a folder, `README.md`. What replaces an earlier export replaces all of it: its card and its file
    of weights are removed if this one has none.

    Args:
        target: The target.
        graph: The network.
        path: Where to write; a file name gets the last part of the target's suffix if it lacks it.
        data: Frames `[T, n, ...]` to calibrate and verify on; four synthetic samples if not given.
        verify: Whether to compare the artifact with its reference.
        bound: Allowed mismatches per neuron-step.
        force: Whether to replace what exists at `path`.
        card: Makes the model card; `None` for no card.
        progress: Called with a description of the current work and the number of samples or steps done.
        **options: Options of the target; see its dataclass of options.

    Raises:
        UsageError: If an option is unknown or makes no sense.
        DataError: If the data holds no sample, or frames do not fit.
        UnsupportedError: If the target cannot express the network; lists every node.
        ExportError: If the artifact cannot be written.
    """
    chosen = given_options(target.options, options, f"target {target.name}")
    folder = target.folder(chosen)
    place = path if folder else _with_suffix(path, target.suffix)
    if not folder:
        check_owner(place)
    check_free(place, force=force)
    network, frames = prepare(graph), FrameBatches(graph, data)
    translation = target.translate(network, frames, chosen, progress)
    names = () if folder else set_names(place, target, card=card is not None)
    earlier = {place.parent / name for name in names if os.path.lexists(place.parent / name)}
    with _staged(place, names, force=force) as staged:
        job = _Job(target, network, translation, staged, folder)
        translation.write(staged)
        if verify:
            translation.begin_check(staged, frames)
        np.savez_compressed(job.beside(GOLDEN), **translation.golden(frames.sample))  # type: ignore[arg-type]
        job.write_manifest(None)
        check = None
        if verify:
            check = _verified(translation, network, staged, frames, bound, progress)
        report = job.report(place, check)
        if card is not None:
            text = card({"target": target.name, **job.entries(check)}, report)
            job.beside(card_name(folder)).write_text(text, "utf-8")
        if check is not None or card is not None:
            job.write_manifest(check)
        root = staged if folder else staged.parent
        inside = sorted(str(f.relative_to(root)) for f in root.rglob("*") if f.is_file())
        files = inside if folder else [name for name in names if name in inside]
    written = tuple((place if folder else place.parent) / name for name in files)
    return replace(report, files=written, removed=tuple(sorted(earlier.difference(written))))


def _with_suffix(path: Path, suffix: str) -> Path:
    last = suffix[suffix.rindex(".") :]
    return path if path.suffix == last else path.with_name(path.name + last)


@contextmanager
def _staged(place: Path, names: tuple[str, ...], *, force: bool) -> Iterator[Path]:
    """Staging path of the artifact, which moves into place if the block succeeds and is removed if it fails."""
    if names:
        with staged_files(place.parent, names, force=force, allowed=lambda: check_owner(place)) as folder:
            yield folder / place.name
    else:
        with atomic_directory(place, force=force) as folder:
            yield folder


def _verified(
    translation: Translation,
    network: Prepared,
    staged: Path,
    frames: FrameBatches,
    bound: float,
    progress: ExportProgress,
) -> Check:
    """The target's own check, with the effect of folding where the target's reference is folded."""
    check = translation.check(staged, frames, bound, progress)
    if translation.reference is None:
        return check
    said = f"the reference ran in {translation.reference.engine}"
    effect = folding_effect(network, translation.reference, frames.sample, bound=bound)
    if effect is None:
        return replace(check, notes=(*check.notes, said))
    return Check(
        check.agreement,
        {"folding": effect, **check.comparisons},
        (*check.notes, said, folding_note(effect)),
        check.runtime,
    )


@dataclass(frozen=True)
class _Job:
    """One export and what its manifest says; every file is hashed once, when it is there."""

    target: Target[Any, Any]
    network: Prepared
    translation: Translation
    staged: Path
    folder: bool
    hashed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def beside(self, name: str) -> Path:
        """Path of a file that belongs to the artifact."""
        return self.staged / name if self.folder else beside(self.staged, name)

    def notes(self, check: Check | None) -> tuple[str, ...]:
        proof = self.network.trained.source.get("silence")
        found = check.agreement.silence if check else ""
        return (
            *self.translation.notes,
            *(check.notes if check else ()),
            *([f"when the model was loaded, {proof}"] if proof else []),
            *([found] if found else []),
        )

    def comparisons(self, check: Check | None) -> Mapping[str, Agreement]:
        return {**self.translation.comparisons, **(check.comparisons if check else {})}

    def report(self, place: Path, check: Check | None) -> ExportReport:
        """The report of the export; the files are not known yet."""
        return self.translation.report(
            ExportReport(
                self.target.name,
                place,
                (),
                self.translation.nodes,
                check.agreement if check else None,
                self.notes(check),
                self.comparisons(check),
                (check.runtime if check else "") or self.target.runtime,
            )
        )

    def write_manifest(self, check: Check | None) -> None:
        """Write the manifest, with the result of the verification if there is one."""
        self.beside(NAME).write_text(sealed(self.target.name, self.entries(check)), "utf-8")

    def _files(self, root: Path, manifest: Path) -> dict[str, dict[str, Any]]:
        there = {f.relative_to(root).as_posix(): f for f in root.rglob("*") if f.is_file() and f != manifest}
        new = (file for name, file in there.items() if name not in self.hashed)
        self.hashed.update(file_facts(root, new))
        return {name: self.hashed[name] for name in sorted(there)}

    def entries(self, check: Check | None) -> dict[str, Any]:
        """The entries of the manifest for the files that exist now."""
        manifest = self.beside(NAME)
        root = self.staged if self.folder else self.staged.parent
        return {
            "model": _about_model(self.network.trained),
            "files": self._files(root, manifest),
            "nodes": [vars(node) for node in self.translation.nodes],
            "parity": check.agreement.as_dict() if check else None,
            "comparisons": {name: a.as_dict() for name, a in self.comparisons(check).items()},
            "notes": self.notes(check),
            "versions": {
                "tcja_deploy": __version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
                "torch": torch_version(),
                **self.translation.versions,
            },
            self.target.name: self.translation.about,
        }


def _about_model(graph: Graph) -> dict[str, Any]:
    return {
        "sha256": graph.hash,
        "source": graph.source,
        "T": graph.T,
        "input": [str(d) for d in graph.input.signal.dims],
        "input_kind": graph.input.signal.kind,
        "output": [str(d) for d in graph[graph.output].signal.dims],
        "parameters": graph.parameters,
    }


def run_verification(
    target: Target[Any, Any],
    artifact: Path,
    graph: Graph | None = None,
    batches: Batches | None = None,
    *,
    progress: ExportProgress = unmonitored,
    **options: Any,
) -> Agreement:
    """Compare an artifact with its reference, spike for spike.

    Args:
        target: The artifact's target.
        artifact: The file or folder.
        graph: The network it was exported from; ignored if the artifact contains its own reference.
        batches: Frames `[T, n, ...]`; if `None`, four synthetic samples, or the golden sample of an artifact that
            contains its own reference.
        progress: Called with a description of the current work and the number of samples or steps done.
        **options: Options of the target's verification; see its dataclass.

    Raises:
        UsageError: If the network is needed and not given, or an option makes no sense.
        DataError: If the data holds no sample, or frames do not fit.
        FileFormatError: If the artifact is damaged or was not exported from the graph.
        ToolchainError: If the artifact's runtime is not installed.
    """
    chosen = given_options(target.verification, options, f"verifying target {target.name}")
    if target.own_input is not None:
        return target.verify(artifact, None, batches, chosen, progress)
    if graph is None:
        raise UsageError(
            "the network that this was exported from is needed", where=str(artifact), hint="pass it (--model)"
        )
    return target.verify(artifact, prepare(graph), FrameBatches(graph, batches), chosen, progress)
