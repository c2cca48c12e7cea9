"""What an export to Lava reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tcja_deploy.exporters.report import ExportReport, ReportTable
from tcja_deploy.runtime.share import share_text

if TYPE_CHECKING:
    from tcja_deploy.exporters.lava.accuracy import Accuracy
    from tcja_deploy.exporters.lava.calibration import StageReport

__all__ = ["LavaReport"]


@dataclass(frozen=True)
class LavaReport(ExportReport):
    """Result of an export to Lava.

    Attributes:
        stages: What quantisation did to each stage.
        accuracy: Float against integer network on the test data (on the calibration data if none were given).
        latency: Time steps from a frame's entry to its result.
        frames: Number of frames in a window, T; N windows take N * T + latency steps.
        measured_on: "test data", or "calibration data" if there were no others.
        moved: Neuron-steps on which the two networks differ on these data, and all neuron-steps compared.
    """

    stages: tuple[StageReport, ...] = ()
    accuracy: Accuracy | None = None
    latency: int = 0
    frames: int = 0
    measured_on: str = "calibration data"
    moved: tuple[int, int] | None = None

    @property
    def moved_spikes(self) -> tuple[int, int] | None:
        """Neuron-steps on which the float and the integer network differ, and all neuron-steps compared."""
        return self.moved

    @property
    def details(self) -> tuple[ReportTable, ...]:
        """What quantisation did to each stage."""
        title = "Quantisation"
        if self.accuracy is not None:
            samples = f"{self.accuracy.samples} sample{'s' * (self.accuracy.samples != 1)}"
            title += f"; columns from wraps on: {samples} of the {self.measured_on}"
        rows = tuple(_stage_row(stage) for stage in self.stages)
        return (ReportTable(title, _STAGE_COLUMNS, rows, 2, _LEGEND),)

    @property
    def summary(self) -> tuple[str, ...]:
        """Predictions, timing, and what to do next."""
        lines = []
        if self.accuracy is not None:
            found = self.accuracy
            line = f"predictions: {found.agree} of {found.samples} equal"
            if found.labelled:
                line += (
                    f"; of {found.labelled} with a label, float {found.float_correct} and integer "
                    f"{found.integer_correct} right"
                )
            lines.append(f"{line} ({self.measured_on})")
            if found.labelled:
                shares = (share_text(n, found.labelled) for n in (found.float_correct, found.integer_correct))
                lines.append("accuracy, in brackets its 95 % interval: float {}, integer {}".format(*shares))
        lines.append(f"latency {self.latency} steps; N windows take {self.frames} N + {self.latency} steps")
        return (*lines, f"next: tcja-deploy verify {self.path}  (the real Lava, spike for spike)")


_STAGE_COLUMNS = (
    "stage",
    "kind",
    "scale",
    "W bit",
    "Vth bit",
    "wraps",
    "sat.",
    "float",
    "integer",
    "differ",
    "stream",
)
_LEGEND = (
    "scale: weight steps from rest to the threshold; of a gate, the integer that stands for one. W, Vth: bits of "
    "weights and threshold. wraps: currents beyond 2**17, which change spikes. sat.: voltages cut off at 2**17. "
    "float, integer: spikes or payloads per neuron and step. differ: share of neuron-steps where only one of the two "
    "networks spikes. stream: root mean square error of the real numbers that a relay sends, in thresholds of the next neuron."
)


def _stage_row(stage: StageReport) -> tuple[str, ...]:
    def rate(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    return (
        stage.name,
        stage.kind,
        f"{stage.scale:.0f}",
        str(stage.weight_bits or "-"),
        str(stage.threshold_bits or "-"),
        str(stage.wraps),
        str(stage.saturations),
        rate(stage.rate_float),
        rate(stage.rate_integer),
        "-" if stage.disagreement is None else f"{100 * stage.disagreement:.2f} %",
        "-" if stage.stream_error is None else f"{stage.stream_error:.2g}",
    )
