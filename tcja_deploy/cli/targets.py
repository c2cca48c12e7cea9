"""What each export target takes from the command line, and how its report is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcja_deploy.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tcja_deploy.cli.options import Recordings
    from tcja_deploy.events import EventData
    from tcja_deploy.exporters.lava import LavaReport
    from tcja_deploy.exporters.report import ExportReport
    from tcja_deploy.ir import Graph

__all__ = ["TARGETS", "Request", "Target", "find_target"]


@dataclass(frozen=True)
class Request:
    """One export as the user asked for it.

    Attributes:
        graph: The network.
        path: What to write.
        data: Recordings, or ``None`` for made-up ones.
        which: Which recordings, and how many are run at once.
        verify: Whether to run the result beside the reference.
        force: Whether to replace files.
        options: Options of the target that were given.
    """

    graph: Graph
    path: Path
    data: EventData | None
    which: Recordings
    verify: bool
    force: bool
    options: Mapping[str, Any]

    def batches(self) -> Iterable[NDArray[np.float32]] | None:
        """Frames of the recordings, or ``None``."""
        return (
            None if self.data is None else (frames for frames, _ in self.data.batches(self.which.batch_size))
        )


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        suffix: Behind the model's name if no output is given.
        options: Options that only some targets take.
        run: Does the export.
        show: Prints its report.
    """

    suffix: str
    options: frozenset[str]
    run: Callable[[Request], ExportReport]
    show: Callable[[Any], None]


def find_target(name: str, given: Mapping[str, Any]) -> Target:
    """The target of that name.

    Raises:
        UsageError: If there is none, or an option was given that belongs to another one.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}", hint=f"choose one of {', '.join(TARGETS)}")
    for option in given:
        if option not in TARGETS[name].options:
            takers = ", ".join(n for n, t in TARGETS.items() if option in t.options)
            flag = "--" + option.replace("_", "-")
            raise UsageError(f"{flag} means nothing to --target {name}", hint=f"it belongs to {takers}")
    return TARGETS[name]


def _with_frames(target: str) -> Callable[[Request], ExportReport]:
    def run(request: Request) -> ExportReport:
        from tcja_deploy.api import export
        from tcja_deploy.cli.render import progress_bar

        options = dict(request.options)
        if "profile" in options:
            options["profile"] = _profile(request.graph, options["profile"])
        with progress_bar("verifying", 4 if request.data is None else len(request.data)) as progress:
            return export(
                request.graph,
                target,
                request.path,
                data=request.batches(),
                verify=request.verify,
                force=request.force,
                progress=progress,
                **options,
            )

    return run


def _show(other: str) -> Callable[[ExportReport], None]:
    """Prints the comparison with ``other``, the notes and the files."""

    def show(report: ExportReport) -> None:
        from tcja_deploy.cli.render import console, print_agreement, print_written

        if report.agreement is not None:
            print_agreement(report.agreement, other)
        for note in report.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
        print_written(report.files)

    return show


def _profile(graph: Graph, path: Path) -> Any:
    from tcja_deploy.runtime.stream.saved import load_profile

    return load_profile(graph, path)


def _lava(request: Request) -> ExportReport:
    from tcja_deploy.api import export
    from tcja_deploy.cli.options import open_dataset
    from tcja_deploy.cli.render import console
    from tcja_deploy.exporters.lava import Options

    options = dict(request.options)
    test, device = options.pop("test", None), options.pop("device", "cpu")
    which = request.which._replace(limit=None)
    labelled = None if test is None else open_dataset(request.graph, test, which).batches(which.batch_size)
    with console.status("quantising") as status:
        return export(
            request.graph,
            "lava",
            request.path,
            data=request.batches(),
            test=labelled,
            device=device,
            options=Options(**options),
            verify=request.verify,
            force=request.force,
            progress=lambda stage: status.update(f"quantising {stage}"),
        )


def _show_lava(report: LavaReport) -> None:
    from tcja_deploy.cli.lava import show_report

    show_report(report)


TARGETS: dict[str, Target] = {
    "onnx": Target(
        ".onnx",
        frozenset({"opset", "batch_first", "external_data"}),
        _with_frames("onnx"),
        _show("onnxruntime"),
    ),
    "onnx-step": Target(
        ".step.onnx",
        frozenset({"opset", "lookahead", "profile"}),
        _with_frames("onnx-step"),
        _show("onnxruntime"),
    ),
    "lava": Target(
        ".lava",
        frozenset({"test", "device", "gate_bits", "threshold_rule", "per_channel", "margin", "percentile"}),
        _lava,
        _show_lava,
    ),
    "nir": Target(".nir", frozenset({"gate"}), _with_frames("nir"), _show("NIR, read back")),
}
"""Export targets by name."""
