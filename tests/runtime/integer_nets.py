"""Random integer networks for the tests of twin, bundle and Lava."""

from __future__ import annotations

import numpy as np

from tcja_deploy.runtime.integer import Gate, HostInput, IntegerNetwork, Layer, Readout, SpatialPool, or_pool


def sigmoid_table(one: int, index_bits: int) -> np.ndarray:
    half = 8 << index_bits
    return np.floor(one / (1 + np.exp(-np.arange(-half, half) / (1 << index_bits))) + 0.5).astype(np.int64)


def random_gate(rng, name, shape, frames, kind, pool=None) -> Gate:
    channels = shape[0]
    tla = rng.integers(-900, 1400, (channels, channels, int(rng.integers(1, 5)))) if kind != "cla" else None
    cla = rng.integers(-900, 1400, (frames, frames, int(rng.integers(1, 5)))) if kind != "tla" else None
    fusion = "add" if kind == "add" else "multiply"
    one = 1 << int(rng.integers(3, 7))
    return Gate(name, shape, frames, tla, cla, fusion, 10, 6, sigmoid_table(one, 6), one, pool)


def random_network(
    seed: int,
    *,
    gates: int = 0,
    kind: str = "both",
    binary: bool = True,
    extreme: bool = False,
    frames: int = 8,
) -> IntegerNetwork:
    """Convolutions (odd kernels, strides, padding, dilation, groups), OR pools, gates and dense layers at
    random.

    `extreme` chooses weights, biases and decays that make currents wrap and voltages saturate.
    """
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (2, int(rng.integers(9, 14)) + 8 * gates, int(rng.integers(9, 14)) + 8 * gates)
    peak = 1 if binary else 9
    host = HostInput(shape, binary, peak)
    stages: list[Layer | Gate] = []
    factor = 3000 if extreme else 1

    def decays():
        return {
            "v_decay": int(rng.choice([2048, 2048, 4096, 1024, 123, 0])),
            "i_decay": int(rng.choice([4096, 4096, 1024, 0, 3001])),
        }

    def conv(index, unit):
        wide = min(shape[1:]) >= 5
        groups = int(rng.choice([1, 2]))
        channels = int(rng.choice([4, 6]))
        kernel = [(3, 3), (3, 2), (2, 3), (1, 1)][int(rng.integers(4)) if wide else 3]
        threshold = (
            rng.integers(60, 300, channels) if rng.random() < 0.3 else np.asarray(int(rng.integers(60, 300)))
        )
        return Layer(
            f"conv{index}",
            "conv",
            shape,
            rng.integers(-80 * factor, 110 * factor, (channels, shape[0] // groups, *kernel)),
            rng.integers(-60 * unit, 120 * unit, channels)
            if not extreme
            else rng.integers(-40000, 40000, channels),
            np.minimum(threshold * unit * factor, 131071),
            stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            padding=(int(rng.integers(0, 2)), int(rng.integers(0, 2))),
            dilation=(int(rng.integers(1, 3)) if wide else 1, 1),
            groups=groups,
            **decays(),
        )

    unit = peak
    for index in range(1 + gates):
        stages.append(conv(index, unit))
        shape, unit = stages[-1].out_shape, 1
        if rng.random() < 0.5 and min(shape[1:]) >= 3:
            stages.append(or_pool(f"pool{index}", shape, (2, 2), (2, 2), (0, int(rng.integers(0, 2)))))
            shape = stages[-1].out_shape
        if index < gates:
            pool = None
            if min(shape[1:]) >= 4:
                pool = SpatialPool("max" if rng.random() < 0.5 else "sum", (2, 2), (2, 2))
            stages.append(random_gate(rng, f"gate{index}", shape, frames, kind, pool))
            shape, unit = stages[-1].out_shape, stages[-1].unit
    size = int(np.prod(shape))
    hidden = Layer(
        "hidden",
        "dense",
        shape,
        rng.integers(-120, 128, (7, size)),
        rng.integers(-60 * unit, 200 * unit, 7).clip(-32000, 32000),
        np.asarray(min(int(rng.integers(100, 500)) * unit, 131071)),
        **decays(),
    )
    last = Layer(
        "out",
        "dense",
        (7,),
        rng.integers(-250, 254, (6, 7)),
        rng.integers(-60, 200, 6),
        np.asarray(150),
        **decays(),
    )
    return IntegerNetwork(
        f"random{seed}", frames, host, (*stages, hidden, last), Readout(vote=2, time_mean=True)
    )


def random_frames(network: IntegerNetwork, samples: int, seed: int = 0, rate: float = 0.25) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (network.frames, samples, *network.host_input.shape)
    spikes = (rng.random(shape) < rate).astype(np.int64)
    return (
        spikes if network.host_input.binary else spikes * rng.integers(1, network.host_input.peak + 1, shape)
    )
