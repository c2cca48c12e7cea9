"""The live view of `tcja-deploy stream`: what happens, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from tcja_deploy.cli.render import console, table

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import RenderableType
    from torch import Tensor

    from tcja_deploy.events import EventData
    from tcja_deploy.runtime.stream import StreamPlan

__all__ = ["Moment", "onnx_feed", "show", "stream_feed", "view"]

_BAR = 24
_FULL_RATE = 0.25
"""Firing rate at which a bar is full."""


@dataclass(frozen=True)
class Moment:
    """What one step did.

    Attributes:
        rates: For each layer the share of neurons that spiked, in the frames that left it at this step; `None` if none did.
        waiting: What waits, by name: number of frames and bytes.
        scores: The running result, a mean over the frames so far; `None` before the first frame has reached the readout.
        final: Whether it is final.
    """

    rates: Mapping[str, float | None]
    waiting: Mapping[str, tuple[int, int]]
    scores: NDArray[np.floating] | None
    final: bool


Feed = Callable[[Any], Moment]
"""Takes one frame `[1, ...]`."""


def stream_feed(plan: StreamPlan) -> Feed:
    """A feed of frames to a stream on torch or on the integer twin."""
    from tcja_deploy.ir import Kind
    from tcja_deploy.runtime.stream import Stepper, initial
    from tcja_deploy.runtime.stream.decision import Decisions
    from tcja_deploy.runtime.stream.plan import GATE

    stepper, decisions = Stepper(plan, initial(plan)), Decisions()
    layers = [link.name for link in plan.links if link.cell.membrane and link.signal.kind is Kind.BINARY]
    gated = {
        link.name: link.inputs[1].removesuffix(GATE)
        for link in plan.links
        if link.inputs[1:] and link.inputs[1].endswith(GATE)
    }

    def feed(frame: Any) -> Moment:
        seen: dict[str, list[float]] = {}

        def observe(name: str, index: int, value: Tensor) -> None:
            if name in layers:
                seen.setdefault(name, []).append(float(value.mean()))

        emissions = stepper.push(frame, observe=observe)
        decisions.add(stepper, emissions)
        waiting = {
            f"gate of {gated[reader]}": (len(items), sum(p.nbytes for p in items))
            for (reader, i), items in stepper.state.queues.items()
            if reader in gated and i == 0
        }
        rates = {name: sum(seen[name]) / len(seen[name]) if name in seen else None for name in layers}
        return Moment(rates, waiting, _flat(decisions.scores), bool(emissions))

    return feed


def onnx_feed(path: Path, layers: list[str]) -> Feed:
    """A feed of frames to a step model in onnxruntime."""
    from tcja_deploy.exporters.onnx_step.run import OnnxStepper
    from tcja_deploy.runtime.stream.decision import Decisions

    stepper, decisions = OnnxStepper(path, show=layers, trusted=True), Decisions()

    def feed(frame: Any) -> Moment:
        emissions = stepper.push(frame)
        decisions.add(stepper, emissions)
        waiting = {
            name: (len(state), state.nbytes)
            for name, state in stepper.state.items()
            if name.endswith(".waiting")
        }
        rates = {name: float(value.mean()) for name, value in stepper.shown.items()}
        return Moment(rates, waiting, _flat(decisions.scores), bool(emissions))

    return feed


def _flat(scores: Tensor | None) -> NDArray[np.floating] | None:
    return None if scores is None else scores.numpy().reshape(-1)


def show(make: Callable[[], Feed], dataset: EventData, frame_time: float | None, latency: int) -> None:
    """Draw each recording, frame by frame, as fast as the frames come.

    Args:
        make: Gives a feed in its initial state.
        dataset: The recordings.
        frame_time: Milliseconds per frame; 100 if `None`.
        latency: Empty frames to feed after each recording until its result is out.
    """
    import numpy as np

    pause = (100.0 if frame_time is None else frame_time) / 1000
    for i in range(len(dataset)):
        frames, label = dataset[i]
        feed = make()
        with Live(console=console, auto_refresh=False) as live:
            for t in range(len(frames) + latency):
                due = time.monotonic() + pause
                moment = feed(frames[t : t + 1] if t < len(frames) else np.zeros_like(frames[:1]))
                where = (
                    f"frame {t + 1} of {len(frames)}" if t < len(frames) else f"silence {t + 1 - len(frames)}"
                )
                live.update(view(f"{dataset.names[i]}: {where}", moment, label), refresh=True)
                time.sleep(max(0.0, due - time.monotonic()))
        if not console.is_terminal:
            console.print()  # Live ends its line in terminals only


def view(title: str, moment: Moment, label: int | None) -> RenderableType:
    """One moment as tables."""
    layers = table(title, "layer", "firing rate", "")
    for name, rate in moment.rates.items():
        layers.add_row(name, "-" if rate is None else f"{100 * rate:.2f} %", _bar((rate or 0) / _FULL_RATE))
    parts: list[RenderableType] = [layers]
    if moment.waiting:
        buffers = table("", "waiting for the", "frames", "bytes")
        for name, (count, size) in moment.waiting.items():
            buffers.add_row(name, str(count), f"{size:,}")
        parts.append(buffers)
    return Group(*parts, _prediction(moment, label))


def _prediction(moment: Moment, label: int | None) -> RenderableType:
    if moment.scores is None:
        return Text("prediction: no frame has reached the readout yet", style="dim")
    result = table("prediction" if moment.final else "running prediction", "class", "score", "")
    top = float(moment.scores.max())
    for index in moment.scores.argsort()[::-1][:5]:
        score = float(moment.scores[index])
        mark = " (right)" if index == label else ""
        result.add_row(f"{index}{mark}", f"{score:.3f}", _bar(score / top if top > 0 else 0.0))
    return result


def _bar(share: float) -> Text:
    full = round(_BAR * min(max(share, 0.0), 1.0))
    return Text("█" * full + "·" * (_BAR - full), style="cyan")
