"""Every op in onnxruntime against the sequence runtime, in every opset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx_cases import checked, frames_of, graph_of, run_model, session
from op_samples import MAKERS, Sample, any_sample, samples

from tcja_deploy.errors import UsageError
from tcja_deploy.ir import GraphBuilder
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.onnx.emitter import OPSETS
from tcja_deploy.runtime.onnx.sequence import sequence_model
from tcja_deploy.runtime.sequence import run

ROUNDING = 2.0**-23
"""One unit in the last place of numbers around 1."""

TOLERANCE = {
    # onnxruntime's logistic function is an approximation; measured over [-20, 20] its error is below 1.5 units in the last
    # place of 1 (see test_logistic_function), torch's below 1. A gate is the sigmoid of sums that round differently as well:
    # up to 24 terms of at most 2 x 1, whose slope through the sigmoid is at most 1/4.
    "Sigmoid": 3 * ROUNDING,
    "TCJA": 2 * (3 + 24 * 24 / 4) * ROUNDING,
    # Two divisions in a row against one; values up to 5.
    "AdaptiveAvgPool2d": 5 * 3 * ROUNDING,
}


def check(sample: Sample, opset: int) -> None:
    graph, frames = graph_of(sample), frames_of(sample)
    model = checked(sequence_model(graph, opset=opset, batch_first=False, metadata={}))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    expected, result = run(graph, frames).numpy(), run_model(model, frames)
    assert result.dtype == np.float32
    assert result.shape == expected.shape == sample.result.shape(sample.T, sample.N)
    if sample.exact:
        assert np.array_equal(result, expected)
    else:
        assert np.abs(result - expected).max() <= TOLERANCE[type(sample.op).__name__]


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"Input"}))
@settings(max_examples=60)
@given(data=st.data())
def test_op(name: str, data: st.DataObject) -> None:
    check(data.draw(samples(name)), data.draw(st.sampled_from(OPSETS)))


@pytest.mark.parametrize("opset", OPSETS)
@settings(max_examples=60)
@given(sample=any_sample())
def test_opset(opset: int, sample: Sample) -> None:
    assume(not isinstance(sample.op, ir.Input))
    check(sample, opset)


@pytest.mark.parametrize("opset", [12, 24, 0, -1])
def test_other_opsets_are_refused(opset: int) -> None:
    b = GraphBuilder(3)
    graph = b.finish(b.add("lif", ir.LIF(), b.add("input", ir.Input((4,)))))
    with pytest.raises(UsageError, match="13 to 23"):
        sequence_model(graph, opset=opset, batch_first=False, metadata={})


def test_logistic_function() -> None:
    b = GraphBuilder(1)
    graph = b.finish(b.add("y", ir.Sigmoid(), b.add("input", ir.Input((400001,)))))
    x = np.linspace(-20, 20, 400001, dtype=np.float32)[None, None]
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    theirs = run_model(sequence_model(graph, opset=17, batch_first=False, metadata={}), x)
    ours = run(graph, x).numpy()
    assert np.abs(theirs - exact).max() < 1.5 * ROUNDING
    assert np.abs(ours - exact).max() < 1.0 * ROUNDING


def test_membranes_at_the_threshold_decide_alike() -> None:
    # Inputs that bring the membrane to the threshold and to its neighbours in float32.
    x = np.float32(
        [2, np.nextafter(np.float32(2), np.float32(0)), np.nextafter(np.float32(2), np.float32(3)), -2, 0, 1]
    )
    frames = np.stack([np.roll(x, i) for i in range(5)])[:, None]
    for op in (
        ir.LIF(),
        ir.LIF(strict=True),
        ir.LIF(tau=3.0, v_reset=None),
        ir.PLIF(decay=0.37),
        ir.IF(v_threshold=2.0),
    ):
        b = GraphBuilder(5)
        graph = b.finish(b.add("n", op, b.add("input", ir.Input((6,)))))
        result = run_model(sequence_model(graph, opset=17, batch_first=False, metadata={}), frames)
        assert np.array_equal(result, run(graph, frames).numpy())


def test_names_that_the_exporter_uses_itself() -> None:
    # A user's module may be called like a constant of the exporter.
    names = ["tau", "v_threshold", "v_reset", "v_rest", "output", "axes_0", "ones_3", "shape_3xnx4"]
    b = GraphBuilder(3)
    x = b.add("input", ir.Input((4,)))
    for name in names:
        x = b.add(name, ir.LIF(v_threshold=0.1), x)
    graph = b.finish(x)
    for batch_first in (False, True):
        model = checked(sequence_model(graph, opset=17, batch_first=batch_first, metadata={}))
        produced = {name for node in model.graph.node for name in node.output}
        assert set(names) - {"output"} <= produced
        frames = np.random.default_rng(0).uniform(0, 2, (3, 2, 4)).astype(np.float32)
        fed = frames.swapaxes(0, 1) if batch_first else frames
        result = session(model).run(None, {"input": np.ascontiguousarray(fed)})[0]
        expected = run(graph, frames).numpy()
        assert np.array_equal(result.swapaxes(0, 1) if batch_first else result, expected)
