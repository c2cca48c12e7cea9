"""What a benchmark found, and how it shows itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tcja_deploy.energy.render.documents import tables_document
from tcja_deploy.energy.render.plots import Plot, bar_plot
from tcja_deploy.energy.render.table import Column, Table, recordings_text
from tcja_deploy.energy.report.comparison import Compared
from tcja_deploy.library.result import Result
from tcja_deploy.meters import Meter, NoMeter

__all__ = ["BenchmarkReport", "Measurement", "TargetRow"]


@dataclass(frozen=True)
class Measurement:
    """Runs of one artifact.

    Attributes:
        accuracy: Share of correct predictions; `None` without labels.
        milliseconds: Milliseconds per recording, the median of the turns.
        turns: Turns over all recordings.
        joules: Joules per recording by source, the median of the turns; empty if nothing was measured.
        failure: Which sources failed while they were measured, and why; empty if none did.
    """

    accuracy: float | None
    milliseconds: float
    turns: int
    joules: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True)
class TargetRow:
    """One target.

    Attributes:
        target: Its name, with the options that were given.
        runtime: What runs its artifact.
        size: Bytes of the artifact, without golden sample and manifest.
        accuracy: Share of correct predictions; `None` without labels or where nothing ran.
        moved: Neuron-steps whose spikes differ from those of the network as it was trained, and how many there are in
            all; `None` where they were not compared.
        measurement: Runs of the artifact; `None` where there were none.
        note: Why something is missing.
    """

    target: str
    runtime: str
    size: int | None = None
    accuracy: float | None = None
    moved: tuple[int, int] | None = None
    measurement: Measurement | None = None
    note: str = ""

    def with_note(self, note: str) -> TargetRow:
        """This row with a note."""
        return replace(self, note=note)

    def with_measurement(self, found: Measurement) -> TargetRow:
        """This row with the results of its runs."""
        return replace(self, accuracy=found.accuracy, measurement=found, note=found.failure)


@dataclass(frozen=True, eq=False)
class BenchmarkReport(Result):
    """Targets side by side.

    Attributes:
        model: Name of the model.
        network: The network's own numbers: size, work, energy by convention.
        rows: The network itself, then one row per target.
        recordings: How many were run.
        together: How many of them run at once.
        meter: The energy meter; `None` if no measurement was asked for.
        facts: Where the numbers come from, by name.
    """

    model: str
    network: Compared
    rows: tuple[TargetRow, ...]
    recordings: int
    together: int
    meter: Meter | NoMeter | None
    facts: Mapping[str, str]

    @property
    def measured(self) -> str:
        """What was measured and how, or why nothing was; empty if no measurement was asked for."""
        if self.meter is None:
            return ""
        if isinstance(self.meter, NoMeter):
            return f"Nothing measured: {self.meter.reason}."
        missing = f" Not measured: {'; '.join(self.meter.missing)}." if self.meter.missing else ""
        before = self.facts.get("power before the runs", "")
        return (
            f"Measured: {', '.join(self.meter.sources)}, whole processors and boards with all that ran on them at the time "
            f"(before the runs they took {before}).{missing}"
        )

    def tables(self) -> Sequence[Table]:
        """One row per target."""
        sources = self.meter.sources if isinstance(self.meter, Meter) else ()
        columns = [
            Column("target", "Target"),
            Column("runtime", "Run by"),
            Column("size_bytes", "Bytes", "int"),
            Column("accuracy", "Accuracy", "percent"),
            Column("differing_spikes", "Differing spikes", "int"),
            Column("neuron_steps", "of neuron-steps", "int"),
            Column("ms_per_recording", "ms per recording", "number", 3),
            Column("turns", "Turns", "int"),
        ]
        priced = self.network.priced
        several = len({p.profile for p in priced}) > 1
        for i, p in enumerate(priced):
            label = p.convention.partition(" ")[0] + (f" {p.profile.partition(' ')[0]}" if several else "")
            columns.append(Column(f"energy_{i}_pJ", f"Estimated ({label})", "energy", 3))
        columns += [
            Column(f"measured_{i}_pJ", f"Measured ({source})", "energy", 3)
            for i, source in enumerate(sources)
        ]
        columns.append(Column("note", "Note"))
        energies = [None if p.energy_pJ is None else p.energy_pJ.mean for p in priced]
        title = f"{self.model} on {recordings_text(self.recordings)}, {self.together} at once"
        rows = tuple(self._cells(row, energies, sources) for row in self.rows)
        return [Table("benchmark", title, tuple(columns), rows, tuple(self._notes()))]

    def _cells(
        self, row: TargetRow, energies: Sequence[float | None], sources: Sequence[str]
    ) -> tuple[object, ...]:
        ran, moved = row.measurement, row.moved or (None, None)
        joules = ran.joules if ran else {}
        refused = ran is None and row.size is None
        return (
            row.target,
            row.runtime,
            row.size,
            row.accuracy,
            *moved,
            ran.milliseconds if ran else None,
            ran.turns if ran else None,
            *([None] * len(energies) if refused else energies),
            *(1e12 * joules[s] if s in joules else None for s in sources),
            row.note,
        )

    def _notes(self) -> list[str]:
        priced = self.network.priced
        notes = [
            "Differing spikes: of the network as it was trained, batch normalisation folded; for Lava float against integers. "
            "Times: medians of the turns, of programs on this machine; Lava simulates a chip and is no measure of it.",
            "Estimated: the network's counted work per inference by the named conventions, the same for every target: "
            + "; ".join(f"{p.convention}, {p.profile}" for p in priced)
            + ".",
        ]
        lower = [p.convention for p in priced if not p.complete]
        if lower:
            notes.append(f"Lower bounds, since some work has no published price: {', '.join(lower)}.")
        return notes + ([self.measured] if self.measured else [])

    def document(self, suffix: str) -> str:
        """The table and where its numbers come from, in one format."""
        return tables_document(
            "tcja-deploy benchmark",
            f"Targets of {self.model}",
            {**self.facts, **({"measured": self.measured} if self.measured else {})},
            self.tables(),
            suffix,
            self.plots(),
        )

    def plots(self) -> Sequence[Plot]:
        """Time per recording by target."""
        timed = [(r.target, r.measurement.milliseconds) for r in self.rows if r.measurement is not None]
        if not timed:
            return []
        caption = f"Time per recording, median of the turns, {self.together} recordings at once."
        bars = {"time": [ms for _, ms in timed]}
        return [
            bar_plot(
                "time_by_target",
                caption,
                [name for name, _ in timed],
                bars,
                "time per recording / ms",
                log=True,
            )
        ]
