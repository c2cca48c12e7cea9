"""What ``tcja-deploy stream`` does with a network and recordings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from tcja_deploy.cli.render import (
    agreement_table,
    console,
    print_agreement,
    print_table,
    print_written,
    progress_bar,
)
from tcja_deploy.cli.stream_views import (
    block_table,
    cost_lines,
    divergence_line,
    layer_table,
    outcome_line,
    plot_sweep,
    sweep_table,
)
from tcja_deploy.errors import DataError, VerificationError
from tcja_deploy.events import EventData
from tcja_deploy.files import atomic_file
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.compare import Agreement
from tcja_deploy.runtime.integers.check import compare_twin
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.stream import (
    Divergence,
    Plan,
    Profile,
    Stepper,
    fit,
    initial,
    measure,
    plan,
    save_profile,
    sweep,
)
from tcja_deploy.runtime.stream.check import compare_stream
from tcja_deploy.runtime.stream.decision import Batch, Steps, outcome
from tcja_deploy.runtime.stream.plan import Schedule
from tcja_deploy.runtime.stream.timing import timing

if TYPE_CHECKING:
    from tcja_deploy.cli.stream_live import Feed

__all__ = ["Job"]

_CALIBRATION = 64
"""Recordings that calibrate the twin's numbers."""


@dataclass(frozen=True)
class Job:
    """A network, recordings, and how to show what comes out.

    Attributes:
        graph: The network, batch normalisation folded.
        dataset: The recordings.
        calibration: Recordings to fit on; ``None`` to take every other one of ``dataset``.
        batch_size: Recordings run side by side.
        frame_time: Milliseconds a frame; ``None`` if unknown.
        as_json: Print JSON.
        force: Replace files.
    """

    graph: Graph
    dataset: EventData
    calibration: EventData | None
    batch_size: int
    frame_time: float | None
    as_json: bool
    force: bool

    # -- sweeps -------------------------------------------------------------------------------------------------
    def sweep(
        self,
        lookahead: int | None,
        profile: Profile | None,
        *,
        fit: bool,
        save_profile: Path | None,
        plot: Path | None,
    ) -> None:
        """Compare look-aheads (all, or one) with the exact stream, for zeros and for what is fitted or given.

        Raises:
            DataError: If there are too few recordings.
            ExportError: If a file cannot be written.
        """
        profiles: dict[str, Profile | None] = {"zeros": None}
        held_out: range = range(len(self.dataset))
        if profile is not None:
            profiles["profile"] = profile
        if fit:
            held_out, linear = self._fit()
            profiles |= {"mean": linear.without_slopes(), "linear": linear}
        lookaheads = range(self.graph.T) if lookahead is None else [lookahead]
        with progress_bar("comparing", len(held_out)) as progress:
            rows = sweep(
                self.graph, _batches(self.dataset, held_out, self.batch_size),
                lookaheads=lookaheads, profiles=profiles, progress=progress,
            )  # fmt: skip
        written = []
        if fit and save_profile is not None:
            best = _best(rows)
            written.append(save_profile)
            _save(profiles[best] or Profile(), save_profile, self.force)
        if plot is not None:
            with atomic_file(plot, force=self.force) as temporary:
                plot_sweep(
                    rows,
                    temporary,
                    f"{self.dataset.path.name}: {rows[0].samples} recordings, T = {self.graph.T}",
                )
            written.append(plot)
        if self.as_json:
            typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
            return
        print_table(sweep_table(rows, self.frame_time))
        print_table(layer_table(rows))
        if fit:
            console.print(_gain(rows))
        print_written(written)

    def _fit(self) -> tuple[range, Profile]:
        """Recordings to test on, and a linear profile from the others."""
        if self.calibration is not None:
            data, mine = self.calibration, range(len(self.calibration))
            held_out = range(len(self.dataset))
        else:
            data, mine, held_out = (
                self.dataset,
                range(0, len(self.dataset), 2),
                range(1, len(self.dataset), 2),
            )
        if not mine or not held_out:
            raise DataError(
                "there are too few recordings to fit on some and test on others", hint="pass --calibration"
            )
        with progress_bar("fitting", len(mine)) as progress:
            profile = fit(self.graph, _frames(_batches(data, mine, self.batch_size), progress), linear=True)
        return held_out, profile

    # -- single runs --------------------------------------------------------------------------------------------
    def run(
        self, engine: str, lookahead: int | None, profile: Profile | None, schedule: Schedule, *, live: bool
    ) -> None:
        """Run all recordings with one engine, compare, and say what it costs; or draw them.

        Raises:
            VerificationError: If an exact stream differs from the window form by more than rounding.
        """
        with tempfile.TemporaryDirectory() as folder:
            work = _ENGINES[engine](self, lookahead, profile, schedule, Path(folder))
            if live:
                from tcja_deploy.cli.stream_live import show

                show(
                    work.feed,
                    self.dataset,
                    self.frame_time,
                    timing(work.plan).latency if schedule == "paced" else 0,
                )
                return
            with progress_bar("comparing", len(self.dataset)) as progress:
                agreement = work.compare(_frames(self._all(), progress))
            with progress_bar("streaming", len(self.dataset)) as progress:
                found = outcome(work.make, work.plan.streams, self._all(), progress)
        frames = next(_frames(_batches(self.dataset, range(1), 1)))
        cost = measure(work.plan, frames)
        if self.as_json:
            result = {
                "engine": engine,
                "exact": work.exact,
                "cost": asdict(cost),
                "outcome": asdict(found),
                "agreement": agreement.as_dict(),
            }
            typer.echo(json.dumps(result | work.notes, indent=2))
        else:
            if cost.blocks:
                print_table(block_table(cost, self.frame_time))
            for line in [
                *cost_lines(cost, self.frame_time),
                outcome_line(found, min(self.batch_size, found.samples), self.frame_time),
            ]:
                console.print(line, highlight=False, soft_wrap=True)
            for name, value in work.notes.items():
                console.print(f"{name}: {value}", highlight=False)
            if work.exact:
                print_agreement(agreement, work.other)
            else:
                print_table(agreement_table(agreement, work.other))
                console.print(divergence_line(agreement), highlight=False)
        if work.exact and not agreement.passed:
            raise VerificationError("the stream differs from the window form beyond the bound")

    def _all(self) -> Iterator[Batch]:
        return _batches(self.dataset, range(len(self.dataset)), self.batch_size)


@dataclass(frozen=True)
class _Work:
    """One engine, ready to run.

    Attributes:
        plan: The stream whose cost is measured.
        make: Gives a stream for a batch size.
        compare: Compares with the reference over batches.
        feed: Gives a feed for the live view.
        other: What is compared, for the tables.
        exact: Whether nothing but rounding may differ.
        notes: Further numbers to print.
    """

    plan: Plan
    make: Callable[[int], Steps]
    compare: Callable[[Iterator[Any]], Agreement]
    feed: Callable[[], Feed]
    other: str
    exact: bool
    notes: dict[str, Any]


def _torch(
    job: Job, lookahead: int | None, profile: Profile | None, schedule: Schedule, folder: Path
) -> _Work:
    from tcja_deploy.cli.stream_live import stream_feed

    network = plan(job.graph, lookahead=lookahead, profile=profile, schedule=schedule)
    return _Work(
        network,
        lambda samples: Stepper(network, initial(network, samples)),
        lambda batches: compare_stream(job.graph, batches, lookahead=lookahead, profile=profile),
        lambda: stream_feed(network),
        "stream",
        all(gate.lookahead == gate.exact_lookahead for gate in network.gates.values()),
        {},
    )


def _onnx(
    job: Job, lookahead: int | None, profile: Profile | None, schedule: Schedule, folder: Path
) -> _Work:
    from tcja_deploy.api import export, verify
    from tcja_deploy.cli.stream_live import onnx_feed
    from tcja_deploy.exporters.onnx_step.run import OnnxStepper

    path = folder / "step.onnx"
    export(job.graph, "onnx-step", path, lookahead=lookahead, profile=profile, verify=False)
    layers = [node.name for node in job.graph.neurons]
    return _Work(
        plan(job.graph, lookahead=lookahead, profile=profile, schedule=schedule),
        lambda samples: OnnxStepper(path, samples, trusted=True),
        lambda batches: verify(path, job.graph, batches, profile=profile),
        lambda: onnx_feed(path, layers),
        "onnxruntime",
        True,  # compared with the stream of the same look-ahead
        {
            "bytes of the model's states, per recording": sum(
                a.nbytes for a in OnnxStepper(path, trusted=True).state.values()
            )
        },
    )


def _twin(
    job: Job, lookahead: int | None, profile: Profile | None, schedule: Schedule, folder: Path
) -> _Work:
    from tcja_deploy.cli.stream_live import stream_feed
    from tcja_deploy.exporters.lava.quantise import quantise
    from tcja_deploy.exporters.lava.schedule import latency

    data = job.calibration or job.dataset
    chosen = range(0, len(data), -(-len(data) // _CALIBRATION))
    network = quantise(job.graph, list(_frames(_batches(data, chosen, job.batch_size)))).network
    cells = plan_twin(network, lookahead=lookahead, profile=profile, schedule=schedule)
    return _Work(
        cells,
        lambda samples: Stepper(cells, initial(cells, samples)),
        lambda batches: compare_twin(network, batches, lookahead=lookahead, profile=profile),
        lambda: stream_feed(cells),
        "twin stream",
        lookahead is None,
        {"steps from a frame to its result in Lava, where every layer takes one": latency(network)},
    )


_ENGINES: dict[str, Callable[..., _Work]] = {"torch": _torch, "onnx": _onnx, "twin": _twin}


def _batches(data: EventData, chosen: range, size: int) -> Iterator[Batch]:
    """Some recordings, ``size`` at a time."""
    for start in range(0, len(chosen), size):
        loaded = [data[i] for i in chosen[start : start + size]]
        labels = [label for _, label in loaded]
        known = None if None in labels else np.array(labels, np.int64)
        yield np.stack([frames for frames, _ in loaded], axis=1), known


def _frames(batches: Iterator[Batch], progress: Callable[[int], None] = lambda done: None) -> Iterator[Any]:
    done = 0
    for frames, _ in batches:
        yield frames
        done += frames.shape[1]
        progress(done)


def _save(profile: Profile, path: Path, force: bool) -> None:
    save_profile(profile, path, force=force)


def _best(rows: tuple[Divergence, ...]) -> str:
    """The fitted estimate with fewer differing spikes over all look-aheads."""
    return min(("mean", "linear"), key=lambda name: sum(r.mismatch for r in rows if r.estimate == name))


def _gain(rows: tuple[Divergence, ...]) -> str:
    """What fitting gained on recordings it has not seen, in a sentence."""
    total = {
        name: np.mean([r.mismatch for r in rows if r.estimate == name])
        for name in ("zeros", "mean", "linear")
    }
    gates = {
        name: np.mean([r.worst_gate_error[1] for r in rows if r.estimate == name])
        for name in ("zeros", "mean", "linear")
    }
    right = {
        name: [r.accuracy for r in rows if r.estimate == name and r.accuracy is not None] for name in total
    }
    accuracy = ""
    if all(right.values()):
        shares = ", ".join(f"{100 * float(np.mean(values)):.1f}" for values in right.values())
        accuracy = f"; accuracy {shares} %, where one recording is {100 / rows[0].samples:.1f} %"
    better = "fewer" if total["linear"] < total["mean"] else "no fewer"
    return (
        f"held out, on average over these look-aheads: differing spikes {100 * total['zeros']:.2f} % with zeros, "
        f"{100 * total['mean']:.2f} % with the mean profile, {100 * total['linear']:.2f} % with the linear prediction "
        f"(mean gate error {gates['zeros']:.4f}, {gates['mean']:.4f}, {gates['linear']:.4f}{accuracy}); "
        f"the linear prediction has {better} differing spikes than the mean profile"
    )
