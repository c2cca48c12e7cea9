"""Runs the float stages of a graph in float64, to compare them with the graph they came from."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from tcja_deploy.exporters.lava.float_graph import FloatGate, FloatGraph, FloatMeeting, FloatProgram
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import HostInput
from tcja_deploy.runtime.integers.stages import HOST, NeuronStage


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


def through(synapse, x):
    """A linear map of a window."""
    weight = torch.as_tensor(synapse.weight, dtype=torch.float64)
    flat = torch.as_tensor(x.reshape(-1, *x.shape[2:]), dtype=torch.float64)
    if weight.ndim == 2:
        a = functional.linear(flat.flatten(1), weight)
    elif synapse.kind == "transposed":
        a = functional.conv_transpose2d(
            flat,
            weight,
            None,
            synapse.stride,
            synapse.padding,
            synapse.output_padding,
            synapse.groups,
            synapse.dilation,
        )
    else:
        a = functional.conv2d(
            flat, weight, None, synapse.stride, synapse.padding, synapse.dilation, synapse.groups
        )
    return a.numpy().reshape(*x.shape[:2], *a.shape[1:])


def neurons(a, keep, threshold, strict, drop=0.0):
    """Spikes for currents."""
    v, spikes = np.zeros_like(a[0]), np.zeros_like(a)
    for t in range(len(a)):
        v = keep * v + a[t]
        spikes[t] = v > threshold if strict else v >= threshold
        v = v - drop * spikes[t] if drop else np.where(spikes[t] > 0, 0.0, v)
    return spikes


def meeting(stage, values):
    """A population or a relay."""
    total = 0.0
    for term in stage.terms:
        x = values[term.source].reshape(*values[term.source].shape[:2], *term.shape) * term.factor
        total = total + (x if term.synapse is None else through(term.synapse, x))
    total = (total + stage.bias.reshape(-1, *(1,) * (len(stage.shape) - 1))) * stage.gain
    if stage.neuron is not None:
        return neurons(total, 1 - stage.neuron.leak, 1.0, stage.neuron.strict, stage.neuron.drop)
    if stage.decay is None:
        return total
    sent = [total[0]]
    for a in total[1:]:
        sent.append((1 - stage.decay) * sent[-1] + a)
    return np.stack(sent)


def run_plan(plan: FloatGraph, frames, graph: Graph | None = None):
    """Values [T, N, ...] of every stage, and the result of the readout; programs are the ops of the graph."""
    values = {HOST: host(plan.host_input, frames)}
    for stage in plan.stages:
        if isinstance(stage, FloatMeeting):
            x = meeting(stage, values)
        elif isinstance(stage, FloatGate):
            spikes = values[stage.source]
            gate = stage.op.gate((spikes.sum((3, 4)) / np.prod(spikes.shape[3:])).astype(np.float32))
            x = pool(spikes * gate[..., None, None], stage.pool)
        elif isinstance(stage, FloatProgram):
            ops = {
                stage.region.source: values[stage.source]
                .reshape(*frames.shape[:2], *stage.shape)
                .astype(np.float32)
            }
            for node in (graph[name] for name in stage.region.nodes):
                ops[node.name] = node.op.apply(*(ops[i] for i in node.inputs))
            x = ops[stage.name].astype(np.float64)
        elif isinstance(stage, LayerStage):
            a = through(stage, values[stage.inputs[0]])
            x = neurons(a, 0.0, int(stage.threshold), True)
        elif isinstance(stage, NeuronStage):
            x = neurons(sum(values[name] for name in stage.inputs), 0.0, int(stage.threshold), True)
        else:
            x = stage.multiplier * values[stage.inputs[0]]
        values[stage.name] = x
    return values, plan.readout(values[plan.stages[-1].name], 1)
