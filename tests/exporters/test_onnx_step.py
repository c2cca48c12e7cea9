"""Step models in onnxruntime against the stream runtime, step after step."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from golden_files import NMNIST, count_recordings
from stream_graphs import DISTANCE, SMALL, graphs, random_frames, strong

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import DataError, DeployError, FileFormatError, UsageError
from tcja_deploy.exporters.onnx_step.model import step_model
from tcja_deploy.exporters.onnx_step.run import OnnxStepper
from tcja_deploy.exporters.onnx_step.target import ONNX_STEP
from tcja_deploy.exporters.pipeline import run_export
from tcja_deploy.exporters.report import Fidelity
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.membranes import charge
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import FrameProfile, Stepper, fit, initial, plan, sweep
from tcja_deploy.runtime.synthetic import synthetic_frames


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.integers(1, 2), st.integers(0, 100), st.data())
def test_random_networks_emit_the_same_results_at_the_same_steps(graph, samples, seed, data):
    lookahead = data.draw(st.none() | st.integers(0, graph.T - 1))
    profile = None
    if any(isinstance(n.op, ir.TCJA) for n in graph) and data.draw(st.booleans()):
        profile = fit(graph, [random_frames(graph, 1, 8, seed + 1)], linear=data.draw(st.booleans()))
    network = plan(graph, lookahead=lookahead, profile=profile, schedule="paced")
    step = step_model(network, opset=17, metadata={})
    onnx.checker.check_model(step.model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(
        step.model, check_type=True, strict_mode=True, data_prop=True
    )
    assert all(node.domain == "" for node in step.model.graph.node)
    layers = {node.name: step.values[node.name] for node in graph.neurons}
    step.model.graph.output.extend(v for v in inferred.graph.value_info if v.name in layers.values())
    session = session_of(step.model)
    names = [o.name for o in session.get_outputs()]
    states = {s.name: s.initial(samples) for s in step.states}
    reference = Stepper(network, initial(network, samples))
    frames = random_frames(graph, 3, samples, seed)
    emitted = 0
    for frame in [*frames, *[np.zeros_like(frames[0])] * step.latency]:
        values = dict(
            zip(names, session.run(None, {session.get_inputs()[0].name: frame, **states}), strict=True)
        )
        states = {name: values[f"{name}.next"] for name in states}
        before, seen = reference.state, {}
        expected = reference.push(frame, observe=lambda name, i, x, seen=seen: seen.update({name: x}))
        assert bool(values["valid"]) == bool(expected)
        for node in graph.neurons:
            differs = node.name in seen and values[layers[node.name]] != seen[node.name].numpy()
            if np.any(differs):
                h = charge(node.op, seen[node.inputs[0]], before.cells[node.name]["v"]).numpy()
                assert np.abs(h[differs] - node.op.v_threshold).max() < DISTANCE
                return  # rounding moved a spike; what follows has other inputs
        if expected:
            emitted += 1
            assert int(values["frame"]) == (graph.T - 1 if expected[0].frame is None else expected[0].frame)
            np.testing.assert_allclose(values["output"], expected[0].value.numpy(), rtol=1e-4, atol=1e-4)
    assert emitted >= (3 * graph.T if network.streams else 3)


@pytest.mark.parametrize("T", [1, 2, 3, 5])
@pytest.mark.parametrize("kernels", [(1, 0), (2, 3), (4, 0), (5, 0), (5, 2), (7, 1), (0, 4)])
def test_two_blocks_of_any_kernel_and_window_over_windows_back_to_back(T, kernels):
    rng, (k_t, k_c), c = np.random.default_rng(T), kernels, 3
    tla = rng.normal(0, 1, (c, c, k_t)).astype(np.float32) if k_t else None
    cla = rng.normal(0, 1, (T, T, k_c)).astype(np.float32) if k_c else None
    b = GraphBuilder(T)
    x = b.add("first", ir.TCJA(tla, cla), b.add("input", ir.Input((c, 2, 2), Kind.BINARY)))
    graph = b.finish(b.add("second", ir.TCJA(tla, cla), x))
    frames = random_frames(graph, 6, 2, seed=T)
    profile = fit(graph, [random_frames(graph, 1, 9, seed=1)], linear=True)
    for lookahead in range(T):
        network = plan(graph, lookahead=lookahead, profile=profile, schedule="paced")
        step = step_model(network, opset=17, metadata={})
        session, reference = session_of(step.model), Stepper(network, initial(network, 2))
        names = [o.name for o in session.get_outputs()]
        states = {s.name: s.initial(2) for s in step.states}
        for frame in frames:
            values = dict(zip(names, session.run(None, {"input": frame, **states}), strict=True))
            states = {name: values[f"{name}.next"] for name in states}
            expected = reference.push(frame)
            assert bool(values["valid"]) == bool(expected)
            if expected:  # sums of up to 25 products of order 1, and a sigmoid with slope 1/4
                np.testing.assert_allclose(values["output"], expected[0].value.numpy(), atol=5e-6)


@pytest.mark.parametrize("name", list(zoo.BUILDERS))
@pytest.mark.parametrize("lookahead", [None, 0, 2])
def test_zoo_networks_over_windows_back_to_back(name, lookahead, tmp_path):
    graph = strong(zoo.build(name, seed=3, **SMALL.get(name, {})))
    batches = [synthetic_frames(graph, 2, seed=s) for s in range(3)]
    seen: list[int] = []
    report = run_export(
        ONNX_STEP,
        graph,
        tmp_path / "m.onnx",
        lookahead=lookahead,
        data=batches,
        progress=lambda _, done: seen.append(done),
    )
    assert report.agreement.passed, report.agreement
    assert report.agreement.samples == 6
    assert seen == [2, 4, 6]
    for node, layer in zip(graph.neurons, report.agreement.layers, strict=True):
        assert layer.neuron_steps == node.signal.size * graph.T * 6
    assert (
        report.agreement.output_difference < 0.02
    )  # spikes that round to the other side move a mean by 1/(T voters)


@pytest.mark.slow
def test_the_authors_dvs128_checkpoint(golden, tmp_path):
    from tcja_deploy.frontend.load import load

    frames = golden.frames
    report = td.export(load(golden.checkpoint), "onnx-step", tmp_path / "m.onnx", data=[frames])
    assert report.agreement.passed
    stepper = OnnxStepper(tmp_path / "m.onnx")
    out = [e for f in [*frames, *[np.zeros_like(frames[0])] * stepper.latency] for e in stepper.push(f)]
    # the golden README allows a few spikes in a million; one spike of the last layer is 1 / (20 x 10)
    np.testing.assert_allclose(out[0].value, golden.output, atol=1.01 / 200)


@pytest.mark.parametrize(
    "names",
    [
        ("output", "frame"),
        ("step", "valid"),
        ("number_1", "rest_0.0"),
        ("a", "a/before"),
        ("a", "a.v"),
        ("a.v.next", "a"),
        ("clock_1", "list_0"),
    ],
)
def test_layers_may_be_called_like_parts_of_the_model(names, tmp_path):
    rng, b = np.random.default_rng(0), GraphBuilder(3)
    x = b.add("input", ir.Input((4,), Kind.REAL))
    for name in names:
        x = b.add(f"{name}_weight", ir.Linear(rng.normal(size=(4, 4)).astype(np.float32)), x)
        x = b.add(name, ir.LIF(v_threshold=0.5), x)
    graph = b.finish(b.add("mean", ir.TimeMean(), x))
    frames = rng.normal(size=(3, 5, 4)).astype(np.float32)
    report = td.export(graph, "onnx-step", tmp_path / "m.onnx", data=[frames])
    assert [layer.name for layer in report.agreement.layers] == list(names)
    assert all(layer.spikes > 0 for layer in report.agreement.layers)
    assert report.agreement.mismatches == 0
    stepper = OnnxStepper(tmp_path / "m.onnx", samples=5, show=names)
    stepper.push(frames[0])
    assert all(set(np.unique(stepper.shown[name])) <= {0.0, 1.0} for name in names)


@pytest.fixture(scope="module")
def graph():
    return strong(zoo.build("events34", T=5, channels=(4, 6, 6), hidden=16))


@pytest.fixture(scope="module")
def frames(graph):
    return np.concatenate([synthetic_frames(graph, 2, seed=s) for s in range(3)])


def test_profiles_reach_the_model(graph, frames, tmp_path):
    profile = fit(graph, [frames[:5]], linear=True)
    for guess in (profile, profile.without_slopes()):
        report = td.export(
            graph, "onnx-step", tmp_path / "m", lookahead=0, profile=guess, data=[frames[:5]], force=True
        )
        assert report.agreement.passed
        for other in (None, FrameProfile(), fit(graph, [frames[5:10]], linear=True)):
            with pytest.raises(FileFormatError, match="another profile"):
                td.verify(tmp_path / "m.onnx", graph, [frames[:5]], profile=other)
        (note,) = (note for note in report.notes if note.startswith("an approximation"))
        apart = json.loads((tmp_path / "m.manifest.json").read_text())["comparisons"]["approximation"]
        assert f"{apart['mismatches']:,} of" in note
        expected = sweep(graph, [(frames[:5, :1], None)], lookaheads=[0], profiles={"": guess})[0]
        assert apart["mismatches"] == sum(wrong for _, wrong, _ in expected.spikes.values()) > 0
    fates = {n.name: n.fidelity for n in report.nodes}
    assert fates["conv.5"] is Fidelity.APPROXIMATED
    assert fates["conv.1"] is Fidelity.EXACT


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_opsets(graph, frames, tmp_path, opset):
    assert td.export(graph, "onnx-step", tmp_path / "m.onnx", opset=opset, data=[frames[:5]]).agreement.passed


def test_tla_alone_waits_as_long_as_its_kernel_and_keeps_k_t_frames(tmp_path):
    graph = zoo.build("events34", T=6, channels=(2, 3, 3), hidden=8, kernels=(None, (2, 0), (4, 0)))
    report = td.export(graph, "onnx-step", tmp_path / "m.onnx")
    about = json.loads((tmp_path / "m.manifest.json").read_text())["onnx-step"]
    assert report.agreement.passed
    assert about["latency_steps"] == 1 + 2
    assert about["states"]["conv.5:gate.ring"]["shape"] == [2, "N", 3]
    assert about["states"]["conv.9:gate.ring"]["shape"] == [4, "N", 3]
    assert not any(note.startswith("an approximation") for note in report.notes)
    assert not [name for name in about["states"] if name.endswith((".cm", ".late", ".tm"))]


def test_states_are_shipped_and_can_be_carried_on_elsewhere(graph, frames, tmp_path):
    td.export(graph, "onnx-step", tmp_path / "m.onnx", verify=False)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    shipped = dict(np.load(tmp_path / "m.states.npz"))
    assert {i.name for i in session.get_inputs()[1:]} == shipped.keys()
    assert {o.name for o in session.get_outputs()[3:]} == {f"{name}.next" for name in shipped}
    one, two = OnnxStepper(tmp_path / "m.onnx"), OnnxStepper(tmp_path / "m.onnx")
    assert all(np.array_equal(one.state[name], shipped[name]) for name in shipped)
    for f in frames[:7, :1]:
        one.push(f)
    np.savez(tmp_path / "now.npz", **one.state)
    two.state = dict(np.load(tmp_path / "now.npz"))
    after = [[(e.value.numpy().tobytes()) for f in frames[7:, :1] for e in s.push(f)] for s in (one, two)]
    assert after[0] == after[1]
    assert len(after[0]) == 1


def test_the_running_result_is_the_mean_so_far(graph, frames, tmp_path):
    td.export(graph, "onnx-step", tmp_path / "m.onnx", lookahead=0, verify=False)
    other = Stepper(plan(graph, lookahead=0), initial(plan(graph, lookahead=0), 2))
    stepper = OnnxStepper(tmp_path / "m.onnx", samples=2)
    for t, f in enumerate(frames):
        stepper.push(f)
        emitted = other.push(f)
        expected = emitted[0].value if (t + 1) % graph.T == 0 else other.running
        np.testing.assert_allclose(stepper.running, expected, atol=1e-6)


def test_golden_sample_can_be_repeated(graph, tmp_path):
    td.export(graph, "onnx-step", tmp_path / "m.onnx", verify=False)
    golden = np.load(tmp_path / "m.golden.npz")
    stepper, got = OnnxStepper(tmp_path / "m.onnx"), {}
    silence = np.zeros_like(golden["input"][0])
    for t in range(int(golden["step"][-1]) + 1):
        for e in stepper.push(golden["input"][t] if t < graph.T else silence):
            got[t] = e.value.numpy()
    assert list(got) == golden["step"].tolist()
    np.testing.assert_allclose(np.stack(list(got.values())), golden["output"], atol=1e-6)


@pytest.mark.slow
def test_recordings_of_the_shipped_network(tmp_path):
    root = NMNIST / "Test"
    from tcja_deploy.data import path
    from tcja_deploy.events import open_data
    from tcja_deploy.frontend.load import load

    graph = load(path("nmnist_checkpoint_max.pth"))
    data = open_data(root, timesteps=graph.T, sensor=(34, 34))
    report = td.export(
        graph, "onnx-step", tmp_path / "m.onnx", data=(frames for frames, _ in data.batches(25))
    )
    assert report.agreement.samples == count_recordings(root) > 0
    assert report.agreement.passed, report.agreement


def test_the_example_with_bound_states(graph, frames, tmp_path):
    td.export(graph, "onnx-step", tmp_path / "m.onnx", verify=False)
    np.save(tmp_path / "recording.npy", frames[:5, 0])
    example = Path(__file__).parents[2] / "examples" / "stream_onnx.py"
    command = [sys.executable, str(example), str(tmp_path / "m.onnx"), str(tmp_path / "recording.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, last = done.stdout.strip().splitlines()
    expected = int(run(graph, frames[:5, :1]).argmax())
    assert last == f"step {4 + 8}: frame 4, class {expected} (final)"


def test_models_of_another_network_and_other_files_are_refused(graph, frames, tmp_path):
    td.export(graph, "onnx-step", tmp_path / "m.onnx", verify=False)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(FileFormatError, match="not a readable ONNX"):
        OnnxStepper(tmp_path / "text.onnx")
    with pytest.raises(FileFormatError, match="not exported from the given network"):
        td.verify(tmp_path / "m.onnx", zoo.build("events34", T=5, channels=(4, 6, 6), hidden=16, classes=9))
    with pytest.raises(DataError, match="no samples"):
        td.verify(tmp_path / "m.onnx", graph, [])

    td.export(graph, "onnx", tmp_path / "sequence.onnx", verify=False)
    with pytest.raises(FileFormatError, match="does not take single frames"):
        OnnxStepper(tmp_path / "sequence.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    kept = {p.key: p.value for p in model.metadata_props if p.key != "tcja_deploy.layers"}
    for properties, reason in (
        (kept, "lacks tcja_deploy.layers"),
        (kept | {"tcja_deploy.layers": "conv.1"}, "not readable JSON"),
        (kept | {"tcja_deploy.layers": "{}", "tcja_deploy.T": "five"}, "are damaged"),
        (kept | {"tcja_deploy.layers": "{}", "tcja_deploy.states": '{"step": 1}'}, "not readable JSON"),
    ):
        onnx.helper.set_model_props(model, properties)
        onnx.save(model, tmp_path / "changed.onnx")
        with pytest.raises(FileFormatError, match=reason):
            OnnxStepper(tmp_path / "changed.onnx")
    with pytest.raises(FileFormatError, match="no such tensor"):
        OnnxStepper(tmp_path / "m.onnx", show=["conv.77"])
    with pytest.raises(DataError, match="shape"):
        OnnxStepper(tmp_path / "m.onnx").push(np.zeros((1, 2, 3, 3), np.float32))
    with pytest.raises(DataError, match=r"expects \[3, 2, 34, 34\]"):
        OnnxStepper(tmp_path / "m.onnx", samples=3).push(frames[0])
    with pytest.raises(UsageError):
        OnnxStepper(tmp_path / "m.onnx", samples=0)


def test_weights_in_a_file_of_their_own(graph, frames, tmp_path, monkeypatch):
    from tcja_deploy.exporters.onnx_step import export as module

    monkeypatch.setattr(module, "needs_external_data", lambda model: True)
    report = td.export(graph, "onnx-step", tmp_path / "m.onnx", data=[frames[:5]])
    assert (tmp_path / "m.onnx.data").stat().st_size > (tmp_path / "m.onnx").stat().st_size / 2
    assert tmp_path / "m.onnx.data" in report.files
    assert report.agreement.passed
    assert td.verify(tmp_path / "m.onnx", graph, [frames[:5]]).passed


def test_a_failed_export_leaves_nothing_behind(graph, tmp_path):
    with pytest.raises(UsageError):
        td.export(graph, "onnx-step", tmp_path / "m.onnx", lookahead=5)
    with pytest.raises(DeployError):
        td.export(graph, "onnx-step", tmp_path / "m.onnx", data=[])
    assert list(tmp_path.iterdir()) == []
    td.export(graph, "onnx-step", tmp_path / "m.onnx", verify=False)
    with pytest.raises(DeployError, match="something at this path"):
        td.export(graph, "onnx-step", tmp_path / "m.onnx", verify=False)


def test_verification_notices_a_changed_weight(graph, frames, tmp_path):
    td.export(graph, "onnx-step", tmp_path / "m.onnx", verify=False)
    model = onnx.load(tmp_path / "m.onnx")
    weight = next(i for i in model.graph.initializer if i.name == "conv.3.0.weight")
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.05)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(model, tmp_path / "m.onnx")
    agreement = td.verify(tmp_path / "m.onnx", graph, [frames[:5]])
    assert not replace(agreement, bound=1e-5).passed
