"""Placement against closed forms, a search over every cut, and what cannot fit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from energy_nets import one_layer, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy import zoo
from tcja_deploy.energy.count.rules import take_inventory
from tcja_deploy.energy.place.matching import one_each
from tcja_deploy.energy.place.placement import place
from tcja_deploy.hardware_profiles import Profile, load_profile
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir

RNG = np.random.default_rng(1)

HEAD = """
schema_version = 1
name = "test-chip"
title = "A chip for tests"
kind = "neuromorphic"
version = "1.0.0"
node_nm = 14
default_pricing = "none"
[sources.us]
title = "This test"
document = "tests/energy/test_placement.py"
[pricing.none]
title = "Nothing"
scope = "marginal"
precision = "native"
[pricing.none.terms]
synop_pJ = { evidence = "unknown", note = "A test." }
[limits]
"""


def chip(folder: Path, **limits: int) -> Profile:
    """A chip with some limits."""
    units = {
        "synaptic_memory_per_core": "KiB",
        "memory": "KiB",
        "weight": "bit",
        "feature_map_side": "px",
        "input_side": "px",
    }
    tail = 'source = "us", where = "here", evidence = "vendor", certainty = "A"'
    rows = "".join(f"{k}_{units.get(k, 'count')} = {{ value = {v}, {tail} }}\n" for k, v in limits.items())
    path = folder / "chip.toml"
    path.write_text(HEAD + rows)
    return load_profile(path)


def conv(c_in: int, c_out: int, size: int, kernel: int = 3) -> Graph:
    pad = kernel // 2
    return one_layer(
        ir.Conv2d(weights(RNG, c_out, c_in, kernel, kernel), padding=(pad,) * 4), (c_in, size, size)
    )


def test_neurons_alone(tmp_path: Path) -> None:
    fit = place(take_inventory(conv(2, 8, 16)), chip(tmp_path, cores=4, neurons_per_core=256))
    assert (fit.cores, fit.chips) == (8, 2)  # 2,048 neurons
    (p,) = fit.populations
    assert p.binding == "neurons"
    assert np.prod(p.slice) <= 256
    assert "axons_in_per_core" in fit.unchecked
    assert "fits on 2 chips, as far as limits are published" in fit.verdict


def test_synaptic_memory_splits_channels(tmp_path: Path) -> None:
    # 64 output channels of 64 x 3 x 3 bytes are 36 KiB; a core with 8 KiB holds 14 channels.
    fit = place(
        take_inventory(conv(64, 64, 8)),
        chip(tmp_path, cores=100, neurons_per_core=4096, synaptic_memory_per_core=8),
    )
    (p,) = fit.populations
    assert p.binding == "synaptic memory"
    assert fit.cores == p.cores == 5
    assert p.slice is not None
    assert p.slice[0] * 64 * 9 <= 8 * 1024


def test_axons_split_space(tmp_path: Path) -> None:
    # A tile of h x w needs 4 (h + 2) (w + 2) axons: at most 100 means (h + 2) (w + 2) <= 25, tiles of 3 x 3.
    fit = place(
        take_inventory(conv(4, 4, 12)),
        chip(tmp_path, cores=64, neurons_per_core=10_000, axons_in_per_core=100),
    )
    (p,) = fit.populations
    assert p.binding == "axons in"
    assert p.cores == 16


def test_output_axons_depend_on_the_reader(tmp_path: Path) -> None:
    b = GraphBuilder(T=1)
    x = b.add("input", ir.Input((4,), Kind.BINARY))
    x = b.add("a", ir.Linear(weights(RNG, 96, 4)), x)
    x = b.add("lif", ir.LIF(), x)
    graph = b.finish(b.add("b", ir.Linear(weights(RNG, 100, 96)), x))
    fit = place(take_inventory(graph), chip(tmp_path, cores=64, neurons_per_core=50, axons_out_per_core=64))
    assert fit.placed("b").slices == (2, 1, 1)
    assert fit.placed("a").slice == (32, 1, 1)  # every neuron sends to both slices of b
    assert fit.placed("a").binding == "axons out"


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(1, 7), st.sampled_from([1, 3]),
    st.integers(4, 60), st.integers(6, 80),
)  # fmt: skip
def test_the_cut_is_the_best_of_all(tmp_path_factory, c_in, c_out, size, kernel, neurons, axons) -> None:
    graph = conv(c_in, c_out, size, kernel)
    profile = chip(
        tmp_path_factory.mktemp("chip"), cores=1000, neurons_per_core=neurons, axons_in_per_core=axons
    )
    (p,) = place(take_inventory(graph), profile).populations
    best = None
    for s, h, w in itertools.product(range(1, c_out + 1), range(1, size + 1), range(1, size + 1)):
        field = c_in * min(size, h + kernel - 1) * min(size, w + kernel - 1)
        if s * h * w <= neurons and field <= axons:
            cores = -(-c_out // s) * -(-size // h) * -(-size // w)
            best = cores if best is None else min(best, cores)
    assert p.cores == best


def test_the_paper_network_on_loihi_1() -> None:
    inventory = take_inventory(zoo.build("ncaltech101"))
    fit = place(inventory, load_profile("loihi1"))
    # One neuron of fc.2 reads 17,920 inputs, a core has 4,096 axons; neurons alone would need 4,974 cores and more.
    assert "fc.2.0: axons in: at least 17,920, a core has 4,096" in fit.violations
    assert fit.chips is None
    by_neurons = sum(dict(p.alone)["neurons"] or 0 for p in fit.populations)
    assert by_neurons >= -(-5_092_965 // 1024)


@pytest.mark.parametrize(("inputs", "chips"), [(1024, 1), (1025, 2)])
def test_one_byte_too_much_needs_another_chip(tmp_path: Path, inputs: int, chips: int) -> None:
    graph = one_layer(ir.Linear(weights(RNG, 1, inputs)), (inputs,))
    fit = place(take_inventory(graph), chip(tmp_path, memory=1))
    assert fit.chips == chips


def test_between_equal_limits_the_fuller_one_binds(tmp_path: Path) -> None:
    # 128 neurons with 1,024 synapses of 8 bits: all of 128 KiB, one eighth of 1,024 neurons; one core either way.
    b = GraphBuilder(T=1)
    graph = b.finish(
        b.add("fc", ir.Linear(weights(RNG, 128, 1024)), b.add("input", ir.Input((1024,), Kind.BINARY)))
    )
    (p,) = place(
        take_inventory(graph), chip(tmp_path, neurons_per_core=1024, synaptic_memory_per_core=128)
    ).populations
    assert dict(p.alone) == {"neurons": 1, "synaptic memory": 1}
    assert p.binding == "synaptic memory"


def test_fan_in_cannot_be_split() -> None:
    fit = place(take_inventory(zoo.build("events34")), load_profile("truenorth"))
    assert "conv.3.0: 288 synapses into a neuron, the chip takes 256" in fit.violations
    assert "does not fit" in fit.verdict
    assert "more limits" in fit.verdict


def test_speck_runs_one_layer_on_a_core() -> None:
    b = GraphBuilder(T=1)
    x = b.add("input", ir.Input((2, 32, 32), Kind.BINARY))
    for i in range(3):
        x = b.add(f"conv{i}", ir.Conv2d(weights(RNG, 4, 2 if i == 0 else 4, 3, 3), padding=(1, 1, 1, 1)), x)
        x = b.add(f"lif{i}", ir.LIF(), x)
    fit = place(take_inventory(b.finish(x)), load_profile("speck"))
    assert (fit.cores, fit.chips) == (3, 1)
    large = place(take_inventory(zoo.build("ncaltech101")), load_profile("speck"))
    assert any("the input is 240 px" in v for v in large.violations)
    assert any("the map is 240 px" in v for v in large.violations)


def test_layers_that_fit_one_by_one_but_not_together() -> None:
    # Kernels of 33 KiB fit the two cores with 64 KiB alone.
    b = GraphBuilder(T=1)
    x = b.add("input", ir.Input((61, 4, 4), Kind.BINARY))
    for i in range(3):
        x = b.add(f"conv{i}", ir.Conv2d(weights(RNG, 61, 61, 3, 3), padding=(1, 1, 1, 1)), x)
        x = b.add(f"lif{i}", ir.LIF(), x)
    fit = place(take_inventory(b.finish(x)), load_profile("speck"))
    assert any("not all of them at once" in v for v in fit.violations)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=5, unique=True), min_size=1, max_size=5))
def test_matching_equals_trying_everything(options: list[list[int]]) -> None:
    found = one_each(options)
    possible = any(len(set(choice)) == len(choice) for choice in itertools.product(*options))
    assert (found is not None) == possible
    if found is not None:
        assert len(set(found)) == len(found)
        assert all(place in choice for place, choice in zip(found, options, strict=True))


def test_chips_without_published_capacity_cannot_be_told() -> None:
    fit = place(take_inventory(zoo.build("events34")), load_profile("spinnaker2"))
    assert fit.cores is None
    assert fit.chips is None
    assert "cannot be determined" in fit.verdict
    akida = place(take_inventory(zoo.build("ncaltech101")), load_profile("akida"))
    assert akida.cores is None
    assert "needs at least 2 chips" in akida.verdict  # 20.6 M weights of 4 bits, 8 MiB


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_small_network_fits_one_chip(name: str) -> None:
    fit = place(take_inventory(zoo.build("events34")), load_profile(name))
    assert fit.chips == 1
    assert fit.cores is not None
    assert fit.cores >= -(-sum(p.neurons for p in fit.populations) // (1024 if name == "loihi1" else 8192))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_the_verdict_says_what_the_profile_does_not_say_of_neurons(gated: bool, soft: bool) -> None:
    net = GraphBuilder(T=3)
    value = net.add("input", ir.Input((2, 6, 6), Kind.COUNT))
    for index in range(2):
        value = net.add(f"c{index}", ir.Conv2d(weights(RNG, 2, 2, 3, 3), padding=(1,) * 4), value)
        value = net.add(f"n{index}", ir.IF(v_reset=None if soft else 0.0), value)
        if gated and not index:
            value = net.add("gate", ir.TCJA(weights(RNG, 2, 2, 3), weights(RNG, 3, 3, 3)), value)
    inventory = take_inventory(net.finish(value))
    told = " and ".join(("graded spikes",) * gated + ("neurons that reset by subtraction",) * soft)
    fit = place(inventory, load_profile("loihi1"))
    assert fit.verdict.startswith("fits on 1 chip")
    assert fit.verdict.partition("it needs ")[2] == (told and f"{told}, which the profile does not state")
    assert (
        "graded" in place(inventory, load_profile("loihi2")).verdict
    ) is False  # it states payloads of 32 bits
