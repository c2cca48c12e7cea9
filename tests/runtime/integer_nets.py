"""Random integer networks for the tests of twin, bundle and Lava. Every stage of them spikes, so that none hides errors."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np

from tcja_deploy.runtime.integers.layers import GateStage, LayerStage, SpatialPool, or_pool
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork, Readout
from tcja_deploy.runtime.integers.twin import Twin

THRESHOLD_MAX = (1 << 17) - 1
ENOUGH, TOO_MUCH = 0.04, 0.9


def sigmoid_table(one: int, index_bits: int) -> np.ndarray:
    half = 8 << index_bits
    return np.floor(one / (1 + np.exp(-np.arange(-half, half) / (1 << index_bits))) + 0.5).astype(np.int64)


class Chain:
    """Stages one after another, and what flows between them for a few frames."""

    def __init__(self, rng, payload, *, extreme):
        self.rng, self.extreme = rng, extreme
        self.payload = payload
        self.unit = int(np.abs(payload).max())
        self.stages: list[LayerStage | GateStage] = []

    @property
    def shape(self):
        return self.payload.shape[2:]

    @property
    def frames(self):
        return len(self.payload)

    def pick(self, *values):
        return values[int(self.rng.integers(len(values)))]

    def after(self, stage):
        """Payloads [T, N, ...] behind one more stage."""
        binary = int(self.payload.max()) <= 1 and int(self.payload.min()) >= 0
        host = HostInput(self.shape, binary and self.unit == 1, self.unit)
        network = IntegerNetwork("stage", self.frames, host, (stage,), Readout())
        return Twin(network).run(self.payload, encoded=True).payload

    def add(self, stage, unit=1):
        self.stages.append(stage)
        self.payload, self.unit = self.after(stage).astype(np.int64), unit

    def neurons(self, layer):
        """The layer with a threshold, and biases if need be, with which some neurons fire and some do not."""
        for _ in range(20):
            rate = float(self.after(layer).mean())
            if rate < ENOUGH:
                more = np.maximum(np.abs(layer.bias) // 2, 1 + int(layer.threshold.max()) // 8)
                bias = np.minimum(layer.bias + more, (1 << 15) - 1)
                layer = replace(layer, threshold=np.maximum(layer.threshold // 2, 1), bias=bias)
            elif rate > TOO_MUCH:
                threshold = np.minimum(2 * layer.threshold + 1, THRESHOLD_MAX)
                layer = replace(layer, threshold=threshold, bias=layer.bias - np.abs(layer.bias) // 2)
            else:
                break
        self.add(layer)

    def decays(self):
        return {
            "v_decay": int(self.pick(2048, 2048, 4096, 1024, 123, 0)),
            "i_decay": int(self.pick(4096, 4096, 1024, 0, 3001)),
        }

    def conv(self, name):
        rng, (depth, *size) = self.rng, self.shape
        channels = int(self.pick(4, 6))
        groups = int(self.pick(1, 1, 2, gcd(depth, channels)))
        kernel = self.pick((3, 3), (3, 2), (2, 3), (1, 3)) if min(size) >= 3 else (1, 1)
        dilation = [int(self.pick(1, 2)) if n >= 7 else 1 for n in size]
        stride = [int(self.pick(1, 2)) if n >= 6 else 1 for n in size]
        padding = [int(rng.integers(0, 3)) if n >= 3 else 0 for n in size]
        factor = int(self.pick(3000, 50000)) if self.extreme else 1
        threshold = (
            rng.integers(60, 300, channels) if rng.random() < 0.3 else np.asarray(int(rng.integers(60, 300)))
        )
        bias = rng.integers(-60 * self.unit, 60 * self.unit, channels).clip(-32000, 32000)
        if self.extreme:
            bias = rng.integers(-40000, 40000, channels)
        self.neurons(
            LayerStage(
                name,
                "conv",
                self.shape,
                rng.integers(-80 * factor, 110 * factor, (channels, depth // groups, *kernel)),
                bias,
                np.minimum(threshold * self.unit * factor, THRESHOLD_MAX),
                stride=(stride[0], stride[1]),
                padding=(padding[0], padding[1]),
                dilation=(dilation[0], dilation[1]),
                groups=groups,
                **self.decays(),
            )
        )

    def pool(self, name):
        kernel = self.pick((2, 2), (3, 2), (2, 3), (3, 3))
        stride = (int(self.pick(1, 2)), int(self.pick(2, 2, 1)))
        self.add(or_pool(name, self.shape, kernel, stride, (int(self.pick(0, 1)), int(self.pick(0, 1)))))

    def gate(self, name, kind):
        rng, channels = self.rng, self.shape[0]
        tla = rng.integers(-900, 1400, (channels, channels, int(rng.integers(1, 5))))
        cla = rng.integers(-900, 1400, (self.frames, self.frames, int(rng.integers(1, 5))))
        pool = None
        if min(self.shape[1:]) >= 4:
            pool = SpatialPool(self.pick("max", "sum"), self.pick((2, 2), (3, 2)), (2, 2))
        one = 1 << int(rng.integers(3, 7))
        gate = GateStage(
            name,
            self.shape,
            self.frames,
            None if kind == "cla" else tla,
            None if kind == "tla" else cla,
            "add" if kind == "add" else "multiply",
            10,
            6,
            sigmoid_table(one, 6),
            one,
            pool,
        )
        self.add(gate, gate.unit)

    def dense(self, name, outputs):
        rng, size = self.rng, int(np.prod(self.shape))
        most = 30000 if self.extreme else 60
        bias = rng.integers(-most * self.unit, most * self.unit, outputs).clip(-32000, 32000)
        threshold = np.asarray(min(int(rng.integers(100, 500)) * self.unit, THRESHOLD_MAX))
        weight = rng.integers(*self.pick((-120, 128), (-256, 255), (0, 256)), (outputs, size))
        self.neurons(LayerStage(name, "dense", self.shape, weight, bias, threshold, **self.decays()))


def random_network(
    seed: int,
    *,
    gates: int = 0,
    kind: str = "both",
    binary: bool = True,
    extreme: bool = False,
    frames: int = 8,
) -> IntegerNetwork:
    """Convolutions (kernels, strides, padding, dilation, groups), OR pools, gates and dense layers at random.

    `extreme` chooses weights, biases and decays that make currents wrap (at 24 bits and at 2**17) and voltages saturate.
    """
    rng = np.random.default_rng(seed)
    height, width = (int(rng.integers(11, 15)) + 8 * gates for _ in range(2))
    host = HostInput((2, height, width), binary, 1 if binary else 9)
    chain = Chain(rng, frames_of(host, frames, 2, rng), extreme=extreme)
    for index in range(1 + gates):
        chain.conv(f"conv{index}")
        if rng.random() < 0.5 and min(chain.shape[1:]) >= 4:
            chain.pool(f"pool{index}")
        if index < gates:
            chain.gate(f"gate{index}", kind)
    chain.dense("hidden", 7)
    chain.dense("out", 6)
    readout = Readout(vote=2, time_mean=True)
    return IntegerNetwork(f"random{seed}", frames, host, tuple(chain.stages), readout)


def random_dense_network(seed: int, *, payload: int, frames: int = 8) -> IntegerNetwork:
    """Two dense layers for signed integers; with payloads of some thousands, currents wrap and voltages saturate."""
    rng = np.random.default_rng(seed)
    host = HostInput((6,), False, payload)
    chain = Chain(rng, frames_of(host, frames, 2, rng), extreme=True)
    chain.dense("hidden", 9)
    chain.dense("out", 6)
    return IntegerNetwork(f"dense{seed}", frames, host, tuple(chain.stages), Readout())


def frames_of(host: HostInput, frames: int, samples: int, rng, *, signed: bool = False) -> np.ndarray:
    shape = (frames, samples, *host.shape)
    spikes = (rng.random(shape) < 0.25).astype(np.int64)
    if host.binary:
        return spikes
    low = -host.peak if signed else 1
    return spikes * rng.integers(low, host.peak + 1, shape)


def random_frames(
    network: IntegerNetwork, samples: int, seed: int = 0, *, signed: bool = False
) -> np.ndarray:
    """Frames [T, N, ...] of which a quarter is not zero; `signed` for payloads of both signs."""
    rng = np.random.default_rng(seed)
    return frames_of(network.host_input, network.frames, samples, rng, signed=signed)
