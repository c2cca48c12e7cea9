"""The reference that artifacts are compared with: a network in a chosen engine, and the sequence runtime as the judge.

If two runs agree on every spike, that settles the comparison, whichever engine the reference ran in. If not, the sequence
runtime decides: the batch runs again in it, and the report is about that run. So a fast engine makes a comparison fast, and
cannot change its outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Graph
from tcja_deploy.runtime.agreement import Agreement, LayerAgreement, agreement, checked_values
from tcja_deploy.runtime.engines import choose, watching

__all__ = ["PackedSpikes", "Reference", "ReferenceRun"]


class PackedSpikes(Mapping[str, NDArray[np.bool_]]):
    """Spikes `[T, N, ...]` of layers by name, eight spikes per byte."""

    def __init__(self) -> None:
        self._bits: dict[str, tuple[tuple[int, ...], NDArray[np.uint8], int]] = {}

    def keep(self, name: str, values: NDArray[np.generic]) -> None:
        """Keep the spikes of a layer: which values are not zero."""
        spikes = values != 0
        self._bits[name] = (spikes.shape, np.packbits(spikes), int(np.count_nonzero(spikes)))

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        shape, bits, _ = self._bits[name]
        return np.unpackbits(bits, count=int(np.prod(shape))).view(np.bool_).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def agreement(self, name: str, other: NDArray[np.generic] | None) -> LayerAgreement | None:
        """The comparison of a layer with another run's if they are equal, else `None`.

        Raises:
            DataError: If the other run lacks the layer, or its values have another shape.
        """
        shape, bits, spikes = self._bits[name]
        fired = checked_values(other, name, shape) != 0
        if not np.array_equal(np.packbits(fired), bits):
            return None
        return LayerAgreement(name, fired.size, spikes, spikes, 0)


@dataclass(frozen=True, eq=False)
class ReferenceRun:
    """One window of the reference.

    Attributes:
        output: The output, shaped like its signal.
        spikes: Spikes of every neuron layer.
    """

    output: NDArray[np.float32]
    spikes: PackedSpikes


_COMPARING = 4
"""How many times less a comparison gains from the event engine than counting does: it turns the engine's bits into dense
spikes, and where sums differ by rounding the sequence runtime runs as well. Measured on DVS128."""


_CODE = {"events": "tcja_deploy.runtime.events.engine"}


class Reference:
    """A network that other runs are compared with.

    Args:
        graph: The network; fold its batch normalisation before, if the other runs do.
        engine: What runs it: `"auto"`, `"torch"`, `"events"` or `"onnx"`.
        samples: How many samples will be run, if that is known; see `runtime.engines.choose`.

    Attributes:
        graph: The network.
        engine: What runs it and why, in words.
        code: The module that its runs import, which takes a while.

    Raises:
        UsageError: If there is no such engine.
    """

    def __init__(self, graph: Graph, engine: str = "auto", *, samples: int | None = None) -> None:
        self.graph = graph
        choice = choose(graph, engine, samples=None if samples is None else samples // _COMPARING)
        self.engine = choice.label
        self._judges = choice.engine == "torch"
        self.code = _CODE.get(choice.engine, "tcja_deploy.runtime.compare")
        self._watch = watching(graph, choice, [node.name for node in graph.neurons])
        self._sample: tuple[NDArray[np.float32], ReferenceRun] | None = None

    def run_sample(self, sample: NDArray[np.float32]) -> ReferenceRun:
        """Run one sample `[T, 1, ...]` and remember the result for a later comparison on the same frames."""
        if self._sample is None or not np.array_equal(self._sample[0], sample):
            self._sample = (sample, self._run(sample))
        return self._sample[1]

    def _run(self, frames: NDArray[np.float32]) -> ReferenceRun:
        spikes = PackedSpikes()
        output = self._watch(frames, lambda node, value: spikes.keep(node.name, value.numpy()))
        return ReferenceRun(output, spikes)

    def compare(
        self,
        frames: NDArray[np.float32],
        output: NDArray[np.float32],
        spikes: Mapping[str, NDArray[np.generic]],
        *,
        bound: float,
        first_sample: int = 0,
    ) -> Agreement:
        """As `runtime.compare.compare`; with another engine, the sequence runtime runs only if the runs do not agree.

        Raises:
            DataError: If the other run lacks a layer, or its values have other shapes.
        """
        kept = self._sample
        known = kept is not None and np.array_equal(kept[0], frames)
        if known or not self._judges:
            found = kept[1] if kept is not None and known else self._run(frames)
            total = self._settled(found, output, spikes, bound)
            if total is not None:
                return total
        from tcja_deploy.runtime.compare import compare  # with torch, which an agreement does without

        return compare(self.graph, frames, output, spikes, bound=bound, first_sample=first_sample)

    def _settled(
        self,
        found: ReferenceRun,
        output: NDArray[np.float32],
        spikes: Mapping[str, NDArray[np.generic]],
        bound: float,
    ) -> Agreement | None:
        """The comparison with a run of the reference if the two agree on every spike, else `None`."""
        layers = [found.spikes.agreement(node.name, spikes.get(node.name)) for node in self.graph.neurons]
        equal = [layer for layer in layers if layer is not None]
        if len(equal) < len(layers):
            return None
        last = self.graph[self.graph.output].signal
        other = checked_values(output, self.graph.output, found.output.shape)
        samples = other.shape[int(last.streams)]
        total = agreement(
            equal, found.output, other, np.zeros(samples, np.bool_), streams=last.streams, bound=bound
        )
        return total if total.passed else None
