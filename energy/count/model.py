"""The activity of a model: how a network is run and counted wherever rates or energies are needed.

The network runs as it was trained. The work counted is that of the network with batch normalisation folded, as in every
deployment; its spikes are the same values under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tcja_deploy.energy.count.inventory import Drive, Measured
from tcja_deploy.energy.measure import join, measure
from tcja_deploy.files import sha256
from tcja_deploy.ir import Graph
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.activity.collect import Joined, Progress, workers
from tcja_deploy.runtime.activity.file import load_activity
from tcja_deploy.runtime.activity.frames import CheckedFrames, frame_fault
from tcja_deploy.runtime.activity.stopwatch import Stopwatch
from tcja_deploy.runtime.engines import choose
from tcja_deploy.runtime.resume import KeptProgress

__all__ = ["CPU", "DataSet", "ModelActivity", "kept_activity", "measure_model"]


CPU = "cpu"
_FEW = 4
"""Number of recordings that torch runs at once on a CPU."""
_TOGETHER = 16
"""Number of recordings that the event engine runs at once: its values are bits and lists, and its threads share more work."""
_MOST_AT_ONCE = 256
"""Largest number of recordings run at once on a GPU, however large its memory is: more are not faster."""


_SILENT = (
    "no neuron of the network spikes in any of these recordings: frames may be scaled otherwise than in training, or "
    "the time step of a .nir file be another one (--dt)"
)


class DataSet(CheckedFrames, Protocol):
    """Recordings that describe themselves."""

    @property
    def path(self) -> Path:
        """Path of the file or folder."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the recordings."""
        ...

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class; `None` where unknown."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Choices that were made on opening, for the user to know."""
        ...

    @property
    def framing(self) -> object:
        """How events become frames; reports print it as text."""
        ...


@dataclass(frozen=True, eq=False)
class ModelActivity:
    """The counted activity of a model.

    Attributes:
        measured: The counts, joined with the work that they drive.
        facts: What was measured, for reports.
        leads: Whether this process reports; of several processes that share the recordings, only one does.
    """

    measured: Measured
    facts: dict[str, str]
    leads: bool = True


def measure_model(
    graph: Graph,
    parts: Sequence[DataSet],
    *,
    batch_size: int | None = None,
    engine: str = "auto",
    device: str = CPU,
    stopwatch: Stopwatch | None = None,
    progress: Callable[[int], AbstractContextManager[Progress | None]] = lambda total: nullcontext(None),
    kept: KeptProgress | None = None,
) -> ModelActivity:
    """Run a model over data sets and count its activity. Several processes of `torchrun` share the recordings.

    Args:
        graph: The network as it was trained.
        parts: The data sets, one after the other.
        batch_size: Number of recordings that are run together; if `None`, a few on a CPU, and on another device as many
            as fit into its memory, up to a limit.
        engine: What runs the network, see `runtime.engines`.
        device: Where torch computes, such as `"cuda"`.
        stopwatch: Measures the time of reading and running, if given.
        progress: Makes the progress display of the process that reports, given the number of its recordings.
        kept: Where progress is kept, with what an interrupted run has kept there.

    Raises:
        DataError: If the data do not fit the network.
    """
    if batch_size is None:
        chosen = choose(graph, engine, device, samples=sum(map(len, parts)))
        batch_size = _TOGETHER if chosen.engine == "events" else _FEW
        if device != CPU:
            from tcja_deploy.runtime.device import open_device, samples_that_fit

            batch_size = min(samples_that_fit(graph, open_device(device)), _MOST_AT_ONCE)
    recordings, names = Joined(parts), {part.class_names for part in parts}
    identity = {
        "data SHA-256": " ".join(part.digest for part in parts),
        "frames split by": " ".join(dict.fromkeys(str(part.framing) for part in parts)),
    }
    with workers() as shared:
        mine = sum(map(len, shared.batches(len(recordings), batch_size)))
        with progress(mine) if shared.rank == 0 else nullcontext(None) as advance:
            measured = measure(
                graph,
                recordings,
                counted=fold_batch_norm(graph),
                batch_size=batch_size,
                data_facts=identity,
                progress=advance,
                shared=shared,
                engine=engine,
                device=device,
                class_names=names.pop() if len(names) == 1 else None,
                stopwatch=stopwatch,
                kept=kept,
            )
    known = {
        "engine": choose(graph, engine, device, samples=len(recordings)).label,
        "data": ", ".join(str(p.path) for p in parts),
        **identity,
        "recordings": str(len(recordings)),
    }
    if fault := frame_fault(graph, parts[0]):
        known["frames"] = fault
    if notes := [note for part in parts for note in part.notes]:
        known["about the data"] = "; ".join(notes)
    counted = [n.name for n in graph.neurons if n.name in measured.activity.values]
    if counted and not any(measured.events(Drive(name)).any() for name in counted):
        known["silence"] = _SILENT
    return ModelActivity(measured, known, shared.rank == 0)


def kept_activity(graph: Graph, path: Path) -> ModelActivity:
    """The activity of a model from counts kept in a file.

    Raises:
        FileFormatError: If the file holds no counts.
        UnsupportedError: If they belong to another network.
    """
    counts = load_activity(path)
    facts = {
        "activity": str(path),
        "activity SHA-256": sha256(path),
        **{name: text for name, text in counts.origin.items() if name != "model"},
        "recordings": str(len(counts)),
    }
    return ModelActivity(join(graph, counts, fold_batch_norm(graph)), facts)
