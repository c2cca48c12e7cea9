"""Our Lava processes in Lava's own simulation, value for value against the integers that the twin computes."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tcja_deploy.exporters.lava.bundle import copy_runner
from tcja_deploy.runtime.integers.stage_arithmetic import (
    NeuronParameters,
    RelayParameters,
    neuron_step,
    relay_step,
)
from tcja_deploy.runtime.integers.window.program import Program

WINDOWS = 3
SCALES = [(1, 0), (-3, 2), (77, 5), (1 << 16, 16), (40001, 16)]


def channels(value):
    """What belongs to channels, against frames [C, H, W]."""
    return np.asarray(value, np.int64).reshape(-1, 1, 1) if np.ndim(value) else np.asarray(value, np.int64)


def relayed(frames, T, parameters):
    p = RelayParameters(**parameters)._replace(bias=channels(parameters["bias"]))
    v, out = np.zeros(frames.shape[1:], np.int64), []
    for f, x in enumerate(frames):
        v, _ = relay_step(p, x, v if f % T else np.zeros_like(v))
        out.append(v)
    return np.stack(out)


def fired(frames, T, parameters):
    p = NeuronParameters(**parameters)
    p = p._replace(bias=channels(p.bias), threshold=channels(p.threshold))
    u = v = np.zeros(frames.shape[1:], np.int64)
    out = []
    for f, x in enumerate(frames):
        zero = np.zeros_like(v)
        s, u, v, _ = neuron_step(p, x, *((u, v) if f % T else (zero, zero)))
        out.append(s)
    return np.stack(out).astype(np.int64)


def job(seed, wide):
    """Frames, T and cases with what they have to send."""
    rng = np.random.default_rng(seed)
    T = int(rng.integers(2, 6))
    C, H, W = (int(n) for n in rng.integers(2, 6, 3))
    most = 1 << (20 if wide else 9)
    frames = rng.integers(-most, most, (WINDOWS * T, C, H, W)) * (rng.random((WINDOWS * T, C, H, W)) < 0.6)
    reach = min(most, (1 << 17) - 1)  # of thresholds: the voltage saturates beyond
    cases, wanted = [], []

    def add(kind, settings, value, latency=0, times=1):
        delay = int(rng.integers(0, 2 * T))
        cases.append({"kind": kind, "settings": settings, "delay": delay, "latency": latency, "times": times})
        wanted.append(value)

    def relay(**chosen):
        parameters = {
            "bias": rng.integers(-most, most, C),
            **dict(zip(("multiplier", "shift"), SCALES[int(rng.integers(len(SCALES)))], strict=True)),
            "most": int(rng.choice([(1 << 23) - 1, most])),
        }
        return {**parameters, **chosen}

    def neuron(**chosen):
        parameters = {
            "bias": rng.integers(-reach // 4, reach // 4, C),
            "threshold": rng.integers(0, reach, C) if rng.random() < 0.5 else np.asarray(reach // 2),
            "v_decay": int(rng.choice([0, 1024, 2048, 4096])),
            "i_decay": int(rng.choice([4096, 4096, 1500, 0] if not wide else [4096])),
        }
        return {**parameters, **chosen}

    for _ in range(3):
        p, k = relay(), int(rng.integers(0, 2 * T))
        add("relay", {"parameters": p, "delay": k}, relayed(frames, T, p), latency=k)
    p = relay(multiplier=1, shift=0)
    add("relay", {"parameters": p}, relayed(2 * frames, T, p), times=2)
    for decay in (2048, 0, int(rng.integers(1, 4096))):
        p = relay(decay=decay)
        add("relay", {"parameters": p}, relayed(frames, T, p))
    for chosen in (
        {"drop": int(rng.integers(1, 64 * reach))}, {"drop": 64 * reach // 3 + 1, "threshold": np.asarray(reach // 3)},
        {"reset_value": int(rng.integers(-reach, reach))}, {},
    ):  # fmt: skip
        p = neuron(**chosen)
        add("neuron", {"parameters": p}, fired(frames, T, p))
    p = neuron(bias=rng.integers(-999, 999, C))
    whole = {"bias_mant": np.zeros((W, H, C), np.int32) + p["bias"], "vth": p["threshold"]}
    add("stock", {**whole, "du": p["i_decay"] - 1, "dv": p["v_decay"]}, fired(frames, T, p))
    add("transposed", *transposed(rng, frames, T, C, H, W), latency=1)
    add(*program(rng, frames, T), latency=T - 1, times=2)
    add(*framewise(frames), latency=0)
    return frames, T, cases, wanted


def transposed(rng, frames, T, C, H, W):
    """Settings of grid and convolution; the oracle is PyTorch, wrapped as Lava's convolution is."""
    kernel = int(rng.integers(2, 5))
    stride, padding, output_padding = int(rng.integers(1, 4)), int(rng.integers(0, kernel)), 0
    output_padding = int(rng.integers(0, stride)) if (H - 1) * stride > 2 * padding < (W - 1) * stride else 0
    if min(H, W) * stride <= 2 * padding:
        padding = 0
    weight = rng.integers(-20, 21, (C, 3, kernel, kernel))
    exact = functional.conv_transpose2d(
        torch.as_tensor(frames, dtype=torch.float64), torch.as_tensor(weight, dtype=torch.float64),
        stride=stride, padding=padding, output_padding=output_padding,
    )  # fmt: skip
    grid = tuple((n - 1) * stride + 1 + output_padding for n in (W, H))
    flipped = weight[:, :, ::-1, ::-1].swapaxes(0, 1)  # [O, C, kH, kW] of the convolution
    most = {"bias": np.zeros(C, np.int64)}
    relay = {"parameters": most, "stride": (stride, stride), "out_shape": (*grid, C)}
    conv = {
        "weight": np.ascontiguousarray(flipped[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)).astype(np.int32),
        "padding": (kernel - 1 - padding,) * 2,
    }
    return (relay, conv), (exact.long().numpy() + (1 << 23)) % (1 << 24) - (1 << 23)  # 24 bits


def program(rng, frames, T):
    """A gate of two inputs, a signed stream and itself."""
    C, H, W = frames.shape[1:]
    most = int(np.abs(frames).max())
    shape = [T, C, H, W]
    arrays = {
        "w": rng.integers(-9, 10, (C, C, 2)), "b": np.zeros(C, np.int64),
        "t": np.sort(rng.integers(0, 65, 64)),
    }  # fmt: skip
    steps = [
        {"op": "sum", "inputs": [0], "axes": [2, 3]},
        {"op": "reshape", "inputs": [2], "dims": [T, C]},
        {"op": "permute", "inputs": [3], "order": [1, 0]},
        {"op": "convolve", "inputs": [4], "weight": "w", "bias": "b", "stride": [1], "before": [0], "after": [1],
         "dilation": [1], "groups": 1},
        {"op": "rescale", "inputs": [5], "factor": 1, "shift": 12},
        {"op": "table", "inputs": [6], "values": "t", "first": -32},
        {"op": "permute", "inputs": [7], "order": [1, 0]},
        {"op": "reshape", "inputs": [8], "dims": [T, C, 1, 1]},
        {"op": "multiply", "inputs": [1, 9]},
        {"op": "rescale", "inputs": [10], "factor": 1, "shift": 6},
        {"op": "max_pool", "inputs": [11], "kernel": [2, 1], "stride": [2, 1], "padding": [0, 0]},
    ]  # fmt: skip
    inputs = [{"shape": shape, "low": -most, "high": most}] * 2
    made = Program({"inputs": inputs, "steps": steps}, arrays)
    windows = frames.reshape(WINDOWS, *shape)
    settings = {
        "in_shapes": [(W, H, C)] * 2, "out_shape": (W, H // 2, C), "description": made.description, "arrays": arrays,
    }  # fmt: skip
    return "program", settings, made.run(windows, windows).reshape(-1, C, H // 2, W)


def framewise(frames):
    """A program of one frame: it answers in the same step. Largest values of a signed stream, and a ReLU."""
    C, H, W = frames.shape[1:]
    most = int(np.abs(frames).max())
    steps = [
        {"op": "max_pool", "inputs": [0], "kernel": [1, 2], "stride": [1, 1], "padding": [0, 1]},
        {"op": "clip", "inputs": [1], "low": 0, "high": most},
    ]
    made = Program({"inputs": [{"shape": [1, C, H, W], "low": -most, "high": most}], "steps": steps}, {})
    settings = {
        "in_shapes": [(W, H, C)],
        "out_shape": (W + 1, H, C),
        "description": made.description,
        "arrays": {},
    }
    return "program", settings, made.run(frames[:, None])[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_every_process_computes_what_the_twin_does(seed, tmp_path, lava_python):
    """Relays (bias, factor, shift, leak, delay, two inputs), neurons (soft reset, reset value, Lava's own), grids, programs."""
    copy_runner(tmp_path / "runner")
    frames, T, cases, wanted = job(seed, wide=seed % 2 == 1)
    (tmp_path / "job.pkl").write_bytes(pickle.dumps((frames, T, cases)))
    script = Path(__file__).with_name("process_run.py")
    ran = subprocess.run(
        [lava_python, script, tmp_path / "runner", tmp_path], capture_output=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()[-3000:]
    for k, (case, want) in enumerate(zip(cases, wanted, strict=True)):
        got = np.load(tmp_path / f"{k}.npy")
        assert got.shape == want.shape, case
        assert int((got != want).sum()) == 0, (case, k)
        assert np.count_nonzero(want), case
