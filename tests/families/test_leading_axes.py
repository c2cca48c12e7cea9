"""Layers over values with more leading axes than samples and time, such as one map a place: sequence, ONNX, counting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

import tcja_deploy as td
from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run

T, N = 3, 2
RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def stats(channels: int) -> list[np.ndarray]:
    return [
        weights(channels),
        weights(channels),
        weights(channels),
        1 + RNG.random(channels).astype(np.float32),
    ]


CASES: dict[str, tuple[Op, bool]] = {
    "maps of places": (ir.Conv2d(weights(2, 1, 3, 3), weights(2), padding=(1, 1, 1, 1)), False),
    "rows of places": (ir.Conv1d(weights(4, 5, 3), padding=(1, 1)), False),
    "norm of places": (ir.BatchNorm2d(*stats(1)), False),
    "pool of places": (ir.MaxPool2d((2, 2), (2, 2)), False),
    "rows of frames": (ir.Conv1d(weights(4, 4, 3), padding=(1, 1)), True),
    "norm of rows": (ir.BatchNorm1d(*stats(6)), True),
}


def graph_of(op: Op, streams: bool) -> Graph:
    """The op on `[T, N, 5, 4, 6]`, or on `[N, 5, T, 1, 4, 6]`."""
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((5, 4, 6), Kind.REAL))
    if not streams:
        x = b.add("permute", ir.Permute((1, 2, 0, 3, 4)), x)
        dims: tuple[int | str, ...] = ("N", 5, "T", 1, 4, 6)
        if isinstance(op, ir.Conv1d):
            x = b.add("permute_2", ir.Permute((0, 2, 3, 1, 4)), x)
            dims = ("N", "T", 4, 5, 6)
        named = tuple(i for i, d in enumerate(b.signal(x).dims) if isinstance(d, str))
        x = b.add("places", ir.Reshape(dims, named), x)  # type: ignore[arg-type]
    return b.finish(b.add("op", op, x))


@pytest.mark.parametrize("case", CASES)
def test_onnx_equals_the_sequence_run(case: str, tmp_path: Path) -> None:
    graph = graph_of(*CASES[case])
    frames = weights(T, N, *graph.input_shape)
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    (y,) = session.run(None, {"input": frames})
    expected = run(graph, frames).numpy()
    assert y.shape == expected.shape
    np.testing.assert_allclose(
        y, expected, rtol=1e-5, atol=1e-6
    )  # float32 sums of at most 15 terms in another order


def test_a_convolution_of_places_is_one_of_samples() -> None:
    op, _ = CASES["maps of places"]
    assert isinstance(op, ir.Conv2d)
    graph = graph_of(op, False)
    frames = torch.from_numpy(weights(T, N, *graph.input_shape))
    rows = frames.permute(1, 2, 0, 3, 4).reshape(-1, 1, 4, 6)
    expected = F.conv2d(rows, torch.from_numpy(op.weight), torch.from_numpy(op.bias), padding=1)  # type: ignore[arg-type]
    assert torch.equal(run(graph, frames), expected.reshape(N, 5, T, 2, 4, 6))
    (layer,) = take_inventory(graph).layers
    # 16 of 24 positions keep nine taps, borders fewer: (4 + 4 + 4 - 2) (6 + 6 + 6 - 2) taps a map, for each output channel
    assert layer.macs.border_aware_per_inference == 5 * T * 2 * 10 * 16
    assert layer.macs.dense_per_inference == 5 * T * 2 * 4 * 6 * 9
