"""What a gate expects of frames that have not arrived: zeros, a mean profile, or a linear prediction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError, FileFormatError
from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.resume import KeptProgress
from tcja_deploy.runtime.sequence import run

__all__ = ["FIT", "Estimate", "FrameProfile", "fit"]

FIT = "fitted"
"""Name of the part of a run's progress that this module keeps; its state says how many recordings are done."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """The squeezed frames `Z[n, c]` that one TCJA block expects.

    Without `slope` a later frame is estimated by the mean, `Zhat[n] = mean[n]`; with it, after frame
    `t`, `Zhat[n] = mean[n] + slope[t, n] (u - past[t])`, where `u[c]` is the mean of `Z[0..t, c]` in
    this recording.

    Attributes:
        mean: `[T, C]`, mean of `Z` over the calibration set.
        past: `[T, C]`, mean of `u` after each frame over the same set.
        slope: `[T, T]` (`t`, `n`), least-squares slopes that all channels share, or `None`.
    """

    mean: Array
    past: Array
    slope: Array | None = None

    def future(self, t: int, u: Tensor | None, samples: int) -> Tensor:
        """Estimates `[T - 1 - t, N, C]` of the frames after `t`."""
        mean = torch.from_numpy(self.mean[t + 1 :])[:, None]
        if self.slope is None or u is None:
            return mean.expand(-1, samples, -1)
        return mean + torch.from_numpy(self.slope[t, t + 1 :])[:, None, None] * (
            u - torch.from_numpy(self.past[t])
        )


@dataclass(frozen=True, slots=True, eq=False)
class FrameProfile:
    """Estimates for the TCJA blocks of a network, by node name; blocks without one expect zeros."""

    blocks: Mapping[str, Estimate] = field(default_factory=dict)

    def without_slopes(self) -> FrameProfile:
        """The mean profiles alone."""
        return FrameProfile({name: Estimate(e.mean, e.past) for name, e in self.blocks.items()})

    def arrays(self) -> dict[str, Array]:
        """All estimates as named arrays."""
        found = {}
        for name, e in self.blocks.items():
            parts = {"mean": e.mean, "past": e.past} | ({} if e.slope is None else {"slope": e.slope})
            found.update({f"{name}/{part}": array for part, array in parts.items()})
        return found

    @property
    def hash(self) -> str:
        """SHA-256 of names and numbers."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()

    @staticmethod
    def from_arrays(graph: Graph, arrays: Mapping[str, NDArray[np.generic]]) -> FrameProfile:
        """The inverse of `arrays`, checked against a graph.

        Raises:
            FileFormatError: If an array is missing, unknown, or of another shape than the graph's blocks
                need.
        """
        blocks, T, left = {}, graph.T, dict(arrays)
        for node in _blocks(graph):
            C = node.signal.features[0]
            parts: dict[str, Array] = {}
            for part, shape in (("mean", (T, C)), ("past", (T, C)), ("slope", (T, T))):
                array = left.pop(f"{node.name}/{part}", None)
                if array is None and part == "slope":
                    continue
                if (
                    array is None
                    or array.shape != shape
                    or not np.isfinite(np.asarray(array, np.float32)).all()
                ):
                    raise FileFormatError(f"the profile has no {part} of shape {shape}", where=node.name)
                parts[part] = np.asarray(array, np.float32)
            blocks[node.name] = Estimate(parts["mean"], parts["past"], parts.get("slope"))
        if left:
            raise FileFormatError(
                f"the profile holds {', '.join(sorted(left))}, which the model has no use for"
            )
        return FrameProfile(blocks)


def _blocks(graph: Graph) -> list[Node]:
    return [node for node in graph if isinstance(node.op, ir.TCJA)]


class _Sums:
    """Running sums of one block over a data set, in float64."""

    def __init__(self, T: int, C: int) -> None:
        self.samples = 0
        self.z, self.u = np.zeros((T, C)), np.zeros((T, C))
        self.uz, self.uu = np.zeros((T, T)), np.zeros(T)

    def restore(self, samples: int, arrays: Mapping[str, NDArray[np.float64]], name: str) -> None:
        """Go on from what `arrays` gave in an earlier run.

        Raises:
            FileFormatError: If it does not fit.
        """
        self.samples = samples
        for part, here in self.arrays().items():
            kept = arrays.get(f"{name}/{part}")
            if kept is None or kept.shape != here.shape or kept.dtype != here.dtype:
                raise FileFormatError(f"what is kept of the interrupted run has no {part}", where=name)
            here[...] = kept

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The sums by name."""
        return {"z": self.z, "u": self.u, "uz": self.uz, "uu": self.uu}

    def add(self, z: NDArray[np.float64]) -> None:
        T = len(z)
        u = z.cumsum(0) / np.arange(1, T + 1)[:, None, None]
        self.samples += z.shape[1]
        self.z += z.sum(1)
        self.u += u.sum(1)
        self.uz += np.einsum("tsc,nsc->tn", u, z)
        self.uu += np.einsum("tsc,tsc->t", u, u)

    def estimate(self, linear: bool) -> Estimate:
        mean, past = self.z / self.samples, self.u / self.samples
        slope = None
        if linear:
            variance = self.uu - self.samples * (past**2).sum(1)
            covariance = self.uz - self.samples * past @ mean.T
            slope = np.divide(
                covariance, variance[:, None], out=np.zeros_like(covariance), where=variance[:, None] > 0
            )
            slope = slope.astype(np.float32)
        return Estimate(mean.astype(np.float32), past.astype(np.float32), slope)


def fit(
    graph: Graph,
    batches: Iterable[NDArray[np.float32]],
    *,
    linear: bool = False,
    kept: KeptProgress | None = None,
) -> FrameProfile:
    """Estimates for every TCJA block, from exact runs over calibration data.

    Args:
        graph: The network.
        batches: Batches of frames `[T, N, ...]`.
        linear: Fit slopes as well: least squares of each later frame on the mean of the past, one slope for
            all channels.
        kept: Where progress is kept; `batches` begin after the recordings that an interrupted run has kept there.

    Raises:
        DataError: If there is no data, or frames do not fit the graph.
    """
    sums = {node.name: _Sums(graph.T, node.signal.features[0]) for node in _blocks(graph)}
    source: dict[str, list[str]] = {node.inputs[0]: [] for node in _blocks(graph)}
    for node in _blocks(graph):
        source[node.inputs[0]].append(node.name)

    def observe(node: Node, value: Tensor) -> None:
        for name in source.get(node.name, ()):
            sums[name].add(value.mean((3, 4), dtype=torch.float64).numpy())

    done = 0
    found = None if kept is None else kept.part(FIT)
    if found is not None:
        done = found[0]["done"]
        for name, s in sums.items():
            s.restore(done, found[1], name)

    def keep() -> None:
        if kept is not None:
            arrays = {f"{name}/{part}": a for name, s in sums.items() for part, a in s.arrays().items()}
            kept.keep(FIT, {"done": done}, arrays)

    for frames in batches:
        run(graph, frames, observe=observe)
        done += frames.shape[1]
        if kept is not None and kept.due:
            keep()
    keep()
    if not done:
        raise DataError("there are no recordings to fit the profile on")
    return FrameProfile({name: s.estimate(linear) for name, s in sums.items()})
