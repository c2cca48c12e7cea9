"""The leaky integrator: its step form, its runtimes and its closed forms."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir.ops import LI, PLIF, Input
from tcja_deploy.ir_file import load_graph, save_graph
from tcja_deploy.runtime.onnx.sequence import sequence_model
from tcja_deploy.runtime.sequence import evaluate, run
from tcja_deploy.runtime.stream import run_by_frame, stream

LEAKS = st.sampled_from([0.0, 0.25, 1.0, -0.5])
DECAYS = st.sampled_from([0.0, 0.1, 0.5, 1.0]) | st.floats(0, 1, width=32)


def graph_of(op: LI, T: int) -> Graph:
    b = GraphBuilder(T)
    x = b.add("input", Input((3,), Kind.REAL))
    return b.finish(b.add("membrane", op, x))


@given(DECAYS, st.booleans(), LEAKS, st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_steps_window_and_torch_agree_bit_for_bit(
    decay: float, decay_input: bool, leak: float, T: int, seed: int
) -> None:
    op = LI(decay, decay_input, leak)
    x = np.random.default_rng(seed).normal(size=(T, 2, 3)).astype(np.float32)
    graph = graph_of(op, T)
    state, stepped = op.initial_state(graph.input.signal, T=T, N=2), []
    for frame in x:
        (y,), state = op.step((frame,), state)
        stepped.append(y)
    assert np.array_equal(np.stack(stepped), op.apply(x))
    assert np.array_equal(op.apply(x), run(graph, x).numpy())


@given(DECAYS.filter(lambda q: q > 0), st.booleans(), LEAKS, st.integers(0, 2**32 - 1))
def test_is_the_membrane_of_a_neuron_that_never_fires(
    decay: float, decay_input: bool, leak: float, seed: int
) -> None:

    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 2, 3)).astype(np.float32))
    membrane = evaluate(LI(decay, decay_input, leak), x).numpy()
    for t in range(5):
        for threshold in (membrane[t].max(), np.nextafter(membrane[t].max(), np.float32(np.inf))):
            # The neuron's first spike comes where the membrane reaches the threshold, and not below it.
            if float(threshold) > leak and membrane[:t].size and membrane[:t].max() < threshold:
                spikes = evaluate(
                    PLIF(float(threshold), leak, decay=decay, decay_input=decay_input), x[: t + 1]
                )
                assert np.array_equal(spikes[t].numpy(), membrane[t] >= threshold)


def test_constant_input_charges_like_a_capacitor() -> None:
    q, T = 0.25, 12
    x = np.ones((T, 1, 3), np.float32)
    expected = 1 - (1 - q) ** np.arange(1, T + 1)
    got = LI(q).apply(x)[:, 0, 0]
    # Each of the T steps rounds a membrane below 1 twice, by at most half of 2**-24.
    assert np.abs(got - expected).max() <= T * 2**-24


def test_without_leak_it_sums() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 1, 3)
    assert np.array_equal(LI(0.0, decay_input=False).apply(x), x.cumsum(0))


@pytest.mark.parametrize("T", [1, 4])
def test_onnx(T: int) -> None:
    graph = graph_of(LI(0.3, True, 0.5), T)
    model = sequence_model(graph, opset=17, batch_first=False, metadata={})
    x = np.random.default_rng(0).normal(size=(T, 2, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    assert np.array_equal(y, run(graph, x).numpy())


def test_survives_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    graph = graph_of(LI(0.3, False, 0.5), 4)
    save_graph(graph, tmp_path / "li.tcja")
    assert load_graph(tmp_path / "li.tcja").hash == graph.hash


def test_is_real_and_needs_a_stream() -> None:
    assert graph_of(LI(0.3), 4)["membrane"].signal.kind is Kind.REAL
    assert LI(1.5).faults() == ["the decay 1.5 is outside [0, 1]"]


def test_stream_keeps_the_membrane_and_windows_start_afresh() -> None:
    graph = graph_of(LI(0.3, True, 0.5), 4)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 2, 3)).astype(np.float32))
    stepper = stream(graph, samples=2)
    given = torch.stack([e.value for frame in x for e in stepper.push(frame)])
    assert torch.equal(given, torch.cat([run(graph, x[:4]), run(graph, x[4:])]))
    assert torch.equal(run_by_frame(graph, x[:4]), run(graph, x[:4]))
