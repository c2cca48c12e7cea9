"""The digital twin: an integer network, window by window, bit-exact with Lava's fixed-point simulation.

Lava runs one pipelined step at a time; the twin runs a layer over the whole window. Both give the same spikes
because the states of every layer start from zero in each window. The reference computes stage by stage in
float64, which holds the integers exactly; the kernels (`tcja_deploy.runtime.integers.sparse_network`) add
8-bit weights of active inputs in lanes of 16 and 32 bits, and leave to the reference what no bound proves to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork
from tcja_deploy.runtime.integers.stage_runners import count_sent, run_stage
from tcja_deploy.runtime.integers.stages import HOST
from tcja_deploy.runtime.integers.work import pays
from tcja_deploy.runtime.threads import available_cores

if TYPE_CHECKING:
    from tcja_deploy.runtime.integers.sparse_network import SparseNetwork

__all__ = ["MESSAGE_LIMIT", "Twin", "TwinRun", "encode"]

MESSAGE_LIMIT = 1 << 24
"""Bound on the magnitude of payloads, 2**24."""

CHUNK_BYTES = 1 << 28

RunWindow = Callable[
    [NDArray[np.int64], Collection[str], dict[str, LayerCounts]],
    tuple[NDArray[np.int32], dict[str, NDArray[np.integer]]],
]
"""Runs windows `[T, N, ...]`: what the last stage and the recorded ones send."""


@dataclass(frozen=True, slots=True)
class TwinRun:
    """Result of a run over N samples.

    Attributes:
        network: The network that ran.
        payload: Spikes or payloads of the last stage, `[T, N, ...]`, int32.
        recorded: What each recorded stage sent, by name, `[T, N, ...]`; spikes in uint8, payloads in int32.
        counts: Counts of each stage by name.
    """

    network: IntegerNetwork
    payload: NDArray[np.int32]
    recorded: dict[str, NDArray[np.integer]]
    counts: dict[str, LayerCounts]

    @property
    def values(self) -> NDArray[np.float64]:
        """The host's readout: `[N, K]`, or `[T, N, K]` where it does not average over time."""
        return self.network.readout(self.payload, self.network.unit)


def encode(host: HostInput, frames: NDArray[np.generic]) -> NDArray[np.int64]:
    """Integer payloads `[T, N, ...]` that the host sends for frames `[T, N, *shape]`.

    Raises:
        DataError: Frames of another shape, or values that are not the integers the network was made for.
    """
    if frames.ndim < 3 or frames.shape[2:] != host.shape:
        raise DataError(
            f"frames have the shape {frames.shape}, the network takes [T, N, {', '.join(map(str, host.shape))}]"
        )
    if host.scale == 1:
        payload = frames.astype(np.int64)
        if frames.dtype.kind not in "iub" and not np.array_equal(payload, frames):
            raise DataError("frames hold fractions, but the network takes integer event counts")
    else:
        payload = np.rint(frames.astype(np.float64) * host.scale).astype(np.int64)
    if host.binary and payload.size and (payload.min() < 0 or payload.max() > 1):
        raise DataError("frames hold values other than 0 and 1, but the network takes spikes")
    if host.rows is not None and host.columns is not None:
        payload = host.rows @ payload @ host.columns.T
    if host.limbs != (1,):
        payload = np.concatenate([payload * limb for limb in host.limbs], 2)
    return payload


@dataclass(slots=True)
class Twin:
    """An integer network made ready to run; `run` may be called any number of times.

    Attributes:
        network: The network.
        kernels: Whether the kernels run it, whose time follows the spikes, or else the reference. `None` for the reference
            until the process has run for about as long as loading the kernels takes.
        threads: Threads of the kernels; `None` for all cores that the process may use. No result depends on these two.
    """

    network: IntegerNetwork
    kernels: bool | None = None
    threads: int | None = None
    _sparse: SparseNetwork | None = field(default=None, init=False, repr=False)

    def run(
        self, frames: NDArray[np.generic], record: Collection[str] = (), *, encoded: bool = False
    ) -> TwinRun:
        """Run N windows.

        Args:
            frames: Frames of the model's input, `[T, N, C, H, W]` or `[T, N, n]`.
            record: Names of the stages whose spikes or payloads to return.
            encoded: Whether the frames are integer payloads already, as `encode` returns them.

        Raises:
            DataError: Frames that do not fit the network.
            UsageError: A name in `record` that the network does not have.
        """
        network = self.network
        unknown = sorted(set(record) - {stage.name for stage in network.stages})
        if unknown:
            raise UsageError(f"the integer network has no stage named {', '.join(unknown)}")
        payload = frames.astype(np.int64) if encoded else encode(network.host_input, frames)
        if payload.ndim < 3 or payload.shape[2:] != network.host_input.out_shape:
            raise DataError(
                f"payloads of {payload.shape} do not fit [T, N, {', '.join(map(str, network.host_input.out_shape))}]"
            )
        if payload.shape[0] != network.frames:
            raise DataError(
                f"got {payload.shape[0]} frames per sample, the network was made for T = {network.frames}"
            )
        if payload.shape[1] == 0:
            raise DataError("there is no sample to run")
        most = max(int(payload.max()), -int(payload.min()))
        if most >= MESSAGE_LIMIT:
            raise DataError(f"a payload of {most} exceeds the 24 bits of a message")
        widest = max(
            prod(shape) for shape in [payload.shape[2:], *(stage.out_shape for stage in network.stages)]
        )
        chunk = max(1, CHUNK_BYTES // (4 * widest * network.frames))
        counts = {stage.name: LayerCounts() for stage in network.stages}
        window = self._window(payload.shape[1])
        parts = [
            window(payload[:, i : i + chunk], record, counts) for i in range(0, payload.shape[1], chunk)
        ]  # fmt: skip
        output = np.concatenate([part[0] for part in parts], 1)
        recorded = {name: np.concatenate([part[1][name] for part in parts], 1) for name in record}
        return TwinRun(network, output, recorded, counts)

    def _window(self, samples: int) -> RunWindow:
        """A function that runs the windows of a chunk of samples."""
        chosen = pays(self.network, samples) if self.kernels is None else self.kernels
        if not chosen:
            return partial(_reference, self.network)
        if self._sparse is None:
            from tcja_deploy.runtime.integers.sparse_network import SparseNetwork

            self._sparse = SparseNetwork(self.network, self.threads or available_cores())
        return self._sparse.run


def _reference(
    network: IntegerNetwork,
    payload: NDArray[np.int64],
    record: Collection[str],
    counts: dict[str, LayerCounts],
) -> tuple[NDArray[np.int32], dict[str, NDArray[np.integer]]]:
    """What the last stage and the recorded ones send, stage by stage."""
    sent: dict[str, NDArray[np.integer]] = {HOST: payload}
    recorded: dict[str, NDArray[np.integer]] = {}
    last_reader = {name: stage.name for stage in network.stages for name in stage.inputs}
    for stage in network.stages:
        windows, tally = [sent[name] for name in stage.inputs], counts[stage.name]
        sent[stage.name] = found = run_stage(stage, network.arrives(stage), windows, tally)
        count_sent(stage, found, tally)
        if stage.name in record:
            kind = np.uint8 if network.edges[stage.name].kind == "spike" else np.int32
            recorded[stage.name] = found.astype(kind)
        for name in stage.inputs:
            if last_reader[name] == stage.name:
                sent.pop(name, None)
    return sent[network.stages[-1].name].astype(np.int32), recorded
