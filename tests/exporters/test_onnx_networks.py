"""Whole networks in onnxruntime: the authors' checkpoint, their other layouts in full size, all N-MNIST recordings at hand.

These print the measured mismatches (`pytest -s`): float32 sums in another order may flip a spike at the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from golden_files import count_recordings
from onnx_cases import checked, run_model, session
from spikingjelly.activation_based import functional

import tcja_deploy as td
from tcja_deploy import data, zoo
from tcja_deploy.events import open_data
from tcja_deploy.frontend.checkpoint import infer_architecture
from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir.ops import TCJA, Neuron
from tcja_deploy.runtime.agreement import BOUND, Agreement
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo.modules import to_module

if TYPE_CHECKING:
    from golden_files import Golden


def report(what: str, agreement: Agreement | None) -> None:
    assert agreement is not None
    print(
        f"\n{what}: {agreement.mismatches} of {agreement.neuron_steps} neuron-steps differ, "
        f"{agreement.predictions_equal} of {agreement.samples} predictions equal, "
        f"largest output difference {agreement.output_difference:.2e}"
    )
    for layer in agreement.layers:
        if layer.first is not None:
            print(f"  {layer.name}: {layer.mismatches} mismatches, first {layer.first}")
    assert agreement.mismatch_rate < BOUND


def counts_in_onnx(path: Path, graph: Graph, frames: np.ndarray) -> dict[str, int]:
    """Non-zero values of every neuron and gate in onnxruntime."""
    model = onnx.load(path)
    names = [n.name for n in graph if isinstance(n.op, Neuron | TCJA)]
    shown = {o.name for o in model.graph.output}
    for name in names:
        if name not in shown:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    running = session(model)
    results = dict(
        zip([o.name for o in running.get_outputs()], running.run(None, {"input": frames}), strict=True)
    )
    return {name: int(np.count_nonzero(results[name])) for name in names}


@pytest.mark.slow
def test_golden_checkpoint(golden: Golden, tmp_path: Path) -> None:
    graph = td.load(golden.checkpoint)
    result = td.export(graph, "onnx", tmp_path / "dvs128.onnx", data=[golden.frames])
    report("golden DVS128", result.agreement)
    assert result.agreement.passed  # type: ignore[union-attr]
    assert np.array_equal(run(graph, golden.frames).numpy(), golden.output)
    # The same spikes, averaged over T and over ten voters in another order: a rounding of each of the two divisions and sums.
    four_roundings = 4 * np.finfo(np.float32).eps
    np.testing.assert_allclose(
        run_model(tmp_path / "dvs128.onnx", golden.frames), golden.output, rtol=four_roundings, atol=0
    )
    ours: dict[str, int] = {}

    def observe(node: Node, value: torch.Tensor) -> None:
        ours[node.name] = int(torch.count_nonzero(value))

    run(graph, golden.frames, observe=observe)
    theirs = counts_in_onnx(tmp_path / "dvs128.onnx", graph, golden.frames)
    total = sum(golden.counts[name] for name in theirs)
    for what, counts in (("sequence runtime", ours), ("onnxruntime", theirs)):
        wrong = {k: counts[k] - golden.counts[k] for k in golden.counts if counts[k] != golden.counts[k]}
        print(
            f"{what}: {sum(map(abs, wrong.values()))} of {total} counts differ from the authors' code {wrong}"
        )
        # the golden files' README: equal "to within a few spikes in a million"
        assert sum(map(abs, wrong.values())) <= 5e-6 * total


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ncaltech101", "cifar10dvs", "fashion_mnist"])
def test_published_sizes_end_to_end(name: str, tmp_path: Path) -> None:
    arch = zoo.BUILDERS[name]()
    net = to_module(arch, zoo.random_state(arch, seed=1))
    torch.save({"net": net.state_dict(), "epoch": 0, "max_test_acc": 0.0}, tmp_path / "checkpoint_max.pth")
    graph = td.load(tmp_path / "checkpoint_max.pth")
    frames = synthetic_frames(graph, 1, seed=2)
    result = td.export(graph, "onnx", tmp_path / "m.onnx", data=[frames])
    report(name, result.agreement)
    checked(onnx.load(tmp_path / "m.onnx"))
    functional.reset_net(net)
    with torch.no_grad():
        expected = net(torch.from_numpy(frames)).numpy()
    assert np.array_equal(
        run(graph, frames).numpy(), expected
    )  # the unfolded graph: SpikingJelly's own kernels
    print(result.notes[-1])
    assert all(layer.spikes > 0 for layer in result.agreement.layers)  # type: ignore[union-attr]


@pytest.mark.slow
def test_every_nmnist_recording(nmnist: Path, tmp_path: Path) -> None:
    checkpoint = data.path("nmnist_checkpoint_max.pth")
    graph = td.load(checkpoint)
    state = {k: v.numpy() for k, v in torch.load(checkpoint)["net"].items()}
    net = to_module(infer_architecture(state)[0], state)
    td.export(graph, "onnx", tmp_path / "m.onnx", verify=False)
    running = session(tmp_path / "m.onnx")
    labels: list[np.ndarray] = []
    results: dict[str, list[np.ndarray]] = {"SpikingJelly": [], "sequence runtime": [], "onnxruntime": []}

    def batches() -> Iterator[np.ndarray]:
        for part in ("Train", "Test"):
            recordings = open_data(nmnist / part, timesteps=graph.T, sensor=(34, 34))
            for frames, classes in recordings.batches(50):
                functional.reset_net(net)
                with torch.no_grad():
                    results["SpikingJelly"].append(net(torch.from_numpy(frames)).numpy())
                results["sequence runtime"].append(run(graph, frames).numpy())
                results["onnxruntime"].append(running.run(None, {"input": frames})[0])
                labels.append(classes)
                yield frames

    agreement = td.verify(tmp_path / "m.onnx", graph, batches())
    report("N-MNIST, batch normalisation folded", agreement)
    assert agreement.passed
    theirs, ours, onnx_ours = (np.concatenate(r) for r in results.values())
    assert len(theirs) == count_recordings(nmnist) > 0
    assert np.array_equal(theirs, ours)  # to the last bit
    print(
        f"onnxruntime against SpikingJelly: {(onnx_ours.argmax(1) != theirs.argmax(1)).sum()} predictions and "
        f"{(np.abs(onnx_ours - theirs) > 1e-6).sum()} of {theirs.size} outputs differ"
    )
    assert np.array_equal(onnx_ours.argmax(1), theirs.argmax(1))
    accuracy = (theirs.argmax(1) == np.concatenate(labels)).mean()
    print(f"accuracy on all recordings, 900 of which it was trained on: {accuracy:.3f}")
    assert accuracy > 0.95
