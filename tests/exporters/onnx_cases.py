"""Graphs around single ops, and running ONNX models, for the tests of the ONNX export."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from op_samples import Sample

from tcja_deploy import zoo
from tcja_deploy.ir import Dim, Graph, GraphBuilder
from tcja_deploy.ir import ops as ir

__all__ = ["checked", "frames_of", "graph_of", "run_model", "session", "small"]

Array = NDArray[np.float32]


def graph_of(sample: Sample) -> Graph:
    """A network that computes one op on operands of the sample's shapes, all cut out of one flat input.

    Cutting is exact: products with 0 and 1, moves of axes, and for operands without time the largest value over equal steps.
    """
    b = GraphBuilder(sample.T)
    sizes = [math.prod(s.features) for s in sample.signals]
    x = b.add("input", ir.Input((sum(sizes),)))
    operands, first = [], 0
    for i, (signal, size) in enumerate(zip(sample.signals, sizes, strict=True)):
        select = np.zeros((size, sum(sizes)), np.float32)
        select[range(size), range(first, first + size)] = 1
        first += size
        y = b.add(f"operand{i}.cut", ir.Linear(select), x)
        base: tuple[Dim, ...] = ("T", "N", *signal.features)
        y = b.add(f"operand{i}.shape", ir.Reshape(base, (0, 1)), y)
        if "T" not in signal.dims:
            y, base = b.add(f"operand{i}.once", ir.Reduce("max", (0,)), y), base[1:]
        ints = iter(i for i, d in enumerate(base) if not isinstance(d, str))
        order = tuple(base.index(d) if isinstance(d, str) else next(ints) for d in signal.dims)
        operands.append(b.add(f"operand{i}", ir.Permute(order), y))
    return b.finish(b.add("result", sample.op, *operands))


def frames_of(sample: Sample) -> Array:
    """The flat input `[T, N, F]` that carries the sample's operands."""
    parts = []
    for signal, x in zip(sample.signals, sample.x, strict=True):
        named = [signal.dims.index(d) for d in ("T", "N") if d in signal.dims]
        rest = [i for i in range(len(signal.dims)) if i not in named]
        flat = x.transpose(*named, *rest).reshape(*(x.shape[i] for i in named), -1)
        parts.append(flat if "T" in signal.dims else np.broadcast_to(flat, (sample.T, *flat.shape)))
    return np.ascontiguousarray(np.concatenate(parts, -1), np.float32)


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, after ONNX's own checker and strict shape inference; both raise on any fault."""
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def session(model: Any) -> onnxruntime.InferenceSession:
    """onnxruntime on a model or file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_model(model: Any, frames: Array) -> Array:
    """First result of a model on frames."""
    running = session(model)
    result: Array = running.run(None, {running.get_inputs()[0].name: frames})[0]
    return result


def small(seed: int = 0) -> Graph:
    """A small network of the zoo, with attention."""
    return zoo.build("events34", channels=(6, 8, 8), T=5, hidden=24, seed=seed)
