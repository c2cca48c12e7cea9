"""Streams of trained networks on recordings, and of the zoo's networks that are traced from modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_files import NMNIST
from stream_graphs import SMALL, run_stream

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.data import path
from tcja_deploy.events import open_data
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.frontend.load import load
from tcja_deploy.ir import Graph
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.integers.check import compare_twin
from tcja_deploy.runtime.stream import fit, run_by_frame, stream, sweep
from tcja_deploy.runtime.stream.check import compare_stream
from tcja_deploy.runtime.synthetic import synthetic_frames


@pytest.fixture(scope="module")
def graph() -> Graph:
    return fold_batch_norm(load(path("nmnist_checkpoint_max.pth")))


@pytest.fixture(scope="module")
def batches(graph) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(open_data(NMNIST / "Test", timesteps=graph.T, sensor=(34, 34)).batches(25))


def test_recordings_have_the_spikes_of_the_sequence_form(graph, batches):
    agreement = compare_stream(graph, (frames for frames, _ in batches))
    assert agreement.samples == sum(len(labels) for _, labels in batches) > 0
    assert agreement.passed, agreement
    for layer in agreement.layers:
        if layer.first is not None and layer.first.distance is not None:
            assert abs(layer.first.distance) < 1e-4  # see DISTANCE in test_stream.py


def test_with_equal_kernels_not_a_bit_differs(graph, batches):
    for frames, _ in batches:
        results, values = run_stream(stream(graph, samples=frames.shape[1]), frames)
        reference = {}
        keep = reference.__setitem__
        expected = run_by_frame(graph, frames, observe=lambda node, x, keep=keep: keep(node.name, x.numpy()))
        assert torch.equal(results[0], expected)
        assert all(np.array_equal(values[n.name], reference[n.name]) for n in graph.neurons)


def test_the_twin_gives_the_same_integers_on_recordings(graph, batches):
    network = quantise(graph, [batches[0][0]]).network
    agreement = compare_twin(network, (frames for frames, _ in batches))
    assert agreement.samples == sum(len(labels) for _, labels in batches) > 0
    assert (agreement.mismatches, agreement.output_difference) == (0, 0.0)


def test_a_fitted_profile_gains_on_recordings_it_has_not_seen(graph, batches):
    train = open_data(NMNIST / "Train", timesteps=graph.T, sensor=(34, 34), limit=100)
    linear = fit(graph, (frames for frames, _ in train.batches(25)), linear=True)
    profiles = {"zeros": None, "mean": linear.without_slopes(), "linear": linear}
    rows = {r.estimate: r for r in sweep(graph, batches, lookaheads=[0], profiles=profiles)}
    assert rows["linear"].mismatch < rows["mean"].mismatch < rows["zeros"].mismatch
    assert (
        rows["linear"].worst_gate_error[1]
        < rows["mean"].worst_gate_error[1]
        < rows["zeros"].worst_gate_error[1]
    )
    assert all(r.accuracy > 0.9 for r in rows.values())


def modules() -> dict[str, tuple]:
    from tcja_deploy.zoo.fsvae import Decoder, Encoder, Sizes
    from tcja_deploy.zoo.resnet import ms_resnet18_tcja

    sizes = Sizes(image=(1, 16, 16), T=4, channels=(4, 6), latent=5, k=2)
    return {
        "resnet, gate on the output": (ms_resnet18_tcja(width=4, depths=(1, 1)), 4, (3, 32, 32)),
        "resnet, gate in the branch": (
            ms_resnet18_tcja(width=4, depths=(1, 1), place="branch"),
            4,
            (3, 32, 32),
        ),
        "vae encoder": (Encoder(sizes), 4, (1, 16, 16)),
        "vae decoder": (Decoder(sizes), 4, (5,)),
    }


@pytest.mark.parametrize(
    "name", ["resnet, gate on the output", "resnet, gate in the branch", "vae encoder", "vae decoder"]
)
@pytest.mark.parametrize("schedule", ["burst", "paced"])
def test_traced_networks_of_the_zoo(name, schedule, tmp_path):
    torch.manual_seed(0)
    module, T, shape = modules()[name]
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                part.running_var.fill_(0.05)  # so that spikes get through untrained layers
    graph = load(module.eval(), timesteps=T, input_shape=shape)
    frames = np.concatenate([synthetic_frames(graph, 2, seed=s) for s in range(2)])
    results, values = run_stream(stream(graph, samples=2, schedule=schedule), frames, windows=2)
    assert any(values[n.name].any() for n in graph.neurons)
    for w in range(2):
        reference = {}
        keep = reference.__setitem__
        part = frames[w * T : (w + 1) * T]
        expected = run_by_frame(graph, part, observe=lambda node, x, keep=keep: keep(node.name, x.numpy()))
        assert torch.equal(results[w], expected)
        assert all(
            np.array_equal(values[n.name][w * T : (w + 1) * T], reference[n.name]) for n in graph.neurons
        )
    if schedule == "paced":
        report = td.export(graph, "onnx-step", tmp_path / "m.onnx", data=[frames[:T], frames[T:]])
        assert report.agreement.mismatches <= 1e-5 * report.agreement.neuron_steps


@pytest.mark.parametrize("name", list(zoo.BUILDERS))
def test_zoo_networks_on_the_twin(name):
    graph = zoo.build(name, seed=4, **SMALL.get(name, {}))
    network = quantise(graph, [synthetic_frames(graph, 2)]).network
    agreement = compare_twin(network, [synthetic_frames(graph, 2, seed=1)])
    assert (agreement.mismatches, agreement.output_difference) == (0, 0.0)
    assert all(layer.spikes for layer in agreement.layers)


@pytest.mark.slow
def test_the_authors_dvs128_checkpoint_on_the_twin(golden):
    frames = golden.frames
    agreement = compare_twin(quantise(load(golden.checkpoint), [frames]).network, [frames])
    assert (agreement.mismatches, agreement.output_difference) == (0, 0.0)
