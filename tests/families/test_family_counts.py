"""Synaptic operations of every family, against convolutions of the spikes with ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from family_nets import FAMILIES, net
from targets import SAMPLES, Stored

from tcja_deploy.energy.measure import measure
from tcja_deploy.energy.report.rates import rates
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run


@pytest.mark.parametrize("key", FAMILIES)
def test_synaptic_operations(key: str) -> None:
    """Each output of a convolution with ones is the number of spikes that one output of the layer adds up."""
    made = net(key)
    frames = made.family.frames(SAMPLES, seed=5)
    counted = measure(made.graph, Stored(frames))
    values: dict[str, torch.Tensor] = {}
    run(made.graph, frames, observe=lambda node, value: values.__setitem__(node.name, value.clone()))
    layers = [layer for layer in counted.inventory.layers if layer.event_driven]
    assert layers
    for layer in layers:
        op, x = made.graph[layer.node].op, (values[layer.source] != 0).float()
        assert isinstance(op, ir.Conv2d | ir.ConvTranspose2d | ir.Linear)
        ones = torch.ones(op.weight.shape)
        if isinstance(op, ir.Linear):
            met = F.linear(x, ones)
        elif isinstance(op, ir.Conv2d):
            pads = (op.padding[1], op.padding[3], op.padding[0], op.padding[2])
            met = F.conv2d(F.pad(x.flatten(0, 1), pads), ones, None, op.stride, 0, op.dilation, op.groups)
        else:
            met = F.conv_transpose2d(
                x.flatten(0, 1), ones, None, op.stride, op.padding, op.output_padding, op.groups, op.dilation
            )
        total = int(met.double().sum())
        assert counted.synops(layer).total == total, layer.node
    found = {row.name: row.rate.mean for row in rates(counted).neurons}
    assert found == {n.name: pytest.approx(float(values[n.name].mean())) for n in made.graph.neurons}
