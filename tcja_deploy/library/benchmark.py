"""Every target compared with the network itself, on the same recordings, in one line."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.energy.price.conventions import AccountingOptions
from tcja_deploy.energy.price.estimate import select
from tcja_deploy.energy.report.comparison import Compared, compare_networks
from tcja_deploy.energy.report.provenance import profile_facts
from tcja_deploy.errors import (
    DataError,
    DeployError,
    ToolchainError,
    UnsupportedError,
    UsageError,
    VerificationError,
)
from tcja_deploy.exporters.pipeline import run_export
from tcja_deploy.exporters.report import ExportReport
from tcja_deploy.exporters.target import Opened, Ran
from tcja_deploy.ir import Graph
from tcja_deploy.library.arguments import LoadArguments, RecordingArguments, unlimited
from tcja_deploy.library.benchmark_report import BenchmarkReport, Measurement, TargetRow
from tcja_deploy.library.comparison import CONVENTIONS, PROFILES
from tcja_deploy.library.firing_rates import measured
from tcja_deploy.library.progress import progress_bar
from tcja_deploy.library.sources import (
    Data,
    Model,
    labelled_batches,
    model_facts,
    model_name,
    open_model,
    open_parts,
)
from tcja_deploy.library.target_choice import TargetChoice, chosen_targets
from tcja_deploy.library.task import task
from tcja_deploy.meters import Energy, Meter, NoMeter, find_meters, idle_power
from tcja_deploy.runtime.activity.collect import Joined
from tcja_deploy.runtime.engines import choose, watching
from tcja_deploy.runtime.predictions import predictions

__all__ = ["PATIENCE", "TURNS", "benchmark"]

TURNS = 5
"""Turns over all recordings by default."""
PATIENCE = 30.0
"""Seconds after which no further turn of a target begins."""

_TOGETHER = 4
"""Recordings that run at once by default."""
_REFUSALS = (UnsupportedError, ToolchainError, DataError, VerificationError)
"""Errors that keep one target from being benchmarked, but not the others."""


@task
def benchmark(
    model: Model,
    data: Data,
    *,
    targets: Sequence[str] = (),
    calibration: Data | None = None,
    conventions: Sequence[str] = CONVENTIONS,
    profiles: Sequence[str] = PROFILES,
    options: AccountingOptions | None = None,
    measure: bool = False,
    turns: int = TURNS,
    batch_size: int = _TOGETHER,
    engine: str = "auto",
    progress: bool = True,
    loading: LoadArguments | None = None,
    **recordings: Unpack[RecordingArguments],
) -> BenchmarkReport:
    """Export a model to every target and run each artifact: size, accuracy, differing spikes, time, energy.

    A target that refuses the network, or lacks what it needs to run, has a row that says so. The artifacts are written to a
    temporary folder.

    Args:
        model: What `load` takes, or a graph.
        data: Recordings, as for `rates`.
        targets: Names of targets, with options after a colon, such as `"nir:gate=split"`; all targets if none.
        calibration: Recordings that Lava's numbers are calibrated on; those of `data` if not given.
        conventions: Any of `"paper"`, `"strict"`, `"memory"`, `"hardware"`: estimates of the network's work.
        profiles: Price lists: built-in names, or `.toml` files.
        options: Choices that the conventions leave open.
        measure: Measure the energy of the runs, where the machine has counters (RAPL, NVML).
        turns: Turns over all recordings; their medians are reported. No further turn begins after half a minute.
        batch_size: Recordings that run at once.
        engine: What runs the network itself: `"auto"`, `"torch"`, `"events"` or `"onnx"`.
        progress: Show a progress bar if it takes longer than two seconds.
        loading: Arguments of `load`, for a model that is not a graph.
        **recordings: Arguments of `open_data`, for paths.

    Raises:
        DataError: The recordings cannot be read, or do not fit the model.
        UsageError: An argument makes no sense.
        FileFormatError, TraceError, CodeError: The model cannot be loaded; see `load`.
    """
    if turns < 1 or batch_size < 1:
        raise UsageError(
            f"{turns} turns of {batch_size} recordings at once measure nothing", hint="at least 1 each"
        )
    choices = chosen_targets(targets)
    chosen, prices = select(conventions, profiles)
    graph = open_model(model, loading, progress=progress)
    parts = open_parts(graph, data, **recordings)
    fit_on = None if calibration is None else open_parts(graph, calibration, **unlimited(recordings))
    counts, facts = measured(graph, parts, engine=engine, progress=progress)
    (priced,) = compare_networks([(model_name(model), counts)], chosen, prices, options).networks
    job = _Job(
        graph, Joined(parts), None if fit_on is None else Joined(fit_on), turns, batch_size, engine,
        find_meters() if measure else None,
    )  # fmt: skip
    rows = [job.itself(priced)]
    with progress_bar("benchmarking", shown=progress)(len(choices) + 1) as done:
        done(1)
        for index, choice in enumerate(choices):
            rows.append(job.row(choice))
            done(index + 2)
    facts = {**model_facts(model, graph), **facts, **profile_facts(prices), **job.facts}
    return BenchmarkReport(
        model_name(model), priced, tuple(rows), len(job.frames), batch_size, job.meter, facts
    )


@dataclass(frozen=True)
class _Job:
    """What all rows have in common."""

    graph: Graph
    frames: Joined
    calibration: Joined | None
    turns: int
    batch_size: int
    engine: str
    meter: Meter | NoMeter | None
    idle: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.meter, Meter):
            object.__setattr__(self, "idle", idle_power(self.meter))

    @property
    def facts(self) -> dict[str, str]:
        facts = {
            "turns": f"at most {self.turns}, none begins after {PATIENCE:g} s",
            "at once": str(self.batch_size),
        }
        if self.idle:
            facts["power before the runs"] = ", ".join(f"{s}: {w:.1f} W" for s, w in self.idle.items())
        return facts

    def itself(self, priced: Compared) -> TargetRow:
        """The network as it was loaded, in this program's runtime."""
        choice = choose(self.graph, self.engine, samples=len(self.frames))
        watch = watching(self.graph, choice, [])
        found = self._measured(lambda frames: Ran(watch(frames, lambda node, value: None)))
        accuracy = None if priced.accuracy is None else priced.accuracy.mean
        return TargetRow(
            "the network itself", f"this program, {choice.engine}", accuracy=accuracy, measurement=found
        )

    def row(self, choice: TargetChoice) -> TargetRow:
        """The row of one target, or one that says why it could not be run."""
        try:
            with tempfile.TemporaryDirectory(prefix="tcja-benchmark-") as folder:
                return self._of(choice, Path(folder))
        except _REFUSALS as error:
            return TargetRow(choice.label, choice.target.runtime, note=_words(error))

    def _of(self, choice: TargetChoice, folder: Path) -> TargetRow:
        target, given = choice.target, dict(choice.options)
        data = self.frames
        if "test" in {f.name for f in fields(target.options)}:
            given["test"] = labelled_batches(self.frames, self.batch_size)
            data = self.calibration or self.frames
        report = run_export(
            target,
            self.graph,
            folder / f"model{target.suffix}",
            data=(f for f, _ in labelled_batches(data, self.batch_size)),
            **given,
        )
        row = TargetRow(choice.label, target.runtime, size=_size(report), moved=report.moved_spikes)
        if target.open is None:
            return row.with_note("nothing here runs it by itself")
        try:
            with target.open(report.path, self.graph) as opened:
                found = self._measured(opened)
        except ToolchainError as error:
            return row.with_note(_words(error))
        return row.with_measurement(found)

    def _measured(self, opened: Opened) -> Measurement:
        streams = self.graph[self.graph.output].signal.streams
        classes = len(self.graph[self.graph.output].signal.features) == 1
        right: list[NDArray[np.bool_]] | None = []
        spent: list[float] = []
        energies: list[Energy] = []
        begun = time.monotonic()
        while len(spent) < self.turns and (not spent or time.monotonic() - begun < PATIENCE):
            energy, seconds = Energy(), 0.0
            for frames, labels in labelled_batches(self.frames, self.batch_size):
                with _metered(self.meter, energy):
                    start = time.perf_counter()
                    ran = opened(frames)
                    took = time.perf_counter() - start
                seconds += took if ran.seconds is None else ran.seconds
                if not spent and right is not None:
                    right = (
                        None
                        if (labels < 0).any() or not classes
                        else [*right, predictions(ran.output, streams) == labels]
                    )
            spent.append(1e3 * seconds / len(self.frames))
            energies.append(energy)
        accuracy = None if right is None else float(np.concatenate(right).mean())
        return Measurement(accuracy, statistics.median(spent), len(spent), *self._joules(energies))

    def _joules(self, energies: Sequence[Energy]) -> tuple[Mapping[str, float], str]:
        """Joules per recording by source, medians over the turns; and which sources failed."""
        if not isinstance(self.meter, Meter):
            return {}, ""
        failed = {s: why for e in energies for s, why in e.failures.items()}
        whole = [s for s in self.meter.sources if s not in failed]
        found = {s: statistics.median(e.joules[s] for e in energies) / len(self.frames) for s in whole}
        return found, "; ".join(f"{s}: {why}" for s, why in failed.items())


def _metered(meter: Meter | NoMeter | None, energy: Energy) -> Any:
    return meter.measuring(energy) if isinstance(meter, Meter) else nullcontext()


def _words(error: DeployError) -> str:
    """An error in one line."""
    text = f"{error.reason} ({error.hint})" if error.hint else error.reason
    return " ".join(text.split())


def _size(report: ExportReport) -> int:
    """Bytes of what a device needs: everything but the golden sample and the manifest."""
    beside = ("golden.npz", "manifest.json")
    return sum(file.stat().st_size for file in report.files if not file.name.endswith(beside))
