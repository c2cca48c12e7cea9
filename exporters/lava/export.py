"""Writing a bundle from a graph, and checking a bundle against the twin and the real Lava."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.exporters.lava.accuracy import Accuracy, evaluate
from tcja_deploy.exporters.lava.bundle import Bundle, read_bundle, write_bundle
from tcja_deploy.exporters.lava.driver import Progress, run_lava
from tcja_deploy.exporters.lava.environment import REQUIREMENTS
from tcja_deploy.exporters.lava.lint import lint
from tcja_deploy.exporters.lava.options import Options
from tcja_deploy.exporters.lava.quantise import Quantised, StageReport, quantise
from tcja_deploy.exporters.lava.schedule import latency
from tcja_deploy.exporters.report import ExportReport, Fidelity, NodeReport
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.compare import Agreement, FirstMismatch, LayerAgreement, predictions
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.twin import Twin, encode
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.version import __version__

__all__ = ["LavaReport", "export_lava", "verify_bundle"]

SYNTHETIC_SAMPLES = 4
RECORD_BYTES = 1 << 29

Labelled = Iterable[tuple[NDArray[Any], NDArray[np.int64] | None]]


@dataclass(frozen=True)
class LavaReport(ExportReport):
    """Result of an export to Lava.

    Attributes:
        stages: What quantisation did to each stage.
        accuracy: Float against integer network on the test data (on the calibration data if none were given).
        latency: Time steps from a frame's entry to its result.
        frames: T; N windows take N * T + latency steps.
        measured_on: "test data", or "calibration data" if there were no others.
    """

    stages: tuple[StageReport, ...] = ()
    accuracy: Accuracy | None = None
    latency: int = 0
    frames: int = 0
    measured_on: str = "calibration data"


def export_lava(
    graph: Graph,
    path: Path,
    *,
    data: Iterable[NDArray[Any]] | None = None,
    test: Labelled | None = None,
    options: Options | None = None,
    verify: bool = True,
    force: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
    device: str = "cpu",
) -> LavaReport:
    """Quantise a network and write it as a bundle for lava-dl.

    Args:
        graph: The network; batch normalisation is folded on the way.
        path: Folder to write.
        data: Calibration frames (T, n, ...); four synthetic samples if not given, which the report says.
        test: Labelled frames to compare float and integer network on; the calibration data if not given.
        options: How to quantise.
        verify: Read the bundle back and compare its golden sample with the twin.
        force: Replace what is there.
        progress: Called with the name of each stage that is quantised.
        device: Where torch runs the float network, such as "cuda".

    Raises:
        UnsupportedError: Nodes or numbers that Lava cannot express; lists all of them.
        ExportError: The folder exists or cannot be written.
        DataError: Data that do not fit the network.
    """
    options = options or Options()
    notes = []
    if data is None:
        data = [synthetic_frames(graph, 1, seed=seed) for seed in range(SYNTHETIC_SAMPLES)]
        notes.append(
            "calibrated on synthetic frames: currents may wrap and rates may differ on real recordings"
        )
    batches = [np.asarray(batch) for batch in data]
    if not batches or not batches[0].shape[1]:
        raise DataError(
            "there are no calibration data", hint="pass --data with recordings like those to come"
        )
    name = graph.source.get("architecture", "network")
    quantised = quantise(graph, batches, options, name=name, progress=progress, device=device)
    if quantised.samples < quantised.offered:
        notes.append(f"calibrated on {quantised.samples} of {quantised.offered} samples, evenly spread")
    labelled = [(batch, None) for batch in batches] if test is None else test
    accuracy = evaluate(graph, quantised, labelled, device=device)
    measured_on = "calibration data" if test is None else "test data"
    network = quantised.network
    notes += _warnings(network, accuracy)
    nodes = _node_reports(graph, quantised)
    about = {
        "model": {"sha256": graph.hash, "source": graph.source},
        "versions": {
            "tcja_deploy": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "h5py": h5py.__version__,
        },
        "made_for": list(REQUIREMENTS[:2]),
        "quantisation": {
            "options": asdict(options),
            "samples": quantised.samples,
            "stages": [asdict(stage) for stage in accuracy.stages],
        },
        "accuracy": {
            "samples": accuracy.samples,
            "labelled": accuracy.labelled,
            "float_correct": accuracy.float_correct,
            "integer_correct": accuracy.integer_correct,
            "same_prediction": accuracy.agree,
            "on": measured_on,
        },
        "nodes": [asdict(node) for node in nodes],
        "caveats": notes,
    }
    write_bundle(network, path, batches[0][:, :1], about=about, force=force)
    agreement = verify_bundle(path, backend="twin") if verify else None
    files = tuple(sorted(p for p in path.rglob("*") if p.is_file()))
    return LavaReport(
        "lava",
        path,
        files,
        tuple(nodes),
        agreement,
        (*notes, *lint(network).notes),
        accuracy.stages,
        accuracy,
        latency(network),
        network.frames,
        measured_on,
    )


def _warnings(network: IntegerNetwork, accuracy: Accuracy) -> list[str]:
    """What a user has to know about the network before relying on it."""
    wrapped = [stage.name for stage in accuracy.stages if stage.wraps]
    warnings = (
        [f"currents wrapped on the data in {', '.join(wrapped)}: enlarge the margin"] if wrapped else []
    )
    if network.host_input.limbs != (1,):
        warnings.append(
            f"{network.stages[0].name}: a pair of 8-bit synapses a weight; the host sends the input twice, once times "
            f"{network.host_input.limbs[0]}"
        )
    return warnings


def _node_reports(graph: Graph, quantised: Quantised) -> list[NodeReport]:
    by_node = {node: stage for stage, node in quantised.plan.values.items() if node is not None}
    stages = {stage.name: stage for stage in quantised.stages}
    synapses = {getattr(s, "synapse", s.name): stages[s.name] for s in quantised.plan.stages}
    reports = []
    for node in graph:
        note, fidelity = quantised.plan.notes.get(node.name, ""), Fidelity.EXACT
        extra = ""
        if isinstance(node.op, ir.Input):
            extra = "integers, prepared by the host"
            if quantised.network.host_input.scale > 1:
                fidelity, extra = (
                    Fidelity.APPROXIMATED,
                    f"rounded to multiples of 1/{quantised.network.host_input.scale}",
                )
        elif isinstance(node.op, ir.BatchNorm1d | ir.BatchNorm2d):
            extra = f"folded into {node.inputs[0]}"
        elif isinstance(node.op, ir.Neuron):
            fidelity = Fidelity.APPROXIMATED
            extra = (
                f"threshold {stages[node.name].threshold}; the leak truncates by less than 1/64 weight step"
            )
        elif node.name in synapses and isinstance(node.op, ir.Conv2d | ir.Linear):
            stage, fidelity = synapses[node.name], Fidelity.APPROXIMATED
            extra = f"{stage.weight_bits}-bit weights, off by at most {stage.rounding:.2g} thresholds"
        elif isinstance(node.op, ir.TCJA):
            fidelity = Fidelity.APPROXIMATED
            extra = f"off by at most {stages[by_node.get(node.name, node.name)].rounding:.2g} on the calibration data"
        text = "; ".join(part for part in (extra, note) if part)
        reports.append(NodeReport(node.name, type(node.op).__name__, fidelity, text))
    return reports


def verify_bundle(
    path: Path,
    batches: Iterable[NDArray[Any]] | None = None,
    *,
    backend: Literal["lava", "twin"] = "lava",
    python: Path | str | None = None,
    fast_conv: bool = False,
    timeout: float = 3600.0,
    progress: Progress | None = None,
) -> Agreement:
    """Compare a bundle with the twin of its own files, value for value and stage for stage.

    Args:
        path: The bundle.
        batches: Frames (T, n, ...); the bundle's own sample if not given.
        backend: "lava" runs the real lava-dl, several windows in a run. "twin" needs no Lava: it recomputes
            the golden sample.
        python: Interpreter that has lava-dl; None to look for it.
        fast_conv: Matrix products instead of Lava's convolution loops.
        timeout: Seconds for each run of Lava.
        progress: Called with finished and all time steps of a run.

    Returns:
        The agreement, with a bound of 0: one differing value fails.

    Raises:
        FileFormatError: A damaged bundle.
        ToolchainError: See ``tcja_deploy.exporters.lava.driver.run_lava``.
    """
    bundle = read_bundle(path)
    twin = Twin(bundle.network)
    if backend == "twin":
        if batches is not None:
            raise UsageError("the twin is the reference itself; other data can only be compared with Lava")
        payload, stored = bundle.golden()
        return _agreement(bundle.network, _twin_stages(twin, payload), stored, 0)
    if backend != "lava":
        raise UsageError(f"unknown backend {backend!r}", hint="lava or twin")
    total: Agreement | None = None
    for payload in _runs(bundle, batches):
        expected = _twin_stages(twin, payload)
        lava = run_lava(
            bundle, payload, python=python, fast_conv=fast_conv, timeout=timeout, progress=progress
        )
        part = _agreement(bundle.network, expected, lava.stages, total.samples if total else 0)
        total = total + part if total else part
    if total is None:
        raise DataError("there is no sample to compare")
    return total


def _runs(bundle: Bundle, batches: Iterable[NDArray[Any]] | None) -> Iterable[NDArray[np.int64]]:
    """Payloads (T, N, ...), as many samples together as the recorded values of one run may take."""
    if batches is None:
        yield bundle.golden()[0]
        return
    network = bundle.network
    per_sample = network.frames * sum(int(np.prod(stage.out_shape)) for stage in network.stages)
    most = max(1, RECORD_BYTES // per_sample)
    samples = (batch[:, i : i + 1] for batch in batches for i in range(batch.shape[1]))
    while group := list(itertools.islice(samples, most)):
        yield encode(network.host_input, np.concatenate(group, 1))


def _twin_stages(twin: Twin, payload: NDArray[np.int64]) -> dict[str, NDArray[np.integer]]:
    """Values of all stages for payloads that the host has encoded already."""
    return twin.run(payload, record=[stage.name for stage in twin.network.stages], encoded=True).recorded


def _agreement(
    network: IntegerNetwork,
    expected: dict[str, NDArray[Any]],
    found: dict[str, NDArray[Any]],
    first_sample: int,
) -> Agreement:
    layers = []
    for stage in network.stages:
        want, got = expected[stage.name], found[stage.name]
        differs = want != got
        first = None
        if differs.any():
            n, t, *index = (int(i[0]) for i in np.nonzero(differs.swapaxes(0, 1)))
            first = FirstMismatch(first_sample + n, t, tuple(index), int(want[(t, n, *index)]), None)
        layers.append(
            LayerAgreement(
                stage.name,
                want.size,
                int(np.count_nonzero(want)),
                int(np.count_nonzero(got)),
                int(differs.sum()),
                first,
            )
        )
    last = network.stages[-1].name
    values = [network.readout(stages[last], network.unit) for stages in (expected, found)]
    streams = not network.readout.time_mean
    same = predictions(values[0], streams) == predictions(values[1], streams)
    return Agreement(
        tuple(layers), len(same), int(same.sum()), float(np.abs(values[0] - values[1]).max()), 0.0
    )
