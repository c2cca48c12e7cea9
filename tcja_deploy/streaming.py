"""A network run one frame at a time by any of the engines: torch, the event engine, onnxruntime, or the integer twin.

Each engine is compared with its reference, and measured: what it costs, when its prediction settles, how fast it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.exporters.lava.schedule import latency
from tcja_deploy.exporters.onnx_step.run import OnnxStepper
from tcja_deploy.exporters.onnx_step.target import ONNX_STEP
from tcja_deploy.exporters.pipeline import run_export, run_verification
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.activity.collect import LabelledFrames
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.engines import choose
from tcja_deploy.runtime.integers.check import compare_twin
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.integers.work import window_work
from tcja_deploy.runtime.stream import (
    FrameProfile,
    Stepper,
    StreamCost,
    StreamPlan,
    initial,
    measure,
    plan,
    stream,
)
from tcja_deploy.runtime.stream.check import compare_stream
from tcja_deploy.runtime.stream.decision import Outcome, Steps, outcome
from tcja_deploy.runtime.stream.plan import Schedule
from tcja_deploy.runtime.stream.study import Bar, batched, frames_of, no_bar

__all__ = ["EngineName", "StreamEngine", "StreamRun", "open_engine", "run_stream"]

EngineName = Literal["auto", "torch", "events", "onnx", "twin"]

_CALIBRATION = 64
"""Recordings that calibrate the twin's numbers."""


_ON_KERNELS = 1e9
"""Multiply-accumulates of a window from which the twin's stream runs on the kernels that follow the spikes."""


@dataclass(frozen=True, eq=False)
class StreamEngine:
    """One engine, ready to run a network.

    Attributes:
        name: Which one.
        label: The same for reports, with why it was taken.
        plan: The stream whose cost is measured.
        runs: The stream that is drawn: of the event engine, the one that runs on it; else `plan`.
        make: Gives a stream for a number of recordings side by side.
        compare: Compares with the reference over frames `[T, n, ...]`.
        other: What is compared, for tables.
        exact: Whether nothing but rounding may differ.
        step_model: The ONNX model that runs, if one does.
        notes: Further numbers about it.
    """

    name: str
    label: str
    plan: StreamPlan
    runs: StreamPlan
    make: Callable[[int], Steps]
    compare: Callable[[Iterator[NDArray[np.float32]]], Agreement]
    other: str
    exact: bool
    step_model: Path | None = None
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StreamRun:
    """What an engine did with recordings.

    Attributes:
        engine: The engine.
        cost: Latency, memory and work.
        outcome: Accuracy, time to decision and speed.
        agreement: With the reference.
    """

    engine: StreamEngine
    cost: StreamCost
    outcome: Outcome
    agreement: Agreement


def open_engine(
    name: EngineName,
    graph: Graph,
    data: LabelledFrames,
    folder: Path,
    *,
    calibration: LabelledFrames | None = None,
    lookahead: int | None = None,
    profile: FrameProfile | None = None,
    schedule: Schedule | None = None,
    batch_size: int = 20,
) -> StreamEngine:
    """Make an engine.

    Args:
        name: Which one; `"auto"` is torch or the event engine, as `runtime.engines` chooses.
        graph: The network, batch normalisation folded.
        data: Recordings; the twin's numbers are calibrated on some of them.
        folder: Where the ONNX model is written.
        calibration: Recordings to calibrate the twin on instead.
        lookahead: Frames that every TCJA block waits; `None` for as many as an exact result takes.
        profile: What blocks expect of frames that have not arrived; `None` for zeros.
        schedule: When cells work; `None` for paced in onnxruntime, which has no other, and bursts elsewhere.
        batch_size: Recordings that run side by side.

    Raises:
        UsageError: If an option makes no sense.
    """
    schedule = schedule or ("paced" if name == "onnx" else "burst")
    if name == "onnx":
        return _onnx(graph, folder / "step.onnx", lookahead, profile, schedule)
    if name == "twin":
        source = data if calibration is None else calibration
        chosen = range(0, len(source), max(1, -(-len(source) // _CALIBRATION)))
        return _twin(
            graph, list(frames_of(batched(source, chosen, batch_size))), lookahead, profile, schedule
        )
    choice = choose(graph, name)
    frames_by: Literal["torch", "events"] = "events" if choice.engine == "events" else "torch"
    network = plan(graph, lookahead=lookahead, profile=profile, schedule=schedule)
    runs = stream(graph, lookahead=lookahead, profile=profile, schedule=schedule, engine=frames_by).plan
    return StreamEngine(
        frames_by,
        choice.label,
        network,
        runs,
        lambda samples: Stepper(runs, initial(runs, samples)),
        lambda batches: compare_stream(
            graph, batches, lookahead=lookahead, profile=profile, engine=frames_by
        ),
        "stream",
        exact=all(gate.lookahead == gate.exact_lookahead for gate in network.gates.values()),
    )


def _onnx(
    graph: Graph, path: Path, lookahead: int | None, profile: FrameProfile | None, schedule: Schedule
) -> StreamEngine:
    run_export(ONNX_STEP, graph, path, lookahead=lookahead, profile=profile, verify=False)
    state = sum(a.nbytes for a in OnnxStepper(path, trusted=True).state.values())
    network = plan(graph, lookahead=lookahead, profile=profile, schedule=schedule)
    return StreamEngine(
        "onnx",
        "onnxruntime (as asked for)",
        network,
        network,
        lambda samples: OnnxStepper(path, samples, trusted=True),
        lambda batches: run_verification(ONNX_STEP, path, graph, batches, profile=profile),
        "onnxruntime",
        exact=True,  # compared with the stream of the same look-ahead
        step_model=path,
        notes={"bytes of the model's states, per recording": state},
    )


def _twin(
    graph: Graph,
    frames: list[NDArray[np.float32]],
    lookahead: int | None,
    profile: FrameProfile | None,
    schedule: Schedule,
) -> StreamEngine:
    network = quantise(graph, frames).network
    cells = runs = plan_twin(network, lookahead=lookahead, profile=profile, schedule=schedule)
    compared = plan_twin(network, lookahead=lookahead, profile=profile)
    if window_work(network) > _ON_KERNELS:
        from tcja_deploy.runtime.integers.sparse_cells import on_kernels

        runs, compared = on_kernels(cells), on_kernels(compared)
    return StreamEngine(
        "twin",
        "the integer twin (as asked for)",
        cells,
        runs,
        lambda samples: Stepper(runs, initial(runs, samples)),
        lambda batches: compare_twin(network, batches, runs=compared),
        "twin stream",
        exact=lookahead is None,
        notes={"steps from a frame to its result in Lava, where every layer takes one": latency(network)},
    )


def run_stream(
    engine: StreamEngine, data: LabelledFrames, *, batch_size: int = 20, bar: Bar = no_bar
) -> StreamRun:
    """Run all recordings with an engine, compare it with its reference, and measure it on the first recording.

    Raises:
        DataError: If there are no recordings, or they do not fit.
    """
    everything = range(len(data))
    with bar("comparing", len(data)) as progress:
        agreement = engine.compare(frames_of(batched(data, everything, batch_size), progress))
    with bar("streaming", len(data)) as progress:
        found = outcome(
            engine.make,
            engine.plan.streams,
            batched(data, everything, batch_size),
            progress,
        )
    cost = measure(engine.plan, next(frames_of(batched(data, range(1), 1))))
    return StreamRun(engine, cost, found, agreement)
