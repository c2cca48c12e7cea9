"""Tables and the plot of `tcja-deploy stream`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tcja_deploy.cli.render import table

if TYPE_CHECKING:
    from rich.table import Table

    from tcja_deploy.runtime.agreement import Agreement
    from tcja_deploy.runtime.stream import Divergence, StreamCost
    from tcja_deploy.runtime.stream.decision import Outcome
    from tcja_deploy.runtime.stream.study import Study

__all__ = [
    "block_table",
    "cost_lines",
    "divergence_line",
    "gain_line",
    "layer_table",
    "outcome_line",
    "plot_sweep",
    "sweep_table",
]


def _ms(frames: float, frame_time: float | None) -> str:
    return "" if frame_time is None else f" ({frames * frame_time:g} ms)"


def block_table(cost: StreamCost, frame_time: float | None) -> Table:
    """Look-ahead, lag and memory of each TCJA block."""
    result = table(
        f"TCJA blocks, {cost.schedule}; bytes per recording",
        *("block", "waits", "exact", "gate lags", "frames held", "unpacked", "gate state"),
    )
    for b in cost.blocks:
        lag = f"{b.lag}{_ms(b.lag, frame_time)}"
        sizes = (f"{size:,}" for size in (b.held, b.held_unpacked, b.gate_state))
        result.add_row(b.name, str(b.lookahead), str(b.exact_lookahead), lag, *sizes)
    return result


def cost_lines(cost: StreamCost, frame_time: float | None) -> list[str]:
    """Latency, memory and work of the whole network, in sentences."""
    macs, sops = [s.macs for s in cost.steps], [s.sops for s in cost.steps]
    frames = "frame" if cost.latency == 1 else "frames"
    return [
        f"latency: a result leaves {cost.latency} {frames}{_ms(cost.latency, frame_time)} after the frame that completes it",
        f"memory: {cost.held:,} bytes of waiting frames ({cost.held_unpacked:,} unpacked), {cost.membranes:,} of membranes; "
        f"buffering every value of {cost.T} frames would take {cost.naive:,}",
        f"work per frame: {sum(macs) / cost.T:,.0f} MACs on average, {max(macs):,} at most; "
        f"{sum(sops) / cost.T:,.0f} synaptic operations on average, {max(sops):,.0f} at most",
    ]


def divergence_line(agreement: Agreement) -> str:
    """How far a stream that does not wait long enough is from the exact run, in a sentence."""
    return (
        f"an approximation: {agreement.predictions_equal} of {agreement.samples} predictions as in the exact run, "
        f"{agreement.mismatches:,} of {agreement.neuron_steps:,} neuron-steps differ"
    )


def gain_line(found: Study) -> str:
    """What fitting gained on recordings it has not seen, in a sentence."""
    zeros, mean, linear = (found.average(name) for name in ("zeros", *found.fitted))
    accuracy = ""
    if zeros.accuracy is not None and mean.accuracy is not None and linear.accuracy is not None:
        shares = ", ".join(f"{100 * share:.1f}" for share in (zeros.accuracy, mean.accuracy, linear.accuracy))
        accuracy = f"; accuracy {shares} %, where one recording is {100 / found.rows[0].samples:.1f} %"
    better = "fewer" if linear.mismatch < mean.mismatch else "no fewer"
    return (
        f"held out, on average over these look-aheads: differing spikes {100 * zeros.mismatch:.2f} % with zeros, "
        f"{100 * mean.mismatch:.2f} % with the mean profile, {100 * linear.mismatch:.2f} % with the linear prediction "
        f"(mean gate error {zeros.gate_error:.4f}, {mean.gate_error:.4f}, {linear.gate_error:.4f}{accuracy}); "
        f"the linear prediction has {better} differing spikes than the mean profile"
    )


def outcome_line(found: Outcome, batch: int, frame_time: float | None) -> str:
    """Accuracy, time to decision and speed, in a sentence."""
    accuracy = (
        ""
        if found.accuracy is None
        else f"accuracy {100 * found.accuracy:.1f} % of {found.samples} recordings; "
    )
    together = "one recording at a time" if batch == 1 else f"{batch} recordings side by side"
    decision = f"{found.decision:.1f}{_ms(found.decision, frame_time)}"
    return (
        f"{accuracy}the running prediction stops changing after {decision} of {found.steps} frames; "
        f"a frame takes {found.milliseconds:.1f} ms here ({together})"
    )


def sweep_table(rows: Sequence[Divergence], frame_time: float | None) -> Table:
    """One line per look-ahead and estimate; gate errors as mean and largest."""
    result = table(
        f"Look-ahead D against the exact stream, {rows[0].samples} recordings",
        *("D", "rest", "latency", "gate error", "differ", "agree", "correct", "decided"),
        left=0,
    )
    for r in rows:
        most, mean = r.worst_gate_error
        result.add_row(
            str(r.lookahead),
            r.estimate,
            f"{r.latency}{_ms(r.latency, frame_time)}",
            f"{mean:.3f} {most:.3f}",
            f"{100 * r.mismatch:.2f} %",
            f"{100 * r.agreement:.0f} %",
            "-" if r.accuracy is None else f"{100 * r.accuracy:.0f} %",
            f"{r.decision:.1f}",
        )
    return result


def layer_table(rows: Sequence[Divergence]) -> Table:
    """Differing spikes of each layer that differs anywhere, as a share of the layer's spikes in the exact run."""
    layers = [name for name in rows[0].spikes if any(r.spikes[name][1] for r in rows)]
    result = table("Differing spikes, % of the layer's in the exact run", "D", "rest", *layers, left=0)
    for r in rows:
        shares = [f"{100 * r.spikes[name][1] / max(1, r.spikes[name][0]):.2f}" for name in layers]
        result.add_row(str(r.lookahead), r.estimate, *shares)
    return result


def plot_sweep(rows: Sequence[Divergence], path: Path, title: str) -> None:
    """Accuracy against latency, differing spikes against D, and the running prediction of the shortest look-ahead."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    labelled, first = rows[0].accuracy is not None, min(r.lookahead for r in rows)
    count = 3 if labelled else 2
    figure, (left, middle, *right) = plt.subplots(1, count, figsize=(4.3 * count, 4), constrained_layout=True)
    lowest = 100.0
    for i, estimate in enumerate(dict.fromkeys(r.estimate for r in rows)):
        style = ("o-", "s--", "^:")[i % 3]
        mine = [r for r in rows if r.estimate == estimate]
        share = [100 * (r.agreement if r.accuracy is None else r.accuracy) for r in mine]
        lowest = min(lowest, *share)
        left.plot([r.latency for r in mine], share, style, label=estimate, markersize=5)
        middle.plot(
            [r.lookahead for r in mine], [100 * r.mismatch for r in mine], style, label=estimate, markersize=5
        )
        shortest = next(r for r in mine if r.lookahead == first)
        known = [(t, 100 * a) for t, a in enumerate(shortest.running_accuracy, start=1) if a is not None]
        for axes in right:
            axes.plot(*zip(*known, strict=True), style, label=estimate, markersize=5)
    left.set_xlabel("latency of the result, frames (paced)")
    left.set_ylabel("accuracy, %" if labelled else "same prediction as exact, %")
    left.set_ylim(max(0.0, lowest - 5), 100.5)
    middle.set_xlabel("look-ahead D, frames")
    middle.set_ylabel("differing spikes, % of those of the exact run")
    for axes in right:
        axes.set_xlabel(f"frames seen, look-ahead {first}")
        axes.set_ylabel("accuracy of the running prediction, %")
    for axes in (left, middle, *right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    middle.legend(title="future frames count as", frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)
