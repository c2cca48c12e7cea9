"""A second, slow implementation of the integer network: plain int64 loops straight from the equations."""

from __future__ import annotations

import numpy as np

from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork

M = 1 << 23


def wrap24(x):
    return (x + M) % (2 * M) - M


def decay(s, d):
    product = s * (4096 - d)
    return np.sign(product) * (np.abs(product) >> 12)


def convolve(x, layer: LayerStage):
    channels, height, width = x.shape
    top, left = layer.padding
    padded = np.zeros((channels, height + 2 * top, width + 2 * left), np.int64)
    padded[:, top : top + height, left : left + width] = x
    out = np.zeros(layer.out_shape, np.int64)
    per_out, per_in = out.shape[0] // layer.groups, layer.weight.shape[1]
    for o, i, j in np.ndindex(out.shape):
        first = (o // per_out) * per_in
        for r, c in np.ndindex(layer.weight.shape[2:]):
            row, column = (
                i * layer.stride[0] + r * layer.dilation[0],
                j * layer.stride[1] + c * layer.dilation[1],
            )
            out[o, i, j] += int(layer.weight[o, :, r, c] @ padded[first : first + per_in, row, column])
    return out


def run_layer(layer: LayerStage, frames):
    spatial = layer.kind != "dense"

    def column(values):
        values = np.asarray(values, np.int64)
        return values.reshape(-1, 1, 1) if spatial and values.ndim else values

    bias = column(layer.bias.astype(np.int16)) * 64
    threshold = column(layer.threshold) * 64
    u, v = np.zeros(layer.out_shape, np.int64), np.zeros(layer.out_shape, np.int64)
    spikes, wraps, saturations = [], 0, 0
    for frame in frames:
        whole = convolve(frame, layer) if spatial else layer.weight @ frame.reshape(-1)
        a = wrap24(whole) if spatial else whole
        u = decay(u, layer.i_decay) + 64 * a
        wraps += int(((u > M) | (u <= -M) | (a != whole)).sum())
        u = np.where(u > M, u - 2 * M, np.where(u <= -M, u + 2 * M, u))
        v = decay(v, layer.v_decay) + u + bias
        saturations += int(((v >= M) | (v <= -M)).sum())
        v = np.clip(v, -M + 1, M - 1)
        fired = v > threshold
        v[fired] = 0
        spikes.append(fired.astype(np.int64))
    return np.stack(spikes), wraps, saturations


def same(x, weight):
    """x (I, L), weight (O, I, K): a PyTorch 'same' convolution, written index by index."""
    kernel, left = weight.shape[2], (weight.shape[2] - 1) // 2
    out = np.zeros((weight.shape[0], x.shape[1]), object)
    for position in range(x.shape[1]):
        for tap in range(kernel):
            if 0 <= position + tap - left < x.shape[1]:
                out[:, position] += weight[:, :, tap].astype(object) @ x[:, position + tap - left].astype(
                    object
                )
    return out


def run_gate(gate: GateStage, frames):
    counts = frames.sum((2, 3))  # [T, C]
    area = gate.in_shape[1] * gate.in_shape[2]
    temporal = same(counts.T, gate.tla).T if gate.tla is not None else None
    channelwise = same(counts, gate.cla) if gate.cla is not None else None
    scale = area << gate.fraction
    if temporal is None or channelwise is None:
        z = channelwise if temporal is None else temporal
    elif gate.fusion == "multiply":
        z, scale = temporal * channelwise, scale**2
    else:
        z = temporal + channelwise
    step = scale >> gate.index_bits
    half = gate.table.size // 2
    values = np.vectorize(lambda q: gate.table[min(max((q + step // 2) // step, -half), half - 1) + half])(z)
    gated = frames * values[:, :, None, None].astype(np.int64)
    if gate.pool is None:
        return gated
    rows, columns = gate.out_shape[1:]
    (kh, kw), (sh, sw) = gate.pool.kernel, gate.pool.stride
    merge = np.max if gate.pool.kind == "max" else np.sum
    out = np.zeros((len(frames), *gate.out_shape), np.int64)
    for i, j in np.ndindex(rows, columns):
        out[:, :, i, j] = merge(gated[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw], (2, 3))
    return out


def run_slow(network: IntegerNetwork, payload):
    """payload [T, ...] of one sample -> {stage: [T, ...]}, {stage: (wraps, saturations)}."""
    outputs, events = {}, {}
    x = payload
    for stage in network.stages:
        if isinstance(stage, LayerStage):
            x, wraps, saturations = run_layer(stage, x)
            events[stage.name] = wraps, saturations
        else:
            x = run_gate(stage, x)
        outputs[stage.name] = x
    return outputs, events
