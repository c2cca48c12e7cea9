"""The integer twin as a stream equals its window form, number for number."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_nets import random_frames, random_network
from stream_graphs import run_stream

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.runtime.integers.check import compare_twin
from tcja_deploy.runtime.integers.sparse_cells import on_kernels
from tcja_deploy.runtime.integers.stream import plan_twin, stream_twin
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.stream import Estimate, FrameProfile, state_from_bytes, state_to_bytes
from tcja_deploy.runtime.stream.engine import Stepper, initial
from tcja_deploy.runtime.stream.plan import GATE


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 2),
    st.sampled_from(["both", "tla", "cla", "add"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["burst", "paced"]),
)
def test_every_spike_and_payload_is_equal(seed, gates, kind, binary, extreme, schedule):
    network = random_network(seed, gates=gates, kind=kind, binary=binary, extreme=extreme, frames=5)
    frames = np.concatenate([random_frames(network, 2, seed=s) for s in range(2)])
    plain = stream_twin(network, samples=2, schedule=schedule)
    kernels = on_kernels(plan_twin(network, schedule=schedule))
    streams = [run_stream(s, frames, windows=2) for s in (plain, Stepper(kernels, initial(kernels, 2)))]
    for w, (results, values) in product(range(2), streams):
        part = slice(5 * w, 5 * w + 5)
        expected = Twin(network).run(frames[part], record=[s.name for s in network.stages])
        assert np.array_equal(results[w].numpy(), expected.values)
        for name, recorded in expected.recorded.items():
            assert np.array_equal(values[name][part], recorded), name


@pytest.mark.parametrize("name", ["output", "input", "host", "output:mean", "output:frame"])
@pytest.mark.parametrize("where", [0, -1])
def test_layers_may_be_called_like_parts_of_the_stream(name, where):
    network = random_network(4, gates=1, frames=5)
    stages = [replace(stage, inputs=()) for stage in network.stages]
    stages[where] = replace(stages[where], name=name, inputs=())
    network = replace(network, stages=tuple(stages))
    agreement = compare_twin(network, [random_frames(network, 3)])
    assert agreement.layers[where].name == name
    assert agreement.layers[where].spikes > 0
    assert agreement.mismatches == 0
    stages[where] = replace(stages[where], name=":output", inputs=())
    with pytest.raises(UsageError, match="the names of nodes"):
        stream_twin(replace(network, stages=tuple(stages)))


@pytest.mark.parametrize("kernels", [False, True])
def test_a_state_can_be_saved_and_restored(kernels):
    network = random_network(3, gates=2)

    def stream_twin(network):
        plan = on_kernels(plan_twin(network)) if kernels else plan_twin(network)
        return Stepper(plan, initial(plan))

    frames = np.concatenate([random_frames(network, 1, seed=s) for s in range(2)])
    stepper = stream_twin(network)
    for f in frames[:5]:
        stepper.push(f)
    other = stream_twin(network)
    other.state = state_from_bytes(other.plan, state_to_bytes(stepper.state))
    after = [[e.value.tolist() for e in s.push(f)] for f in frames[5:] for s in (stepper, other)]
    assert after[::2] == after[1::2]
    assert sum(map(len, after[::2])) == 2


@pytest.mark.parametrize("kind", ["both", "tla", "cla"])
@pytest.mark.parametrize("linear", [None, False, True])
def test_lookahead_gates_use_the_truth_so_far_and_the_estimate(kind, linear):
    network = random_network(11, gates=1, kind=kind)
    gate = next(s for s in network.stages if s.name == "gate0")
    T, C, area = network.frames, gate.in_shape[0], int(np.prod(gate.in_shape[1:]))
    rng, frames = np.random.default_rng(0), random_frames(network, 2)
    profile = None
    if linear is not None:
        mean, past = (rng.random((T, C)).astype(np.float32) for _ in range(2))
        e = Estimate(mean, past, rng.normal(0, 0.3, (T, T)).astype(np.float32) if linear else None)
        profile = FrameProfile({"gate0": e})
    for D in range(T):
        stepper, gates, counts = stream_twin(network, lookahead=D, profile=profile, samples=2), [], []
        source = next(link.inputs[0] for link in stepper.plan.links if link.name == "gate0" + GATE)
        seen = {"gate0" + GATE: gates, source: counts}
        for f in frames:
            stepper.push(f, observe=lambda name, i, v, seen=seen: seen.get(name, []).append(v.numpy()))
        z = np.stack(counts).sum((3, 4)).astype(np.int64)
        for j in range(T):
            ahead = (
                D if gate.cla is not None else min(D, gate.tla.shape[2] - 1 - (gate.tla.shape[2] - 1) // 2)
            )
            known = min(j + ahead, T - 1)
            window = z.copy()
            window[known + 1 :] = 0
            if profile is not None:
                guess = mean[known + 1 :, None].repeat(2, 1)
                if linear:
                    guess = guess + e.slope[known, known + 1 :, None, None] * (
                        z[: known + 1].sum(0) / (area * (known + 1)) - past[known]
                    ).astype(np.float32)
                window[known + 1 :] = np.rint(guess * area)
            assert np.array_equal(gates[j], window_gates(gate, window, area)[j]), (D, j)


def window_gates(gate, counts, area):
    from tcja_deploy.runtime.integers.gate_arithmetic import gate_values

    values = gate_values(
        counts.transpose(1, 0, 2),
        area,
        gate.tla,
        gate.cla,
        gate.fusion,
        gate.fraction,
        gate.index_bits,
        gate.table,
    )
    return values.transpose(1, 0, 2)


def test_frames_it_was_not_made_for_are_refused():
    network = random_network(1, binary=True)
    with pytest.raises(DataError, match="other than 0 and 1"):
        stream_twin(network).push(np.full((1, *network.host_input.shape), 2.0, np.float32))
    with pytest.raises(UsageError):
        stream_twin(network, lookahead=network.frames)
