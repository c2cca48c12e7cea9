"""What a core reads, against the gradient of its outputs in torch: an input that matters has one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from energy_nets import one_layer, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.energy.place.placement import place
from tcja_deploy.energy.place.receptive import field, synapses
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.ir import ops as ir

RNG = np.random.default_rng(3)


def ones_result(op: ir.Conv2d | ir.ConvTranspose2d, x: torch.Tensor) -> torch.Tensor:
    """torch's result with weights of one: what is connected has a gradient that is not zero."""
    w = torch.ones(op.weight.shape)
    how: dict[str, Any] = {"stride": op.stride, "dilation": op.dilation, "groups": op.groups}
    return F.conv2d(x, w, **how) if isinstance(op, ir.Conv2d) else F.conv_transpose2d(x, w, **how)


def most_connected(
    op: ir.Conv2d | ir.ConvTranspose2d, shape: tuple[int, int, int], tile: tuple[int, int, int]
) -> int:
    """The most input elements that a tile of outputs reads, of all places: equal slices of channels, any rows and columns."""
    channels, rows, columns = ones_result(op, torch.zeros(1, *shape))[0].shape
    s, h, w = tile
    places = list(itertools.product(range(0, channels, s), range(rows - h + 1), range(columns - w + 1)))
    x = torch.zeros(len(places), *shape, requires_grad=True)  # a sample for each place, one pass back for all
    results = ones_result(op, x)
    read = [
        result[c : c + s, r : r + h, k : k + w].sum()
        for result, (c, r, k) in zip(results, places, strict=True)
    ]
    (gradient,) = torch.autograd.grad(torch.stack(read).sum(), x)
    return int((gradient != 0).flatten(1).sum(1).max())


@settings(max_examples=40, deadline=None)
@given(
    st.booleans(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.sampled_from([(1, 2, 3), (3, 1, 1), (2, 1, 2)]),
    st.integers(1, 6), st.integers(1, 4), st.integers(1, 2),
)  # fmt: skip
def test_field_equals_the_gradient(transposed, kernel, stride, dilation, groups_io, s, h, w) -> None:
    groups, c, o = groups_io
    s = min(s, groups * o)
    kind, shape = (
        (ir.ConvTranspose2d, (groups * c, o, kernel, 2))
        if transposed
        else (ir.Conv2d, (groups * o, c, kernel, 2))
    )
    op = kind(np.ones(shape, np.float32), stride=(stride, 2), dilation=(dilation, 1), groups=groups)
    size = (groups * c, 14, 7)  # large enough for a tile without borders
    tiles = tuple(np.array([n], np.int64) for n in (s, h, w))
    assert field(op, size, tiles, groups * o).tolist() == [most_connected(op, size, (s, h, w))]


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (4, 2, 1), (3, 1, 1), (2, 3, 1), (3, 2, 2), (5, 4, 3)]
)
def test_synapses_of_a_transposed_convolution(kernel: int, stride: int, dilation: int) -> None:
    for groups in (1, 2):
        op = ir.ConvTranspose2d(
            np.ones((4, 3, kernel, kernel), np.float32), stride=(stride, stride), dilation=(dilation, dilation),
            groups=groups,
        )  # fmt: skip
        assert synapses(op) == int(ones_result(op, torch.ones(1, 4, 9, 9)).max())


def test_a_decoder_is_not_refused_for_inputs_that_no_core_reads() -> None:
    """32 x 16 x 16 inputs are 8,192, more than the 4,096 axons of a core; a tile reads few of them."""
    op = ir.ConvTranspose2d(weights(RNG, 32, 16, 3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1))
    fit = place(take_inventory(one_layer(op, (32, 16, 16))), load_profile("loihi1"))
    assert fit.violations == ()
    assert fit.cores == 16 * 32 * 32 // 1024


def test_a_strided_shortcut_reads_what_it_uses() -> None:
    """1x1 with stride 2: a tile of h x w outputs reads h x w positions, not the ones in between."""
    op = ir.Conv2d(np.ones((8, 4, 1, 1), np.float32), stride=(2, 2))
    tiles = tuple(np.array([n], np.int64) for n in (8, 5, 3))
    assert field(op, (4, 32, 32), tiles, 8).tolist() == [4 * 5 * 3]
