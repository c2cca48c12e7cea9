"""Every op of the IR by itself: as a stream, burst and paced, and as an ONNX step model it equals its window form.

The window form is the op's own rule in NumPy. Samples are numbers that float32 adds and multiplies without rounding, so
implementations that add up in another order have to agree to the last bit; samples that say otherwise get a tolerance.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_samples import MAKERS, Making, Sample, values

from tcja_deploy.exporters.onnx_step.model import step_model
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.stream import Stepper, initial, plan, run_by_frame

Array = np.ndarray


def shaped(b: GraphBuilder, x: str, signal: Signal, name: str) -> str:
    """A stream `[T, N, ...]` in the axes of a signal: without time the largest value of the window, then in its order."""
    order = {"T": 0, "N": 1}
    if "T" not in signal.dims:
        x, order = b.add(f"{name}.window", ir.Reduce("max", (0,)), x), {"N": 0}
    plain = iter(range(len(order), len(signal.dims)))
    axes = tuple(order[d] if isinstance(d, str) else next(plain) for d in signal.dims)
    return x if axes == tuple(sorted(axes)) else b.add(f"{name}.axes", ir.Permute(axes), x)


def graph_around(made: Sample) -> Graph:
    """The op in a network that makes its inputs out of frames; several inputs are parts of one frame."""
    b = GraphBuilder(made.T)
    if not made.signals:
        return b.finish(b.add("op", made.op))
    if len(made.signals) == 1:
        (signal,) = made.signals
        x = b.add("input", ir.Input(signal.features or (1,), signal.kind))
        if not signal.features:  # a frame of one number and no axes
            x = b.add("scalar", ir.Reshape(("T", "N"), (0, 1)), x)
        return b.finish(b.add("op", made.op, shaped(b, x, signal, "x")))
    sizes = [s.size for s in made.signals]
    whole, xs = b.add("input", ir.Input((sum(sizes),), Kind.REAL)), []
    for i, signal in enumerate(made.signals):
        part = np.eye(sum(sizes), dtype=np.float32)[sum(sizes[:i]) : sum(sizes[: i + 1])]
        x = b.add(f"part{i}", ir.Linear(part), whole)
        x = b.add(f"frame{i}", ir.Reshape(("T", "N", *signal.features), (0, 1)), x)
        xs.append(shaped(b, x, signal, f"x{i}"))
    return b.finish(b.add("op", made.op, *xs))


def window_form(graph: Graph, frames: Array) -> Array:
    """Every node's own rule over the whole window."""
    found: dict[str, Array] = {}
    for node in graph:
        found[node.name] = node.op.apply(*([found[name] for name in node.inputs] or [frames]))
    return found[graph.output]


def streamed(graph: Graph, frames: Array, schedule: str) -> Array:
    """Results of one window pushed frame by frame, behind another window that must leave no trace."""
    network = plan(graph, schedule=schedule)  # type: ignore[arg-type]
    stepper, results = Stepper(network, initial(network, frames.shape[1])), []
    for frame in (*frames[::-1], *frames, *(np.zeros_like(frames[0]),) * 4 * graph.T):
        results += [e.value.numpy() for e in stepper.push(frame) if e.window == 1]
    return np.stack(results) if network.streams else results[0]


def stepped(graph: Graph, frames: Array) -> Array:
    """The same by the step model in onnxruntime."""
    network = plan(graph, schedule="paced")
    step = step_model(network, opset=17, metadata={})
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(
        step.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [o.name for o in session.get_outputs()]
    states = {s.name: s.initial(frames.shape[1]) for s in step.states}
    results = []
    entry = session.get_inputs()[0].name
    for frame in (*frames[::-1], *frames, *(np.zeros_like(frames[0]),) * step.latency):
        found = dict(zip(names, session.run(None, {entry: frame, **states}), strict=True))
        states = {name: found[f"{name}.next"] for name in states}
        if found["valid"]:
            results.append(found["output"])
    return np.stack(results[graph.T : 2 * graph.T]) if network.streams else results[1]


@pytest.mark.parametrize("name", sorted(ir.OPS))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_stream_and_step_model_equal_the_window_form(name: str, data: st.DataObject) -> None:
    made = MAKERS[name](Making(data.draw))
    graph = graph_around(made)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    frames = values(rng, graph.input.signal.kind, (made.T, made.N, *graph.input_shape))
    expected = window_form(graph, frames)
    by_frame = run_by_frame(graph, frames).numpy()
    for schedule in ("burst", "paced"):
        found = streamed(graph, frames, schedule)
        assert np.array_equal(found, by_frame), schedule
        close(found, expected, made)
    close(stepped(graph, frames), expected, made)


def close(found: Array, expected: Array, made: Sample) -> None:
    """Equal; where the sample rounds, to a few units in the last place of numbers of the order of 10."""
    assert found.shape == expected.shape
    if made.exact:
        assert np.array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
