"""A model run one frame at a time, in one line."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

from tcja_deploy.energy.render.documents import document_json, tables_document
from tcja_deploy.energy.render.plots import Plot, line_plot
from tcja_deploy.energy.render.table import Column, Table
from tcja_deploy.errors import VerificationError
from tcja_deploy.library.arguments import LoadArguments, RecordingArguments, unlimited
from tcja_deploy.library.progress import progress_bar
from tcja_deploy.library.result import Result
from tcja_deploy.library.sources import Data, Model, model_facts, open_data, open_model
from tcja_deploy.library.task import task
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.stream import StreamCost
from tcja_deploy.runtime.stream.decision import Outcome
from tcja_deploy.runtime.stream.plan import Schedule
from tcja_deploy.streaming import EngineName, StreamEngine, StreamRun, open_engine, run_stream

__all__ = ["StreamReport", "stream"]


@dataclass(frozen=True, eq=False)
class StreamReport(Result):
    """A model run one frame at a time over recordings.

    Attributes:
        engine: Name of what ran it.
        label: Its name for people, with the reason why it was chosen.
        exact: Whether nothing but rounding may differ from the window form; false where blocks wait for fewer frames.
        cost: Latency (frames), memory (bytes) and work (MACs, synaptic operations) per step.
        outcome: Accuracy, time to decision, milliseconds per step on this machine.
        agreement: Spikes and predictions compared with the reference.
        facts: Where the numbers come from, by name.
        notes: Further numbers about the engine.
    """

    engine: str
    label: str
    exact: bool
    cost: StreamCost
    outcome: Outcome
    agreement: Agreement
    facts: Mapping[str, str]
    notes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: StreamEngine, run: StreamRun, facts: Mapping[str, str]) -> StreamReport:
        """What a run of an engine found."""
        return cls(
            engine.name, engine.label, engine.exact, run.cost, run.outcome, run.agreement, facts, engine.notes
        )

    def tables(self) -> Sequence[Table]:
        """Latency, memory and accuracy, and the TCJA blocks."""
        cost, found, agreement = self.cost, self.outcome, self.agreement
        rows = [
            ("latency", "frames", cost.latency),
            ("frames held", "bytes", cost.held),
            ("membranes", "bytes", cost.membranes),
            ("buffering every value", "bytes", cost.naive),
            ("work", "MACs per frame, mean", sum(s.macs for s in cost.steps) / cost.T),
            ("work", "synaptic operations per frame, mean", sum(s.sops for s in cost.steps) / cost.T),
            ("recordings", "", found.samples),
            ("accuracy", "%", None if found.accuracy is None else 100 * found.accuracy),
            ("prediction settled", f"frames of {found.steps}, mean", found.decision),
            ("time per frame here", "ms", found.milliseconds),
            ("differing spikes", f"of {agreement.neuron_steps:,} neuron-steps", agreement.mismatches),
            ("predictions as the reference's", f"of {agreement.samples}", agreement.predictions_equal),
        ]
        main = Table(
            "stream",
            f"One frame at a time, {self.engine}, {cost.schedule}",
            (Column("quantity", "Quantity"), Column("unit", "Unit"), Column("value", "Value", "number")),
            tuple(rows),
        )
        blocks = Table(
            "blocks",
            "TCJA blocks; bytes per recording",
            (
                Column("block", "Block"),
                Column("lookahead_frames", "Waits", "int"),
                Column("exact_lookahead_frames", "Exact", "int"),
                Column("lag_frames", "Gate lags", "int"),
                Column("held_bytes", "Frames held", "int"),
                Column("gate_state_bytes", "Gate state", "int"),
            ),
            tuple((b.name, b.lookahead, b.exact_lookahead, b.lag, b.held, b.gate_state) for b in cost.blocks),
        )
        return [main, blocks] if blocks.rows else [main]

    def document(self, suffix: str) -> str:
        """The tables and their origin, in one format; JSON is what `tcja-deploy stream --json` prints."""
        if suffix == ".json":
            record = {
                "engine": self.engine,
                "engine_label": self.label,
                "exact": self.exact,
                "cost": self.cost,
                "outcome": self.outcome,
                "agreement": self.agreement.as_dict(),
                "provenance": self.facts,
            }
            return document_json("tcja-deploy stream", record | dict(self.notes))
        return tables_document("tcja-deploy stream", "One frame at a time", self.facts, self.tables(), suffix)

    def plots(self) -> Sequence[Plot]:
        """Work of each step."""
        sops = [s.sops for s in self.cost.steps]
        caption = "Synaptic operations of each step, once the whole network is busy."
        return [line_plot("work_per_step", caption, sops, "step", "synaptic operations")]

    def require_agreement(self) -> None:
        """Refuse a stream that should be exact and yet differs.

        Raises:
            VerificationError: It differs from the window form by more than rounding.
        """
        if self.exact and not self.agreement.passed:
            raise VerificationError("the stream differs from the window form beyond the bound")


@task
def stream(
    model: Model,
    data: Data,
    *,
    engine: EngineName = "torch",
    lookahead: int | None = None,
    schedule: Schedule | None = None,
    calibration: Data | None = None,
    batch_size: int = 20,
    progress: bool = True,
    loading: LoadArguments | None = None,
    **recordings: Unpack[RecordingArguments],
) -> StreamReport:
    """Run a model one frame at a time, compare it with its window form, and measure latency, memory and work.

    Args:
        model: What `load` takes, or a graph.
        data: Recordings, as for `rates`.
        engine: `"torch"`, `"events"`, `"auto"` (one of these two), `"onnx"` (onnxruntime) or `"twin"` (the integers that
            Loihi computes).
        lookahead: Frames that every TCJA block waits; as many as an exact result takes if not given.
        schedule: `"burst"` or `"paced"`; if not given, paced in onnxruntime, which has no other, and bursts elsewhere.
        calibration: Recordings that the twin's numbers are calibrated on; some of `data` if not given.
        batch_size: Recordings that run side by side.
        progress: Show a progress bar if it takes longer than two seconds.
        loading: Arguments of `load`, for a model that is not a graph.
        **recordings: Arguments of `open_data`, for paths.

    Raises:
        DataError: The recordings cannot be read, or do not fit the model.
        UsageError: An option makes no sense.
        UnsupportedError: The engine cannot express the model.
    """
    graph = open_model(model, loading, progress=progress)
    folded = fold_batch_norm(graph)
    found = open_data(graph, data, **recordings)
    fit_on = None if calibration is None else open_data(graph, calibration, **unlimited(recordings))
    with tempfile.TemporaryDirectory() as folder:
        with progress_bar("preparing the stream", shown=progress)(None):
            opened = open_engine(
                engine, folded, found, Path(folder),
                calibration=fit_on, lookahead=lookahead, schedule=schedule, batch_size=batch_size,
            )  # fmt: skip
        run = run_stream(
            opened, found, batch_size=batch_size, bar=lambda what, n: progress_bar(what, shown=progress)(n)
        )
    facts = {**model_facts(model, graph), "data": str(found.path), "data SHA-256": found.digest}
    return StreamReport.of(opened, run, facts)
