"""How far two runs of the same network agree, spike for spike: the record of a comparison, and what it is made from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Kind
from tcja_deploy.runtime.predictions import predictions

__all__ = [
    "BOUND",
    "OUTPUT_BOUND",
    "Agreement",
    "FirstMismatch",
    "LayerAgreement",
    "agreement",
    "checked_values",
    "layer_agreement",
    "output_error",
    "samples_that_differ",
    "spikes_of",
]


@dataclass(frozen=True)
class FirstMismatch:
    """The earliest spike of a layer in which two runs differ.

    Attributes:
        sample: Number of the sample in the data.
        t: Time step.
        index: Position in the layer, `(c, h, w)` or `[n]`.
        expected: 1 if the reference spikes there, else 0.
        distance: Reference membrane minus threshold at that point; tiny if rounding decided. `None` if an earlier
            layer already differed in this sample, so that the inputs are not the same.
    """

    sample: int
    t: int
    index: tuple[int, ...]
    expected: int
    distance: float | None


@dataclass(frozen=True)
class LayerAgreement:
    """Spikes of one layer in two runs.

    Attributes:
        name: Node name.
        neuron_steps: How many were compared: neurons x time steps x samples.
        spikes: Spikes in the reference.
        other_spikes: Spikes in the other run.
        mismatches: Neuron-steps in which they differ.
        first: The first difference, if there is one.
    """

    name: str
    neuron_steps: int
    spikes: int
    other_spikes: int
    mismatches: int
    first: FirstMismatch | None = None

    def __add__(self, other: LayerAgreement) -> LayerAgreement:
        return LayerAgreement(
            self.name,
            self.neuron_steps + other.neuron_steps,
            self.spikes + other.spikes,
            self.other_spikes + other.other_spikes,
            self.mismatches + other.mismatches,
            self.first or other.first,
        )


@dataclass(frozen=True)
class Agreement:
    """Two runs over a data set.

    Attributes:
        layers: One entry per spiking layer, in order.
        samples: Samples compared.
        predictions_equal: Samples with the same predicted class.
        output_difference: Largest absolute difference of the outputs; infinite if one is NaN.
        bound: Allowed mismatches per neuron-step, over all layers.
        output_error: How much the outputs differ where no spike does; see the function `output_error`. What follows the last
            neurons can only round differently, so more than `OUTPUT_BOUND` means another computation.
    """

    layers: tuple[LayerAgreement, ...]
    samples: int
    predictions_equal: int
    output_difference: float
    bound: float
    output_error: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        layers = self.layers or tuple(
            replace(o, neuron_steps=0, spikes=0, other_spikes=0, mismatches=0, first=None)
            for o in other.layers
        )
        return Agreement(
            tuple(a + b for a, b in zip(layers, other.layers, strict=True)),
            self.samples + other.samples,
            self.predictions_equal + other.predictions_equal,
            max(self.output_difference, other.output_difference),
            self.bound,
            max(self.output_error, other.output_error),
        )

    @property
    def mismatches(self) -> int:
        """Differing neuron-steps over all layers."""
        return sum(layer.mismatches for layer in self.layers)

    @property
    def neuron_steps(self) -> int:
        """Neuron-steps compared over all layers."""
        return sum(layer.neuron_steps for layer in self.layers)

    @property
    def mismatch_rate(self) -> float:
        """Mismatches per neuron-step."""
        return self.mismatches / self.neuron_steps if self.neuron_steps else 0.0

    @property
    def silence(self) -> str:
        """A warning if some layers spiked in neither run, since equal outputs then say little; empty if all layers spiked."""
        silent = [layer.name for layer in self.layers if not (layer.spikes or layer.other_spikes)]
        if not silent:
            return ""
        names = ", ".join(silent[:5]) + (", ..." if len(silent) > 5 else "")
        what = (
            "the whole network stays silent on the data: no layer of neurons spikes"
            if len(silent) == len(self.layers)
            else f"{len(silent)} of {len(self.layers)} layers of neurons stay silent on the data ({names})"
        )
        return f"{what}; the comparison says little about what follows them"

    @property
    def passed(self) -> bool:
        """Whether the two runs agree.

        They agree if all predictions are equal, mismatches are rarer than the bound (or there are none), all outputs are
        finite, and outputs after equal spikes are equal up to rounding.
        """
        few = self.mismatches == 0 or self.mismatch_rate < self.bound
        rounding = math.isfinite(self.output_difference) and self.output_error <= OUTPUT_BOUND
        return few and rounding and self.predictions_equal == self.samples

    def as_dict(self) -> dict[str, Any]:
        """The comparison as plain numbers and strings for JSON."""
        return {
            "passed": self.passed,
            "samples": self.samples,
            "predictions_equal": self.predictions_equal,
            "output_max_abs_difference": self.output_difference,
            "output_error_where_spikes_are_equal": self.output_error,
            "bound_mismatches_per_neuron_step": self.bound,
            "mismatches": self.mismatches,
            "neuron_steps": self.neuron_steps,
            "mismatches_per_neuron_step": self.mismatch_rate,
            "silence": self.silence,
            "layers": [
                {
                    "name": layer.name,
                    "neuron_steps": layer.neuron_steps,
                    "spikes_reference": layer.spikes,
                    "spikes_artifact": layer.other_spikes,
                    "mismatches": layer.mismatches,
                    "first_mismatch": None if layer.first is None else vars(layer.first),
                }
                for layer in self.layers
            ],
        }


BOUND = 1e-5
"""Default bound of mismatches per neuron-step: sums in another order flip a spike where the membrane is within rounding of the
threshold, a few in a million."""

OUTPUT_BOUND = 1e-5
"""Allowed `output_error`. Measured in onnxruntime and in Norse on all families it is below 2e-7, the rounding of float32."""


def output_error(
    reference: NDArray[np.floating[Any]],
    other: NDArray[np.floating[Any]],
    differs: NDArray[np.bool_],
    streams: bool,
) -> float:
    """Largest difference of outputs in samples with equal spikes, relative to the largest magnitude in the reference.

    Args:
        reference: Outputs `[N, ...]`, or `[T, N, ...]` if they stream.
        other: Outputs of the other run, of the same shape.
        differs: `[N]`, whether a spike differs in each sample; those samples are left out.
        streams: Whether the outputs have a time axis in front.
    """
    a, b = (np.compress(~differs, y, axis=int(streams)).astype(np.float64) for y in (reference, other))
    gap = float(np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf).max(initial=0.0))
    return gap / (float(np.abs(reference).max(initial=0.0)) or 1.0)


def layer_agreement(
    name: str, expected: NDArray[Any], other: NDArray[Any], first_sample: int = 0, first_step: int = 0
) -> LayerAgreement:
    """Compare the values of one layer in two runs: booleans for spikes, integers for payloads.

    Args:
        name: Name of the layer.
        expected: Values of the reference, `[T, N, ...]`.
        other: Values of the other run, of the same shape.
        first_sample: Number of the first sample, for the report.
        first_step: Number of the first time step.
    """
    differs = expected != other
    first = None
    if differs.any():
        t, n, *index = (int(i[0]) for i in np.nonzero(differs))
        first = FirstMismatch(
            first_sample + n, first_step + t, tuple(index), int(expected[(t, n, *index)]), None
        )
    return LayerAgreement(
        name,
        expected.size,
        int(np.count_nonzero(expected)),
        int(np.count_nonzero(other)),
        int(np.count_nonzero(differs)),
        first,
    )


def spikes_of(values: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """The values of a layer to compare: whether neurons spike, or what they send where that is not always one."""
    return values != 0 if kind is Kind.BINARY else values


def samples_that_differ(expected: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """`[N]`, whether any value `[T, N, ...]` of a sample differs."""
    differs = (expected != other).reshape(*expected.shape[:2], -1)
    return np.asarray(differs.any((0, 2)), np.bool_)


def agreement(
    layers: Iterable[LayerAgreement],
    reference: NDArray[Any],
    other: NDArray[Any],
    differs: NDArray[np.bool_],
    *,
    streams: bool,
    bound: float,
) -> Agreement:
    """The comparison of two runs, from their layers and outputs.

    Args:
        layers: Layers in order.
        reference: Outputs `[N, ...]`, or `[T, N, ...]` if they stream.
        other: Outputs of the other run, of the same shape.
        differs: `[N]`, whether a spike differs in each sample.
        streams: Whether the outputs have a time axis in front.
        bound: Allowed mismatches per neuron-step.
    """
    same = predictions(reference, streams) == predictions(other, streams)
    gap = float(np.nan_to_num(np.abs(reference - other), nan=np.inf, posinf=np.inf).max(initial=0.0))
    error = output_error(reference, other, differs, streams)
    return Agreement(tuple(layers), len(same), int(same.sum()), gap, bound, error)


def checked_values(values: NDArray[Any] | None, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Values of another run, which must exist and have the reference's shape.

    Raises:
        DataError: If they are not.
    """
    if values is None or np.shape(values) != shape:
        found = "nothing" if values is None else f"values of shape {list(np.shape(values))}"
        raise DataError(f"the other run has {found}, the reference {list(shape)}", where=name)
    return np.asarray(values)
