"""Arguments of `export` and `verify`, as types: what every target takes, and what each takes besides.

A test compares them with the targets' own options.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tcja_deploy.library.arguments import LoadArguments, RecordingArguments

if TYPE_CHECKING:
    from tcja_deploy.library.firing_rates import RateReport
    from tcja_deploy.library.sources import Data
    from tcja_deploy.runtime.stream import FrameProfile

__all__ = [
    "Exporting",
    "LavaExporting",
    "LavaVerifying",
    "NirExporting",
    "NirVerifying",
    "OnnxExporting",
    "OnnxStepExporting",
    "OnnxStepVerifying",
    "OnnxVerifying",
    "Verifying",
]

EngineChoice = Literal["auto", "torch", "events", "onnx"]


class Exporting(RecordingArguments, total=False):
    """Arguments of an export to any target; `export` describes them."""

    data: Data | None
    batch_size: int
    verify: bool
    bound: float
    card: bool
    license: str | None
    activity: RateReport | str | Path | None
    force: bool
    progress: bool
    loading: LoadArguments | None


class OnnxExporting(Exporting, total=False):
    """Arguments of an export to `"onnx"`; the options are those of `exporters.onnx.options.OnnxOptions`."""

    engine: EngineChoice
    opset: int
    batch_first: bool
    external_data: bool


class OnnxStepExporting(Exporting, total=False):
    """Arguments of an export to `"onnx-step"`; its own are those of `exporters.onnx_step.options.OnnxStepOptions`."""

    opset: int
    lookahead: int | None
    profile: FrameProfile | None


class LavaExporting(Exporting, total=False):
    """Arguments of an export to `"lava"`; the options are those of `exporters.lava.options.LavaOptions`."""

    engine: EngineChoice
    gate_bits: int
    weight_bits: int
    threshold_rule: Literal["unbiased", "ties"]
    per_channel: bool
    margin: float
    percentile: float
    compensate: bool
    correct_bias: bool
    input_scale: int | None
    wide_input: bool
    device: str
    test: Data | None


class NirExporting(Exporting, total=False):
    """Arguments of an export to `"nir"`; the options are those of `exporters.nir.options.NirOptions`."""

    engine: EngineChoice
    gate: Literal["refuse", "mean", "split"]
    dt: float


class Verifying(RecordingArguments, total=False):
    """Arguments of a verification by any target; `verify` describes them."""

    batch_size: int
    progress: bool


class _OfModel(Verifying, total=False):
    """Arguments of a verification by a target whose artifacts do not hold the network."""

    bound: float
    loading: LoadArguments | None


class OnnxVerifying(_OfModel, total=False):
    """Arguments of a verification of `"onnx"`; its own are those of `exporters.onnx.options.OnnxVerification`."""

    engine: EngineChoice


class OnnxStepVerifying(_OfModel, total=False):
    """Arguments of a verification of `"onnx-step"`; its own are those of `exporters.onnx_step.options.OnnxStepVerification`."""

    profile: FrameProfile | None


class NirVerifying(_OfModel, total=False):
    """Arguments of a verification of `"nir"`; its own are those of `exporters.nir.options.NirVerification`."""

    engine: EngineChoice
    runner: str


class LavaVerifying(Verifying, total=False):
    """Arguments of a verification of `"lava"`; its own are those of `exporters.lava.options.LavaVerification`."""

    backend: Literal["lava", "twin"]
    fast_conv: bool
    python: Path | None
    timeout: float
