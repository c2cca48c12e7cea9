"""What branches add on a chip, found from the graph alone, is what the lowering to Lava makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from tcja_deploy import data, load
from tcja_deploy.energy.count.additions import Addition, additions
from tcja_deploy.energy.count.inventory import Measured
from tcja_deploy.energy.count.model import measure_model
from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.energy.place.placement import place
from tcja_deploy.energy.price.hardware import snn_lines
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.exporters.lava.schedule import duration, schedule
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.library.sources import open_data
from tcja_deploy.runtime.integers.layers import GateStage
from tcja_deploy.runtime.integers.stages import ProgramStage, RelayStage


@pytest.fixture(scope="module")
def residual() -> Graph:
    return load(data.path("ms_resnet_tcja_digits.tcja"))


def frames_of(graph: Graph) -> np.ndarray:
    frames = np.random.default_rng(0).poisson(0.2, (graph.T, 2, *graph.input_shape)).astype(np.float32)
    return frames.clip(max=1)


def logic(size: int = 6, join: ir.Mul | ir.Add | None = None) -> Graph:
    """Spikes, the same behind one more layer, and their product or sum."""
    weight = np.ones((size, 1, 1, 1), np.float32)
    own = ir.Conv2d(weight, groups=size)
    builder = GraphBuilder(4)
    builder.add("x", ir.Input((size, 1, 1), Kind.BINARY))
    builder.add("a", own, "x")
    builder.add("first", ir.LIF(tau=2.0, v_threshold=0.4, v_reset=0.0, decay_input=True), "a")
    builder.add("b", own, "first")
    builder.add("second", ir.LIF(tau=2.0, v_threshold=0.4, v_reset=0.0, decay_input=True), "b")
    builder.add("both", join or ir.Mul(), "first", "second")
    builder.add("c", own, "both")
    builder.add("last", ir.LIF(tau=2.0, v_threshold=0.4, v_reset=0.0, decay_input=True), "c")
    return builder.finish("last")


@pytest.mark.parametrize("name", ["ms_resnet_tcja_digits.tcja", "cross_convolution_digits.tcja", "logic"])
def test_delays_and_programs_are_those_of_the_schedule(name: str) -> None:
    graph = logic() if name == "logic" else load(data.path(name))
    network = quantise(graph, [frames_of(graph)], LavaOptions()).network
    times = schedule(network)
    held = sorted(delay for time in times.values() for delay in time.delays if delay)
    waits = [s for s in network.stages if isinstance(s, GateStage | ProgramStage) and duration(s)]
    found = additions(graph)
    assert sorted(a.steps for a in found if a.kind == "delay") == held
    assert sorted(a.node for a in found if a.kind == "program") == sorted(s.name for s in waits)
    assert all(a.steps == graph.T - 1 for a in found if a.kind == "program")


def test_a_product_of_spikes_is_logic_behind_a_delay() -> None:
    assert additions(logic()) == (
        Addition("delay", "both", "first", 6, 1),
        Addition("logic", "both", "both", 6),
    )


def test_relays_are_those_whose_sums_are_sent_on(residual: Graph) -> None:
    network = quantise(residual, [frames_of(residual)], LavaOptions()).network
    sent = {stage.name for stage in network.stages if isinstance(stage, RelayStage)}
    for found in additions(residual):
        if found.kind == "relay":
            folded = found.node.rpartition(".")[0] + ".0"  # the lowering folds normalisation into its layer
            assert {found.node, folded} & sent


@pytest.mark.parametrize("chip", ["loihi1", "loihi2", "spinnaker2", "speck", "truenorth"])
def test_relays_are_the_neurons_of_a_layer(residual: Graph, chip: str) -> None:
    fit = place(take_inventory(residual), load_profile(chip))
    relays = [a for a in fit.added if a.addition.kind == "relay"]
    assert [a.addition.elements for a in relays] == [4624, 4624, 2592, 1600]
    assert all(a.addition.layer in a.where and a.cores == 0 for a in relays)
    assert ("32 bits" in relays[0].where) == (chip == "loihi2")
    programs = [a for a in fit.added if a.addition.kind == "program"]
    assert len(programs) == 3
    assert all(a.cores == 0 and "embedded" in a.where for a in programs)


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_logic_and_sums_of_spikes_need_cores_of_their_own(chip: str) -> None:
    profile = load_profile(chip)
    most = int(profile.limits.neurons_per_core.value or 0)  # type: ignore[union-attr]
    fit = place(take_inventory(logic(3 * most - 1)), profile)
    (joined,) = (a for a in fit.added if a.addition.kind == "logic")
    assert joined.cores == 3
    added = place(take_inventory(logic(3 * most - 1, ir.Add())), profile).added
    (relay,) = (a for a in added if a.addition.kind == "relay")
    assert (relay.cores, relay.addition.layer) == (3, "")


def test_what_has_no_price_is_counted_and_listed(residual: Graph) -> None:
    recordings = open_data(residual, frames_of(residual)[:, [0, 1, 0]])
    measured: Measured = measure_model(residual, [recordings]).measured
    lines = snn_lines(measured, load_profile("loihi2"))
    relays = {line.node: line for line in lines if line.what == "graded spikes of a relay"}
    assert relays["1.blocks.0.add"].ops.mean == 4624 * residual.T
    held = [line for line in lines if line.what == "values held back, times steps"]
    assert [line.ops.mean / residual.T for line in held] == [2 * 4624, 2592, 1600]
    assert all(line.price.pJ is None and line.price.reason for line in (*relays.values(), *held))
