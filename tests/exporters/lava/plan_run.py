"""Runs the float stages of a plan in float64, to compare them with the graph they came from."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from tcja_deploy.exporters.lava.float_network import FloatGate, FloatLayer, FloatNetwork
from tcja_deploy.runtime.integers.network import HostInput


def host(about: HostInput, frames):
    payload = frames.astype(np.float64) * about.scale
    if about.rows is not None:
        payload = about.rows @ payload @ about.columns.T
    return payload / about.unit


def pool(payload, about):
    if about is None:
        return payload
    flat = torch.as_tensor(payload).flatten(0, 1)
    kernel = functional.max_pool2d if about.kind == "max" else functional.avg_pool2d
    out = kernel(flat, about.kernel, about.stride)
    return out.reshape(*payload.shape[:2], *out.shape[1:]).numpy()


def run_plan(plan: FloatNetwork, frames):
    """Values [T, N, ...] of every stage, and the result of the readout."""
    x = host(plan.host_input, frames)
    values = {}
    for stage in plan.stages:
        steps, samples = x.shape[:2]
        if isinstance(stage, FloatGate):
            area = np.prod(x.shape[3:])
            gate = stage.op.gate((x.sum((3, 4)) / area).astype(np.float32))
            x = pool(x * gate[..., None, None], stage.pool)
        else:
            weight = torch.as_tensor(stage.weight, dtype=torch.float64)
            flat = torch.as_tensor(x.reshape(steps * samples, *x.shape[2:]))
            if weight.ndim == 2:
                a = functional.linear(flat.flatten(1), weight)
            else:
                a = functional.conv2d(
                    flat, weight, None, stage.stride, stage.padding, stage.dilation, stage.groups
                )
            a = a.numpy().reshape(steps, samples, *a.shape[1:])
            bias = np.asarray(stage.bias, np.float64).reshape(-1, *(1,) * (a.ndim - 3))
            keep, threshold, strict = 0.0, np.asarray(0.0), True
            if isinstance(stage, FloatLayer):
                keep, threshold, strict = 1 - stage.neuron.leak, np.asarray(1.0), stage.neuron.strict
            v = np.zeros_like(a[0])
            x = np.zeros_like(a)
            for t in range(steps):
                v = keep * v + a[t] + bias
                x[t] = v > threshold if strict else v >= threshold
                v = np.where(x[t] > 0, 0.0, v)
        values[stage.name] = x
    return values, plan.readout(x, 1)
