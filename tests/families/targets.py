"""What each target makes of a network, found out by doing it: the cells of the support matrix.

* exact: the target computes what the network computes; checked spike for spike against the network's own PyTorch forward (or
  the sequence runtime, which is checked against it), with at most 1e-5 spikes per neuron-step decided by float32 rounding;
* approximated: the target computes something near, as its report says;
* refused: the target says which operations it cannot express.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from family_nets import Net

import tcja_deploy as td
from tcja_deploy.energy.measure import measure
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters import targets as exporters
from tcja_deploy.exporters.report import ExportReport, Fidelity
from tcja_deploy.ir import Node
from tcja_deploy.runtime.agreement import OUTPUT_BOUND, Agreement
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import stream
from tcja_deploy.runtime.stream.check import compare_stream

__all__ = ["SAMPLES", "TARGETS", "Stored", "columns"]

SAMPLES = 4


class Stored:
    """Recordings from a window `[T, N, ...]`."""

    def __init__(self, frames: torch.Tensor) -> None:
        self.frames = frames.numpy()

    def __len__(self) -> int:
        return int(self.frames.shape[1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames[:, index], None


def _checked(agreement: Agreement | None) -> None:
    assert agreement is not None
    assert agreement.samples == SAMPLES
    assert agreement.passed, agreement


def _cell(report: ExportReport) -> str:
    exact = all(node.fidelity is Fidelity.EXACT for node in report.nodes)
    return "exact" if exact else "approximated"


def _refused(made: Net, error: UnsupportedError) -> str:
    """The operations that were refused, by the nodes that the message lists; not those that only feed two of them."""
    lines = re.findall(r"\n  - (\S+?)(?: \(\w+\))?: (.+)", error.reason) or [(error.where, error.reason)]
    nodes = [name for name, reason in lines if "is read by" not in reason]
    assert nodes, error
    return "refused: " + ", ".join(sorted({type(made.graph[name].op).__name__ for name in nodes}))


def sequence(made: Net, folder: Path) -> str:
    """The sequence runtime against the module itself: every spike and every output, bit for bit.

    A module that takes frame after frame calls PyTorch's kernels on `N` rows instead of `T N`; some processors' kernels
    then sum in another order. Behind equal spikes its outputs may differ by `OUTPUT_BOUND` of the largest.
    """
    frames = made.family.frames(SAMPLES)
    expected, spikes = made.forward(frames)
    compared: set[str] = set()

    def observe(node: Node, value: torch.Tensor) -> None:
        if node.name in spikes:
            own = spikes[node.name]
            assert 0 < own.mean() < 1, f"{node.name} says nothing: all its spikes are equal"
            assert torch.equal(value, own), node.name
            compared.add(node.name)

    output = run(made.graph, frames, observe=observe)
    assert compared == {n.name for n in made.graph.neurons}
    assert compared
    if made.family.by_steps:
        assert (output - expected).abs().max() <= OUTPUT_BOUND * expected.abs().max()
    else:
        assert torch.equal(output, expected)
    return "exact"


def onnx(made: Net, folder: Path) -> str:
    """A model of whole windows in onnxruntime."""
    frames = made.family.frames(SAMPLES, seed=2).numpy()
    report = td.export(made.graph, "onnx", folder / "sequence.onnx", data=[frames])
    _checked(report.agreement)
    return _cell(report)


def onnx_step(made: Net, folder: Path) -> str:
    """A model of one frame in onnxruntime, step after step."""
    frames = made.family.frames(SAMPLES, seed=3).numpy()
    report = td.export(made.graph, "onnx-step", folder / "step.onnx", data=[frames])
    _checked(report.agreement)
    return _cell(report)


def streaming(made: Net, folder: Path) -> str:
    """One frame at a time, and how many frames the last value with a time axis waits for."""
    frames = made.family.frames(SAMPLES, seed=4)
    _checked(compare_stream(made.graph, [frames.numpy()]))
    last = [n.name for n in made.graph if n.signal.streams][-1]
    stepper = stream(made.graph, samples=SAMPLES)
    arrived: list[int] = []
    for t, frame in enumerate(frames):
        stepper.push(frame, observe=lambda name, _, item, t=t: arrived.append(t) if name == last else None)
    return f"exact, waits {arrived[0]}" if arrived[0] else "exact"


def lava(made: Net, folder: Path) -> str:
    """A bundle for lava-dl; read back and compared with the integer twin."""
    frames = made.family.frames(SAMPLES, seed=5).numpy()
    try:
        report = td.export(made.graph, "lava", folder / "bundle", data=[frames])
    except UnsupportedError as error:
        return _refused(made, error)
    assert report.agreement is not None
    assert report.agreement.mismatches == 0  # integers: nothing may differ
    return _cell(report)


def nir(made: Net, folder: Path) -> str:
    """A NIR graph, with the gates on the host or as constants where there are any."""
    frames = made.family.frames(SAMPLES, seed=6).numpy()
    cells, refusals = {}, []
    for gate in ("refuse", "split", "mean"):
        try:
            report = td.export(made.graph, "nir", folder / f"{gate}.nir", gate=gate, data=[frames])  # type: ignore[arg-type]
        except UnsupportedError as error:
            refusals.append(error)
            continue
        _checked(report.agreement)
        cells[gate] = _cell(report)
        if gate == "refuse":
            return cells[gate]
    return "; ".join(f"{gate}: {cell}" for gate, cell in cells.items()) or _refused(made, refusals[-1])


def energy(made: Net, folder: Path) -> str:
    """The count of all operations."""
    missing = measure(made.graph, Stored(made.family.frames(SAMPLES, seed=5))).inventory.unsupported
    return "refused: " + ", ".join(sorted({c.op for c in missing})) if missing else "exact"


Column = Callable[[Net, Path], str]

WAYS: dict[str, Column] = {"onnx": onnx, "onnx-step": onnx_step, "lava": lava, "nir": nir}
"""How a target is tried that has more to say than `exported`."""


def exported(name: str) -> Column:
    """The cell of a target that nobody wrote a way for: exported as it is, and verified."""

    def check(made: Net, folder: Path) -> str:
        try:
            report = td.export(
                made.graph, name, folder / name, data=[made.family.frames(SAMPLES, seed=7).numpy()]
            )
        except UnsupportedError as error:
            return _refused(made, error)
        _checked(report.agreement)
        return _cell(report)

    return check


def columns(targets: Mapping[str, exporters.Target[Any, Any]]) -> dict[str, Column]:
    """This project's own runtime, every target of a table of targets, and energy; the stream beside its ONNX form."""
    found: dict[str, Column] = {"sequence": sequence}
    for name, target in targets.items():
        found[target.title] = WAYS.get(name) or exported(name)
        if name == "onnx-step":
            found["stream"] = streaming
    return {**found, "energy": energy}


TARGETS = columns(exporters.TARGETS)
"""The columns of the support matrix, in order."""
