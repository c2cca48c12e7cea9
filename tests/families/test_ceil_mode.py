"""Pooling with `ceil_mode`: accepted where it changes nothing, refused where it would."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tcja_deploy.errors import TraceError
from tcja_deploy.frontend.trace import trace
from tcja_deploy.runtime.sequence import run

layer = pytest.importorskip("spikingjelly.activation_based.layer")


@pytest.mark.parametrize("pool", [nn.AvgPool2d, nn.MaxPool2d])
@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"), [(8, 2, 2, 0), (7, 2, 2, 0), (9, 3, 2, 0), (6, 3, 2, 1)]
)
def test_ceil_mode(pool: type[nn.Module], side: int, kernel: int, stride: int, padding: int) -> None:
    net = layer.SeqToANNContainer(pool(kernel, stride, padding, ceil_mode=True)).eval()
    plain = layer.SeqToANNContainer(pool(kernel, stride, padding)).eval()
    x = torch.rand(2, 3, 1, side, side)
    if net(x).shape != plain(x).shape:
        with pytest.raises(TraceError, match="incomplete windows"):
            trace(net, timesteps=2, input_shape=(1, side, side))
    else:
        assert torch.equal(run(trace(net, timesteps=2, input_shape=(1, side, side)), x), net(x))
