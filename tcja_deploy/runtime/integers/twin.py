"""The digital twin: an integer network, window by window, bit-exact with Lava's fixed-point simulation.

Lava runs one pipelined step at a time; the twin runs a layer over the whole window. Both give the same spikes
because the states of every layer start from zero in each window. Integers are carried in floats: each layer
runs in float32 where bounds on its weights and payloads prove that this is exact, in float64 otherwise
(`tcja_deploy.runtime.integers.sums`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.runtime.integers.gate_arithmetic import gate_values
from tcja_deploy.runtime.integers.network import GateStage, HostInput, IntegerNetwork, LayerStage
from tcja_deploy.runtime.integers.stages import UNITY
from tcja_deploy.runtime.integers.sums import EXACT32, FastSums, fits_float32, float32_is_exact, linear_part

__all__ = ["LayerCounts", "LayerRunner", "Twin", "TwinRun", "encode"]

LIMIT = 1 << 23
CHUNK_BYTES = 1 << 28
BLOCK_BYTES = 1 << 24


@dataclass(slots=True)
class LayerCounts:
    """What happened in one stage, summed over frames and samples."""

    spikes: int = 0
    neuron_steps: int = 0
    wraps: int = 0
    saturations: int = 0
    peak: int = 0
    """Largest |a + bias| of a layer, largest payload of a gate."""

    def add(self, other: LayerCounts) -> None:
        """Take in the counts of other samples."""
        self.spikes += other.spikes
        self.neuron_steps += other.neuron_steps
        self.wraps += other.wraps
        self.saturations += other.saturations
        self.peak = max(self.peak, other.peak)


@dataclass(frozen=True, slots=True)
class TwinRun:
    """Result of a run over N samples.

    Attributes:
        network: What ran.
        payload: (T, N, ...) int32: spikes or payloads of the last stage.
        recorded: Stage name -> (T, N, ...); uint8 spikes of layers, int32 payloads of gates.
        counts: Stage name -> counts.
    """

    network: IntegerNetwork
    payload: NDArray[np.int32]
    recorded: dict[str, NDArray[np.integer]]
    counts: dict[str, LayerCounts]

    @property
    def values(self) -> NDArray[np.float64]:
        """The readout on the host: (N, K), or (T, N, K) where it does not average over time."""
        return self.network.readout(self.payload, self.network.unit)


def encode(host: HostInput, frames: NDArray[np.generic]) -> NDArray[np.int64]:
    """Integer payloads (T, N, ...) that the host sends for frames (T, N, *shape).

    Raises:
        DataError: Frames of another shape, or values that are not the integers the network was made for.
    """
    if frames.ndim < 3 or frames.shape[2:] != host.shape:
        raise DataError(f"frames have the shape {frames.shape}, the network wants (T, N, *{host.shape})")
    if host.scale == 1 and frames.dtype.kind in "iub":
        payload = frames.astype(np.int64)
    else:
        scaled = frames.astype(np.float64) * host.scale
        payload = np.rint(scaled).astype(np.int64)
        if host.scale == 1 and not np.array_equal(payload, scaled):
            raise DataError("frames hold fractions, but the network takes integer event counts")
    if host.binary and payload.size and (payload.min() < 0 or payload.max() > 1):
        raise DataError("frames hold values other than 0 and 1, but the network takes spikes")
    if host.rows is not None and host.columns is not None:
        payload = host.rows @ payload @ host.columns.T
    if host.limbs != (1,):
        payload = np.concatenate([payload * limb for limb in host.limbs], 2)
    return payload


def integer_gate(gate: GateStage, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Gate integers (T, N, C) for payload sums (T, N, C) over the pixels of the maps."""
    area = gate.in_shape[1] * gate.in_shape[2]
    fixed = (gate.tla, gate.cla, gate.fusion, gate.fraction, gate.index_bits, gate.table)
    values = gate_values(counts.transpose(1, 0, 2), area, *fixed)
    return values.transpose(1, 0, 2)


class LayerRunner:
    """One layer with its state (u, v): `advance` takes any number of further frames, `reset` starts a window.

    Attributes:
        layer: Parameters.
        u: Currents (N, ...) float64, or None before the first frame (zeros) and where they have no memory.
        v: Voltages (N, ...), or None before the first frame (zeros).
    """

    def __init__(self, layer: LayerStage) -> None:
        self.layer = layer
        self.u: Tensor | None = None
        self.v: Tensor | None = None
        self._parameters: dict[torch.dtype, tuple[Tensor, Tensor, Tensor]] = {}
        self._sums: FastSums | None = None
        self._peak32 = -1
        if float32_is_exact():
            while fits_float32(layer, max(1, 2 * self._peak32)) and self._peak32 < EXACT32:
                self._peak32 = max(1, 2 * self._peak32)

    def reset(self) -> None:
        """Zero the state."""
        self.u = self.v = None

    def parameters(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, bias and threshold, each times 64; the threshold in a shape that broadcasts over maps."""
        if dtype not in self._parameters:
            layer = self.layer
            wrapped = layer.bias.astype(np.int16).astype(np.int64)  # Lava keeps 16 bits and wraps silently
            weight, bias, threshold = (
                torch.as_tensor(64 * value, dtype=dtype) for value in (layer.weight, wrapped, layer.threshold)
            )
            if weight.ndim == 4:
                weight = weight.contiguous(memory_format=torch.channels_last)
                threshold = threshold.reshape(-1, 1, 1) if threshold.ndim else threshold  # scalars are fast
            self._parameters[dtype] = weight, bias, threshold
        return self._parameters[dtype]

    def advance(self, x: Tensor, samples: int, peak: int, counts: LayerCounts) -> Tensor:
        """Spikes (B*N, ...) float32 of B further frames.

        Args:
            x: Payloads (B*N, ...), float32, frame-major.
            samples: N.
            peak: Bound on the magnitude of the payloads.
            counts: Tally to add to.
        """
        if peak <= self._peak32:
            spikes = self._fast(x, samples, peak, counts)
            if spikes is not None:
                return spikes
        return torch.cat([self._exact(frame.double(), counts) for frame in _frames(x, samples)])

    def _fast(self, x: Tensor, samples: int, bound: int, counts: LayerCounts) -> Tensor | None:
        """In float32; None, with nothing changed, where a current might wrap."""
        weight, bias, threshold = self.parameters(torch.float32)
        if self._sums is None:
            self._sums = FastSums(self.layer, weight, bias)
        current = self._sums(x, bound)  # 64 (a + bias)
        peak = _peak(current)
        if peak + int(bias.abs().max()) >= LIMIT:
            return None
        keep = (UNITY - self.layer.v_decay) / UNITY
        saturates = max(0 if self.v is None else _peak(self.v), peak / (1 - keep)) >= LIMIT
        steps = _frames(current, samples)
        v = torch.zeros_like(steps[0]) if self.v is None else self.v.float()
        for t in range(steps.shape[0]):
            if keep:  # below 2**22 + 2**23 + 2**21; Tensor.trunc_ takes ten times as long as this division
                v = torch.div(v, 1 / keep, rounding_mode="trunc", out=v).add_(steps[t])
            else:
                v = steps[t]
            if saturates and _peak(v) >= LIMIT:
                counts.saturations += int((v.abs() >= LIMIT).sum())
                v.clamp_(-LIMIT + 1, LIMIT - 1)
            torch.gt(v, threshold, out=steps[t])
            if keep:
                v.addcmul_(v, steps[t], value=-1)
        self.v = v if keep else None
        counts.peak = max(counts.peak, peak // 64)
        return current  # overwritten: fresh memory would cost more than all arithmetic here

    def _exact(self, x: Tensor, counts: LayerCounts) -> Tensor:
        """One frame in float64, with the wrapping and saturating of the reference, counted."""
        layer = self.layer
        weight, bias, threshold = self.parameters(torch.float64)
        whole = u = linear_part(layer, x, weight, None)
        if layer.kind != "dense":
            u = torch.remainder(u + 64 * LIMIT, 128 * LIMIT) - 64 * LIMIT
        wrapped = u != whole
        bias = bias.reshape(-1, 1, 1) if u.ndim == 4 else bias
        counts.peak = max(counts.peak, int((whole + bias).abs().max()) // 64)
        if self.u is not None:
            u = u + torch.trunc(self.u * ((UNITY - layer.i_decay) / UNITY))
        over, under = u > LIMIT, u <= -LIMIT
        counts.wraps += int((over | under | wrapped).sum())
        u = u - 2 * LIMIT * over + 2 * LIMIT * under
        v = u + bias
        if self.v is not None:
            v += torch.trunc(self.v.double() * ((UNITY - layer.v_decay) / UNITY))
        counts.saturations += int((v.abs() >= LIMIT).sum())
        v = v.clamp(-LIMIT + 1, LIMIT - 1)
        spikes = v > threshold
        self.u = u if layer.i_decay < UNITY else None
        self.v = v.masked_fill_(spikes, 0)
        return spikes.float()


def _frames(x: Tensor, samples: int) -> Tensor:
    """(B*N, ...) as (B, N, ...), a view."""
    return (
        x.view(-1, samples, *x.shape[1:])
        if x.ndim == 2
        else x.as_strided(
            (x.shape[0] // samples, samples, *x.shape[1:]), (samples * x.stride(0), *x.stride())
        )
    )


def _peak(x: Tensor) -> int:
    """Largest magnitude of integers."""
    low, high = torch.aminmax(_plain(x))
    return int(max(-low, high))


def _ones(x: Tensor) -> int:
    """Number of ones among zeros and ones; a float32 sum is exact below 2**24."""
    return int(_plain(x).sum() if x.numel() < EXACT32 else torch.count_nonzero(_plain(x)))


def _plain(x: Tensor) -> Tensor:
    """The same numbers as a contiguous tensor, without copying maps that are stored channels-last."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def _pool_payload(payload: Tensor, gate: GateStage) -> Tensor:
    pool = gate.pool
    if pool is None:
        return payload
    if pool.kind == "max":
        return functional.max_pool2d(payload, pool.kernel, pool.stride)
    return functional.avg_pool2d(payload, pool.kernel, pool.stride, divisor_override=1)


def run_gate(gate: GateStage, spikes: Tensor, samples: int, counts: LayerCounts) -> Tensor:
    """Payloads (T*N, C, H', W') of a window of spikes (T*N, C, H, W), both float32."""
    sums = spikes.sum((2, 3)).double().numpy().astype(np.int64).reshape(-1, samples, gate.in_shape[0])
    values = integer_gate(gate, sums).reshape(-1, gate.in_shape[0], 1, 1)
    factor = torch.as_tensor(values, dtype=torch.float32)
    payload = _pool_payload(spikes, gate) * factor
    counts.peak = max(counts.peak, int(payload.max()))
    return payload


@dataclass(slots=True)
class Twin:
    """An integer network made ready to run; `run` may be called any number of times.

    Attributes:
        network: What to run.
    """

    network: IntegerNetwork
    _runners: dict[str, LayerRunner] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._runners = {s.name: LayerRunner(s) for s in self.network.stages if isinstance(s, LayerStage)}

    def run(
        self, frames: NDArray[np.generic], record: Collection[str] = (), *, encoded: bool = False
    ) -> TwinRun:
        """Run N windows.

        Args:
            frames: Frames of the model's input, (T, N, C, H, W) or (T, N, n).
            record: Names of the stages whose spikes or payloads to return.
            encoded: The frames are integer payloads already, as `encode` returns them.

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
            raise DataError(f"payloads of {payload.shape} do not fit (T, N, *{network.host_input.out_shape})")
        if payload.shape[0] != network.frames:
            raise DataError(
                f"got {payload.shape[0]} frames a sample, the network was made for T = {network.frames}"
            )
        if payload.shape[1] == 0:
            raise DataError("there is no sample to run")
        if int(np.abs(payload).max()) >= EXACT32:
            raise DataError(f"a payload of {int(np.abs(payload).max())} exceeds the 24 bits of a message")
        widest = max(
            prod(shape) for shape in [payload.shape[2:], *(stage.out_shape for stage in network.stages)]
        )
        chunk = max(1, CHUNK_BYTES // (4 * widest * network.frames))
        counts = {stage.name: LayerCounts() for stage in network.stages}
        parts = [
            self._window(payload[:, i : i + chunk], record, counts) for i in range(0, payload.shape[1], chunk)
        ]
        output = np.concatenate([part[0] for part in parts], 1)
        recorded = {name: np.concatenate([part[1][name] for part in parts], 1) for name in record}
        return TwinRun(network, output, recorded, counts)

    @torch.no_grad()
    def _window(
        self, payload: NDArray[np.int64], record: Collection[str], counts: dict[str, LayerCounts]
    ) -> tuple[NDArray[np.int32], dict[str, NDArray[np.integer]]]:
        """One chunk of samples; between gates, blocks of frames go through all layers while they are
        cached.
        """
        samples = payload.shape[1]
        x = torch.as_tensor(payload.reshape(-1, *payload.shape[2:]), dtype=torch.float32)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        peak = int(np.abs(payload).max())
        recorded: dict[str, list[NDArray[np.integer]]] = {name: [] for name in record}

        def tally(stage: LayerStage | GateStage, y: Tensor) -> Tensor:
            counts[stage.name].neuron_steps += y.numel()
            fired = _ones(y) if isinstance(stage, LayerStage) else int(torch.count_nonzero(_plain(y)))
            counts[stage.name].spikes += fired
            if stage.name in recorded:
                kind: type[np.integer] = np.uint8 if isinstance(stage, LayerStage) else np.int32
                recorded[stage.name].append(y.numpy().astype(kind).reshape(-1, samples, *y.shape[1:]))
            return y

        for gate, layers in segments(self.network):
            if gate is not None:
                x = tally(gate, run_gate(gate, x, samples, counts[gate.name]))
                peak = gate.peak
            for layer in layers:
                self._runners[layer.name].reset()
            widest = max([prod(layer.out_shape) for layer in layers], default=1)
            block = max(1, BLOCK_BYTES // (4 * widest * samples)) * samples
            parts = []
            for part in torch.split(x, block):
                for index, layer in enumerate(layers):
                    runner = self._runners[layer.name]
                    part = tally(
                        layer, runner.advance(part, samples, 1 if index else peak, counts[layer.name])
                    )
                parts.append(part)
            x = torch.cat(parts)
        output = x.numpy().astype(np.int32).reshape(-1, samples, *x.shape[1:])
        return output, {name: np.concatenate(frames) for name, frames in recorded.items()}


def segments(network: IntegerNetwork) -> list[tuple[GateStage | None, list[LayerStage]]]:
    """The stages cut before each gate: (gate or None, the layers after it)."""
    cut: list[tuple[GateStage | None, list[LayerStage]]] = [(None, [])]
    for stage in network.stages:
        if isinstance(stage, GateStage):
            cut.append((stage, []))
        else:
            cut[-1][1].append(stage)
    return cut
