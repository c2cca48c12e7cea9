"""Branched integer networks: their timing, their stream, their bundles, and the real Lava."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bundles import write_bundle
from graph_nets import random_counts, random_graphs

from tcja_deploy.errors import FileFormatError, GraphError, UnsupportedError
from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.exporters.lava.driver import run_lava
from tcja_deploy.exporters.lava.lint import check
from tcja_deploy.exporters.lava.options import LavaVerification
from tcja_deploy.exporters.lava.schedule import latency, misaligned, schedule
from tcja_deploy.exporters.lava.verify import verify_bundle
from tcja_deploy.exporters.manifest import NAME, sealed
from tcja_deploy.runtime.integers.check import compare_twin
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.sparse_cells import on_kernels
from tcja_deploy.runtime.integers.stages import HOST, NeuronStage, RelayStage
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.stream import state_from_bytes, state_to_bytes
from tcja_deploy.runtime.stream.engine import Stepper, initial


def test_all_kinds_of_stages_occur_and_say_something():
    network = random_graphs(range(24))
    kinds = {type(stage).__name__ for stage in network.stages}
    assert kinds == {"LayerStage", "SynapseStage", "NeuronStage", "RelayStage", "ProgramStage"}
    run = Twin(network).run(random_counts(network, 3))
    spiking = [run.counts[s.name] for s in network.stages if isinstance(s, NeuronStage)]
    assert sum(0 < c.spikes < c.neuron_steps for c in spiking) > len(spiking) / 2


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("seed", range(0, 24, 4))
def test_the_stream_gives_what_the_window_gives(seed, kernels):
    network = random_graphs(range(seed, seed + 4))
    runs = on_kernels(plan_twin(network)) if kernels else None
    windows = [random_counts(network, 3, seed + again).astype(np.float32) for again in range(2)]
    agreement = compare_twin(network, windows, runs=runs)
    assert agreement.mismatches == 0
    assert agreement.passed


@pytest.mark.parametrize("seed", range(0, 24, 8))
def test_a_stream_of_a_graph_resumes_from_any_state(seed):
    """Kernels write over states that nobody else holds: one that was kept still gives what followed it."""
    network = random_graphs(range(seed, seed + 8))
    plan = on_kernels(plan_twin(network))
    frames = random_counts(network, 2, seed).astype(np.float32)

    def results(stepper, pushed):
        return [emission.value.tolist() for frame in pushed for emission in stepper.push(frame)]

    stepper, silence = Stepper(plan, initial(plan, 2)), np.zeros_like(frames)
    expected, kept = [], []
    for frame in [*frames, *silence]:
        kept.append((stepper.state, state_to_bytes(stepper.state), len(expected)))
        expected += results(stepper, [frame])
    assert any(np.any(value) for value in expected)
    for k in range(0, len(kept), 3):
        state, saved, given = kept[k]
        assert state_to_bytes(state) == saved
        rest = [*frames, *silence][k:]
        assert results(Stepper(plan, state_from_bytes(plan, saved)), rest) == expected[given:]


@pytest.mark.parametrize("seed", range(0, 16, 4))
def test_frames_meet_where_the_graph_says(seed):
    """Along every path from the input to a stage, durations and delays add up to the same step."""
    network = random_graphs(range(seed, seed + 4))
    times = schedule(network)
    assert misaligned(network, times) == []
    delayed = [(name, k) for name, t in times.items() for k, delay in enumerate(t.delays) if delay]
    assert delayed
    for name, k in delayed:
        for wrong in (-1, 1):
            delays = tuple(d + wrong * (i == k) for i, d in enumerate(times[name].delays))
            found = misaligned(network, {**times, name: replace(times[name], delays=delays)})
            assert len(found) == 1
            assert found[0].startswith(f"{name}: ")
    late = replace(times["out"], arrives=times["out"].arrives + 1, leaves=times["out"].leaves + 1)
    assert misaligned(network, {**times, "out": late})


def test_a_bundle_is_read_as_it_was_written(tmp_path):
    network = random_graphs(range(6))
    write_bundle(network, tmp_path / "b", random_counts(network, 1), about={})
    read = read_bundle(tmp_path / "b").network
    sample = random_counts(network, 2, 7)
    names = [stage.name for stage in network.stages]
    one, other = (Twin(n).run(sample, record=names).recorded for n in (network, read))
    assert all(np.array_equal(one[name], other[name]) for name in names)
    assert read_bundle(tmp_path / "b").section["latency"] == latency(network)
    assert read_bundle(tmp_path / "b").section["version"] == 2
    assert verify_bundle(tmp_path / "b", None, LavaVerification(backend="twin")).mismatches == 0


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda part: part["delays"].__setitem__(0, part["delays"][0] + 1), "contradicts"),
        (lambda part: part["inputs"].__setitem__(0, "nobody"), "nobody"),
        (lambda part: part.update(unit=2.5), "contradicts|unit"),
        (lambda part: part.update(kind="code"), "not known|contradicts"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(change, found, tmp_path):
    network = random_graphs([3])
    write_bundle(network, tmp_path / "b", random_counts(network, 1), about={})
    manifest = json.loads((tmp_path / "b" / NAME).read_text())
    part = next(p for p in manifest["lava"]["parts"] if p["kind"] == "relay" and p["name"] == "out")
    change(part)
    kept = {key: value for key, value in manifest.items() if key in ("files", "lava")}
    (tmp_path / "b" / NAME).write_text(sealed("lava", kept))
    with pytest.raises(FileFormatError, match=found):
        read_bundle(tmp_path / "b")


def test_stages_that_do_not_fit_are_refused():
    network = random_graphs([0])
    last = network.stages[-1]
    with pytest.raises(GraphError, match="no stage before it sends"):
        IntegerNetwork(
            "n", 4, network.host_input, (*network.stages[:-1], replace(last, inputs=("x",))), network.readout
        )
    loose = RelayStage("loose", (HOST,), (2, 6, 5), np.zeros(2, np.int64), 1.0)
    with pytest.raises(GraphError, match="no stage reads"):
        IntegerNetwork("n", 4, network.host_input, (loose, *network.stages), network.readout)
    wide = NeuronStage("wide", (HOST,), (2, 6, 5), np.full(2, 1 << 15), np.asarray(5))
    with pytest.raises(UnsupportedError, match="16 bits"):
        check(IntegerNetwork("n", 4, network.host_input, (wide,), network.readout))


@pytest.mark.usefixtures("quick_lava")
def test_random_graphs_in_lava(tmp_path):
    """Many graphs in one run: 3 windows, every value of every stage."""
    compared(range(12), tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_lava")
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_two_hundred_random_graphs_in_lava(first, tmp_path):
    compared(range(first, first + 20), tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("lava_python")
def test_one_step_too_late_is_another_network_in_lava(tmp_path):
    """The manifest of a bundle that was read already is changed by one step: reading refuses it, Lava computes otherwise."""
    network = random_graphs(range(4))
    write_bundle(network, tmp_path / "b", random_counts(network, 1), about={})
    bundle, payload = read_bundle(tmp_path / "b"), random_counts(network, 3, 11)
    names = [stage.name for stage in network.stages]
    expected = Twin(network).run(payload, record=names).recorded
    manifest = json.loads((tmp_path / "b" / NAME).read_text())
    part = next(
        p
        for p in manifest["lava"]["parts"]
        if len(p["inputs"]) > 1 and p["name"] != "out" and any(p["delays"])
    )
    late = next(k for k, delay in enumerate(part["delays"]) if delay)
    for wrong in (0, 1):
        part["delays"][late] += wrong
        kept = {key: value for key, value in manifest.items() if key in ("files", "lava")}
        (tmp_path / "b" / NAME).write_text(sealed("lava", kept))
        found = run_lava(bundle, payload, fast_conv=True).stages
        differ = sum(int((found[name] != expected[name]).sum()) for name in names)
        assert (differ > 0) == bool(wrong)
    with pytest.raises(FileFormatError, match="contradicts"):
        read_bundle(tmp_path / "b")


def compared(seeds, folder):
    network = random_graphs(seeds)
    write_bundle(network, folder / "b", random_counts(network, 1), about={})
    frames = random_counts(network, 3, 11).astype(np.float32)
    agreement = verify_bundle(folder / "b", [frames], LavaVerification(fast_conv=seeds[0] % 40 != 0))
    assert agreement.samples == 3
    assert agreement.mismatches == 0
