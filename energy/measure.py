"""Running a network over a data set and counting what its inventory needs."""

from __future__ import annotations

from collections.abc import Mapping

from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.activity.collect import LabelledFrames, Progress, Workers, collect, summed
from tcja_deploy.runtime.activity.predicted import Outcomes
from tcja_deploy.runtime.activity.record import Activity
from tcja_deploy.runtime.activity.stopwatch import Stopwatch
from tcja_deploy.runtime.engines import choose, counting
from tcja_deploy.runtime.resume import KeptProgress

__all__ = ["join", "measure"]


def measure(
    graph: Graph,
    data: LabelledFrames,
    *,
    counted: Graph | None = None,
    batch_size: int = 4,
    data_facts: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    shared: Workers | None = None,
    engine: str = "torch",
    device: str = "cpu",
    class_names: tuple[str, ...] | None = None,
    stopwatch: Stopwatch | None = None,
    kept: KeptProgress | None = None,
) -> Measured:
    """Count the activity of a network over a data set and join it with the network's inventory.

    Args:
        graph: The network that is run.
        data: Recordings as the network takes them.
        counted: The network whose work is counted, if it is another one: that with batch normalisation folded, whose
            spiking layers have the same names and the same spikes.
        batch_size: Number of recordings that are run together.
        data_facts: What identifies the frames, such as the hash of the recordings; kept with the counts.
        progress: Called with the number of recordings that this process has finished.
        shared: Position of this process among several that share the recordings.
        engine: What runs the network, see `runtime.engines`: "torch", "events", "onnx" or "auto".
        device: Where torch computes, such as "cuda".
        class_names: Names of the classes of labels and predictions, kept with the predictions.
        stopwatch: Measures the time spent on reading, on the network and on counting.
        kept: Where progress is kept, with what an interrupted run has kept there.

    Raises:
        DataError: If the data do not fit the network.
    """
    inventory = take_inventory(counted or graph)
    watches = inventory.watches()
    features = graph[graph.output].signal.features
    outcomes = Outcomes(len(data)) if len(features) == 1 else None
    chosen = choose(graph, engine, device, samples=len(data))
    origin = {"model": graph.hash, **(data_facts or {})}
    if kept is not None:
        mine = shared or Workers()
        share = {"process": f"{mine.rank} of {mine.count}", "batch size": str(batch_size)}
        kept.about({**origin, **share, "engine": f"{chosen.engine} on {chosen.device}"})
    activity = collect(
        graph,
        data,
        watches,
        batch_size=batch_size,
        origin=origin,
        progress=progress,
        shared=shared,
        windows=counting(graph, chosen, [watch.name for watch in watches]),
        outcomes=outcomes,
        stopwatch=stopwatch,
        kept=kept,
    )
    if outcomes is None:
        return Measured(inventory, activity)
    several = shared is not None and shared.count > 1
    return Measured(
        inventory, activity, outcomes.finish(features[0], class_names, summed if several else None)
    )


def join(graph: Graph, activity: Activity, counted: Graph | None = None) -> Measured:
    """Join a network with activity recorded earlier by any runtime; `counted` as in `measure`.

    Raises:
        UnsupportedError: If the activity belongs to another network.
    """
    recorded = activity.origin.get("model", graph.hash)
    if recorded != graph.hash:
        raise UnsupportedError(
            f"the activity was recorded from network {recorded[:12]}, this one is {graph.hash[:12]}",
            hint="record it again with `tcja-deploy rates`",
        )
    return Measured(take_inventory(counted or graph), activity)
