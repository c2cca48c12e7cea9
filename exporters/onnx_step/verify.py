"""Comparing a step model in onnxruntime with the stream runtime, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import FileFormatError, VerificationError
from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.onnx_step.run import OnnxStepper, step_properties
from tcja_deploy.exporters.target import ExportProgress, unmonitored
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.agreement import (
    BOUND,
    Agreement,
    LayerAgreement,
    layer_agreement,
    output_error,
    samples_that_differ,
    spikes_of,
)
from tcja_deploy.runtime.predictions import predictions
from tcja_deploy.runtime.stream import FrameProfile, Stepper, initial, plan

__all__ = ["verify_onnx_step"]


def verify_onnx_step(
    path: Path,
    network: Prepared,
    frames: FrameBatches,
    *,
    profile: FrameProfile | None = None,
    bound: float = BOUND,
    progress: ExportProgress = unmonitored,
) -> Agreement:
    """Compare a step model with the stream runtime (same look-ahead, paced), spike for spike at every step.

    Both compute the network with batch normalisation folded into the weights; what folding itself changes is another question,
    answered by `exporters.folding`. Batches of equal size follow each other in one stream, so that the reset between windows
    is tested as well.

    Args:
        path: The `.onnx` file.
        network: The network it was exported from.
        frames: The frames to run on.
        profile: The profile that it was exported with.
        bound: Allowed mismatches per neuron-step.
        progress: Called with the number of samples done.

    Raises:
        FileFormatError: If the file is not an export of the network, or was exported with another profile.
        VerificationError: If the two emit results at different steps.
    """
    graph = network.trained
    properties = step_properties(path)
    if properties.get("tcja_deploy.model_sha256") != graph.hash:
        raise FileFormatError(
            "this ONNX model was not exported from the given network", where=str(path),
            hint="pass the model it was exported from; the manifest beside the ONNX file names it",
        )  # fmt: skip
    lookahead = properties["tcja_deploy.lookahead"]
    if lookahead != "exact" and not (lookahead.isascii() and lookahead.isdigit() and len(lookahead) < 10):
        raise FileFormatError(
            f"the notes in this model are damaged: lookahead is {lookahead[:20]!r}", where=str(path)
        )
    ahead = None if lookahead == "exact" else int(lookahead)
    reference = plan(network.folded, lookahead=ahead, profile=profile, schedule="paced")
    if properties["tcja_deploy.profile_sha256"] != reference.guesses.hash:
        raise FileFormatError(
            "this ONNX model was exported with another profile", where=str(path),
            hint="pass the file of 'stream --fit' that it was exported with (--profile), or none if there was none",
        )  # fmt: skip
    names = [node.name for node in graph.neurons]
    total, pair = Agreement((), 0, 0, 0.0, bound), None
    for batch in frames:
        if pair is None or pair.samples != batch.shape[1]:
            total = total if pair is None else total + pair.finish()
            stepper = Stepper(reference, initial(reference, batch.shape[1]))
            pair = _Pair(path, stepper, names, bound, total.samples)
        for frame in batch:
            pair.push(frame)
        progress("verifying", total.samples + pair.pushed // graph.T * pair.samples)
    return total if pair is None else total + pair.finish()


class _Pair:
    """Both runtimes on the same stream of windows."""

    def __init__(
        self, path: Path, reference: Stepper, names: list[str], bound: float, first_sample: int
    ) -> None:
        self.reference = reference
        self.samples, self.first_sample = reference.state.samples, first_sample
        self.other = OnnxStepper(path, self.samples, show=names)
        self.layers = {name: LayerAgreement(name, 0, 0, 0, 0) for name in names}
        self.scores: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self.difference, self.pushed, self.bound = 0.0, 0, bound
        self.wrong = np.zeros(self.samples, bool)
        self.shape = reference.plan.frames.features

    def push(self, frame: NDArray[np.float32]) -> None:
        """Push one frame of a recording to both."""
        self.pushed += 1
        self._step(frame)

    def finish(self) -> Agreement:
        """Push silence until the last window is complete, and return the agreement."""
        T = self.reference.plan.T
        per_window = T if self.reference.plan.streams else 1
        while self.reference.state.given[self.reference.plan.output] < self.pushed // T * per_window:
            self._step(np.zeros((self.samples, *self.shape), np.float32))
        equal = sum(
            int((predictions(a, streams=False) == predictions(b, streams=False)).sum())
            for a, b in self.scores.values()
        )
        error = max(
            (output_error(a, b, self.wrong, streams=False) for a, b in self.scores.values()), default=0.0
        )
        layers = tuple(self.layers.values())
        return Agreement(layers, self.samples * len(self.scores), equal, self.difference, self.bound, error)

    def _step(self, frame: NDArray[np.float32]) -> None:
        seen: dict[str, Tensor] = {}
        expected = self.reference.push(frame, observe=lambda name, index, value: seen.update({name: value}))
        got = self.other.push(frame)
        if [(e.window, e.frame) for e in expected] != [(e.window, e.frame) for e in got]:
            raise VerificationError(
                f"at step {self.reference.state.pushed - 1} the model emits {[e.frame for e in got]}, "
                f"the stream {[e.frame for e in expected]}"
            )
        for name, value in seen.items():
            if name in self.layers and self.other.shown[name].shape != tuple(value.shape):
                raise VerificationError(
                    f"{name} has the shape {list(self.other.shown[name].shape)} in the model"
                )
        for a, b in zip(expected, got, strict=True):
            if a.value.shape != b.value.shape:
                raise VerificationError(f"the model's results have the shape {list(b.value.shape)}")
            self.difference = max(self.difference, float((a.value - b.value).abs().max()))
            if a.window < -(-self.pushed // self.reference.plan.T):  # silence follows
                values = (a.value.numpy(), b.value.numpy())
                before = self.scores.get(a.window, (np.zeros_like(values[0]), np.zeros_like(values[1])))
                self.scores[a.window] = (before[0] + values[0], before[1] + values[1])
        for name in self.layers:
            given = self.reference.state.given[name]
            if name in seen and given <= self.pushed:
                window, t = divmod(given - 1, self.reference.plan.T)
                kind = self.reference.plan.signals[name].kind
                spikes, other = (
                    spikes_of(v[None], kind) for v in (seen[name].numpy(), self.other.shown[name])
                )
                first_sample = self.first_sample + window * self.samples
                self.layers[name] += layer_agreement(name, spikes, other, first_sample, t)
                self.wrong |= samples_that_differ(spikes, other)
