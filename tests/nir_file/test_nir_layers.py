"""Weights, shapes and pooling read from NIR: torch is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nir_graphs import DT, F, N, T, frames, full, graph_of, result, weights
from torch import nn

from tcja_deploy.ir import Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.runtime.sequence import run

nir = pytest.importorskip("nir", reason="the package nir is not installed")


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((3, 5), (1, 1), (0, 0), (1, 1), 1),
        ((5, 2), (2, 1), (2, 0), (1, 2), 1),
        ((3, 3), (1, 2), "same", (1, 1), 1),
        ((2, 4), (1, 1), "same", (1, 2), 1),
        ((3, 3), (1, 1), "valid", (1, 1), 1),
        ((3, 3), (1, 1), (1, 1), (1, 1), 2),
    ],
)
def test_conv2d(kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int, tmp_path: Path) -> None:
    if padding == "same":
        stride = (1, 1)
    w, b, x = weights(6, 4 // groups, *kernel), weights(6), frames(4, 9, 10)
    flat = torch.from_numpy(x).flatten(0, 1)
    conv = nn.functional.conv2d(
        flat, torch.from_numpy(w), torch.from_numpy(b), stride, padding, dilation, groups
    )
    expected = conv.unflatten(0, (T, N)).numpy()
    node = nir.Conv2d((9, 10), w, stride, padding, dilation, groups, b)
    graph = nir.NIRGraph(
        {
            "input": nir.Input(np.array([4, 9, 10])),
            "c": node,
            "output": nir.Output(np.array(expected.shape[2:])),
        },
        [("input", "c"), ("c", "output")],
        type_check=False,  # nir 1.0.8 takes the kernel's height for its width and forgets the groups
    )
    nir.write(tmp_path / "conv.nir", graph)
    for source in (graph, tmp_path / "conv.nir"):
        # Sums of 100 products in another order.
        assert np.abs(run(load_nir(source, T), x).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("padding", [0, 2, "same"])
def test_conv1d(padding: Any) -> None:
    w, b, x = weights(6, 4, 4), weights(6), frames(4, 9)
    expected = nn.functional.conv1d(
        torch.from_numpy(x).flatten(0, 1), torch.from_numpy(w), torch.from_numpy(b), 1, padding
    ).unflatten(0, (T, N))
    got = result(nir.Conv1d(9, w, 1, padding, 1, 1, b), x)
    assert np.abs(got - expected.numpy()).max() < 1e-5


def test_the_bias_of_affine_is_read(tmp_path: Path) -> None:
    """nirtorch 2.6 maps it to an attribute that nothing reads (`module.weight.bias`)."""
    w, b, x = weights(3, F), weights(3), frames()
    nir.write(tmp_path / "affine.nir", graph_of(nir.Affine(w, b)))
    expected = nn.functional.linear(torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b))
    assert np.abs(run(load_nir(tmp_path / "affine.nir", T), x).numpy() - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("kind", ["sum", "avg"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 2), (1, 1))]
)
def test_pooling(kind: str, kernel: Any, stride: Any, padding: Any) -> None:
    x = np.round(frames(3, 8, 8))
    make = nir.SumPool2d if kind == "sum" else nir.AvgPool2d
    expected = nn.functional.avg_pool2d(torch.from_numpy(x).flatten(0, 1), kernel, stride, padding)
    expected = expected * (kernel[0] * kernel[1] if kind == "sum" else 1)
    got = result(make(*map(np.array, (kernel, stride, padding))), x)
    # Means of whole numbers, multiplied back: one rounding each.
    assert np.abs(got - expected.unflatten(0, (T, N)).numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("scale", "kind"),
    [
        (np.full((3, 4, 4), 2.0), ir.Affine),
        (np.arange(1.0, 4).reshape(3, 1, 1) * np.ones((3, 4, 4)), ir.Conv2d),
        (np.arange(1.0, 6), ir.Linear),
    ],
)
def test_scale(scale: Any, kind: type) -> None:
    x = frames(*scale.shape)
    graph = load_nir(graph_of(nir.Scale(scale.astype(np.float32)), shape=scale.shape), T)
    assert isinstance(graph.nodes[1].op, kind)
    assert np.array_equal(run(graph, x).numpy(), x * scale.astype(np.float32))


@pytest.mark.parametrize(
    ("start", "end", "shape"), [(0, -1, (24,)), (-3, -1, (24,)), (1, 2, (2, 12)), (0, 1, (6, 4))]
)
def test_flatten(start: int, end: int, shape: tuple[int, ...]) -> None:
    x = frames(2, 3, 4)
    got = result(nir.Flatten(np.array([2, 3, 4]), start, end), x)
    assert np.array_equal(got, x.reshape(T, N, *shape))


def test_sums_of_spikes_that_neurons_forget_are_max_pooling() -> None:
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    neurons = nir.IF(full(1 / DT, 3, 2, 2), full(0.5, 3, 2, 2), full(0.0, 3, 2, 2))
    graph = load_nir(graph_of(pool, neurons, shape=(3, 4, 4)), T, dt=DT, input_kind=Kind.BINARY)
    assert [type(n.op).__name__ for n in graph] == ["Input", "MaxPool2d"]
    x = (frames(3, 4, 4) > 1.5).astype(np.float32)
    expected = nn.functional.max_pool2d(torch.from_numpy(x).flatten(0, 1), 2).unflatten(0, (T, N)).numpy()
    assert np.array_equal(run(graph, x).numpy(), expected)
    for r, threshold in ((0.4 / DT, 0.5), (1 / DT, 1.5)):  # these hold a single spike
        neurons = nir.IF(full(r, 3, 2, 2), full(threshold, 3, 2, 2), full(0.0, 3, 2, 2))
        graph = load_nir(graph_of(pool, neurons, shape=(3, 4, 4)), T, dt=DT, input_kind=Kind.BINARY)
        assert isinstance(graph.nodes[-1].op, ir.IF)
