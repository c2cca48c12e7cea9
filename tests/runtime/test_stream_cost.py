"""Latency, memory and work of a stream, and how far look-ahead streams stray."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integer_nets import random_frames as integer_frames
from integer_nets import random_network
from stream_graphs import graphs, random_frames, run_stream

from tcja_deploy import zoo
from tcja_deploy.errors import DataError, FileFormatError, UsageError
from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import (
    Stepper,
    fit,
    initial,
    load_profile,
    measure,
    plan,
    save_profile,
    stream,
    sweep,
    timing,
)  # fmt: skip
from tcja_deploy.runtime.stream.decision import outcome
from tcja_deploy.runtime.stream.plan import GATE
from tcja_deploy.runtime.synthetic import synthetic_frames

T, C, K_T, K_C = 5, 4, 2, 3


@pytest.fixture(scope="module")
def graph():
    """Conv, IF, TCJA, max-pooling, conv, IF, TCJA, mean over time; all sizes known."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((2, 8, 8), Kind.BINARY))
    for i, c in ((1, 2), (2, C)):
        x = b.add(
            f"conv{i}",
            ir.Conv2d(rng.normal(0.2, 1, (C, c, 3, 3)).astype(np.float32), padding=(1, 1, 1, 1)),
            x,
        )
        x = b.add(f"spikes{i}", ir.IF(), x)
        tla = rng.normal(0, 1, (C, C, K_T)).astype(np.float32)
        x = b.add(f"block{i}", ir.TCJA(tla, rng.normal(0, 1, (T, T, K_C)).astype(np.float32)), x)
        if i == 1:
            x = b.add("pool", ir.MaxPool2d((2, 2), (2, 2)), x)
    return b.finish(b.add("mean", ir.TimeMean(), b.add("flat", ir.Flatten(), x)))


@pytest.fixture(scope="module")
def frames(graph):
    return random_frames(graph, 1, 3, seed=0)


GATE_MACS = C * C * K_T + T * C * K_C
CONV1, CONV2 = 2 * 9 * C * 64, C * 9 * C * 16
SCALE1, SCALE2 = C * 16, C * 16  # the first one behind the pooling


def test_paced_work_is_the_same_at_every_step(graph, frames):
    cost = measure(plan(graph, schedule="paced"), frames)
    assert {s.macs for s in cost.steps} == {CONV1 + CONV2 + 2 * GATE_MACS + SCALE1 + SCALE2}
    assert cost.latency == 2 * (T - 1)


def test_an_exact_burst_does_the_late_half_of_the_work_in_the_last_step(graph, frames):
    cost = measure(plan(graph), frames)
    early, late = CONV1 + GATE_MACS, SCALE1 + CONV2 + GATE_MACS + SCALE2
    assert [s.macs for s in cost.steps] == [early] * (T - 1) + [early + T * late]
    assert cost.latency == 0


def test_synaptic_operations_are_macs_times_the_rate_of_the_input(graph, frames):
    cost, seen = measure(plan(graph, schedule="paced"), frames), {}
    run(graph, frames, observe=lambda node, x: seen.update({node.name: float((x != 0).float().mean())}))
    expected = T * (seen["input"] * CONV1 + seen["pool"] * CONV2)
    assert sum(s.sops for s in cost.steps) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("lookahead", "schedule"), [(None, "burst"), (None, "paced"), (2, "burst"), (0, "paced")]
)
def test_bytes_of_blocks(graph, frames, lookahead, schedule):
    cost = measure(plan(graph, lookahead=lookahead, schedule=schedule), frames)
    D = T - 1 if lookahead is None else lookahead
    r = min(D, K_T - 1 - (K_T - 1) // 2)
    first, second = cost.blocks
    assert (first.lag_in, first.lag) == (0, D)
    assert (second.lag_in, second.lag) == (D, min(2 * D, T - 1) if schedule == "burst" else 2 * D)
    for block in (first, second):
        assert (block.lookahead, block.exact_lookahead) == (D, T - 1)
        assert block.gate_state == 4 * C * (K_T + (D - r) + T)
        assert block.held == math.ceil(D * math.ceil(3 * C * 16 / 8) / 3)  # binary, pooled, batch of 3
        assert block.held_unpacked == D * 4 * C * 16
    values = (
        128 + 2 * 256 + C + 2 * 64 + 2 * 64 + C + 2 * 64
    )  # the first block's frame exists behind the pooling only
    assert cost.naive == 4 * (T * values + 64)
    assert cost.membranes == 4 * (256 + 64)


def test_packed_spikes_take_a_thirtysecond(graph, frames):
    cost = measure(plan(graph), frames)
    assert cost.blocks[0].held_unpacked == 32 * cost.blocks[0].held


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.data())
def test_paced_values_appear_when_the_timing_says(graph, data):
    network = plan(graph, lookahead=data.draw(st.none() | st.integers(0, graph.T - 1)), schedule="paced")
    when, step, seen = timing(network), 0, {}
    stepper = Stepper(network, initial(network))
    for step in range(max(when.first.values()) + 2 * graph.T):
        stepper.push(
            random_frames(graph, 1, 1, 0)[0],
            observe=lambda name, i, x, step=step: seen.setdefault(name, []).append(step),
        )
    for name, steps in seen.items():
        period = 1 if network.signals[name].streams else graph.T
        if not name.endswith(GATE):  # at the end of a window a gate gives all that is left, which then waits
            links = [link for link in network.links if link.name == name]
            burst = links and network.signals[name].streams and not links[0].per_frame
            if not burst:
                assert steps[:2] == [when.first[name], when.first[name] + period][: len(steps)], name
        assert steps[0] == when.first[name]


def test_the_twin_is_measured_like_the_graph():
    network = random_network(5, gates=1)
    cost = measure(plan_twin(network, schedule="paced"), integer_frames(network, 2))
    assert cost.latency == network.frames - 1
    assert len({s.macs for s in cost.steps}) == 1
    assert cost.membranes > 0


# -- sweep -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def net():
    return zoo.build("events34", T=5, channels=(4, 6, 6), hidden=16)


def test_the_longest_lookahead_is_exact_and_shorter_ones_are_measured(net):
    batches = [(synthetic_frames(net, n, seed=n), np.arange(n)) for n in (3, 2)]
    profiles = {"zeros": None, "mean": fit(net, [b[0] for b in batches])}
    rows = sweep(net, batches, lookaheads=[0, 4], profiles=profiles)
    assert [(r.lookahead, r.estimate, r.latency) for r in rows] == [
        (0, "zeros", 0), (0, "mean", 0), (4, "zeros", 8), (4, "mean", 8)
    ]  # fmt: skip
    for row in rows[2:]:
        assert (row.mismatch, row.worst_gate_error, row.agreement) == (0.0, (0.0, 0.0), 1.0)
        assert row.decision == net.T  # nothing is known before the last frame
        assert row.running_accuracy[:-1] == (None,) * (len(row.running_accuracy) - 1)
    assert rows[0].samples == 5
    assert rows[0].running_accuracy[-1] == rows[0].accuracy
    expected, got, gates = {}, {}, {}
    for frames, _ in batches:
        _, exact = run_stream(stream(net, samples=frames.shape[1]), frames)
        _, early = run_stream(stream(net, lookahead=0, samples=frames.shape[1]), frames)
        for node in net.neurons:
            expected[node.name] = expected.get(node.name, 0) + int((exact[node.name] != 0).sum())
            got[node.name] = got.get(node.name, 0) + int((exact[node.name] != early[node.name]).sum())
        name = "conv.5" + GATE
        gates.setdefault("conv.5", []).append(np.abs(exact[name] - early[name]).ravel())
    assert {n: (s, m) for n, (s, m, _) in rows[0].spikes.items()} == {n: (expected[n], got[n]) for n in got}
    error = np.concatenate(gates["conv.5"])
    assert rows[0].gate_error["conv.5"] == pytest.approx((error.max(), error.mean()))
    assert rows[0].mismatch > 0


def test_time_to_decision():
    """A network whose running mean is its input: the prediction changes after a known frame."""
    b = GraphBuilder(4)
    x = b.add("input", ir.Input((2,), Kind.COUNT))
    graph = b.finish(b.add("mean", ir.TimeMean(), x))
    frames = np.zeros((4, 4, 2), np.float32)
    frames[:, 0, 1] = 1  # class 1 from the first frame on
    frames[0, 1, 0], frames[1:, 1, 1] = 1, 1  # tie after two frames (argmax 0), class 1 after three
    frames[0, 2, 1], frames[1:, 2, 0] = 1.5, 1  # class 1, then 1, then 0 for good after the third frame
    frames[:, 3] = [[0, 1], [2, 0], [0, 2], [0, 1]]  # class 1, then 0, then 1 for good after the third frame
    (row,) = sweep(graph, [(frames, np.array([1, 1, 1, 1]))], lookaheads=[0], profiles={"zeros": None})
    assert row.decision == (1 + 3 + 3 + 3) / 4
    assert row.running_accuracy == (3 / 4, 2 / 4, 3 / 4, 3 / 4)
    assert row.accuracy == 3 / 4
    ones, done = np.ones(3, np.int64), []
    batches = [(frames[:, :3], ones), (frames[:, 3:], ones[:1])]
    found = outcome(lambda samples: stream(graph, samples=samples), False, batches, done.append)
    assert (found.samples, found.accuracy, found.decision, found.steps) == (4, 3 / 4, 10 / 4, 4)
    assert found.milliseconds > 0
    assert done == [3, 4]
    unlabelled = outcome(lambda samples: stream(graph, samples=samples), False, [(frames, None)])
    assert (unlabelled.accuracy, unlabelled.decision) == (None, 10 / 4)
    with pytest.raises(DataError, match="no recordings"):
        outcome(lambda samples: stream(graph, samples=samples), False, [])


def test_sweeps_without_data_or_labels(net):
    with pytest.raises(DataError, match="no recordings"):
        sweep(net, [], lookaheads=[0], profiles={"zeros": None})
    with pytest.raises(UsageError):
        sweep(net, [], lookaheads=[9], profiles={"zeros": None})
    (row,) = sweep(net, [(synthetic_frames(net, 2), None)], lookaheads=[1], profiles={"zeros": None})
    assert row.accuracy is None
    assert 0 <= row.agreement <= 1


def test_profiles_as_files(net, tmp_path):
    profile = fit(net, [synthetic_frames(net, 4)], linear=True)
    save_profile(profile, tmp_path / "p.safetensors")
    again = load_profile(net, tmp_path / "p.safetensors")
    assert all(np.array_equal(a, again.arrays()[name]) for name, a in profile.arrays().items())
    assert plan(net, lookahead=1, profile=again).identity == plan(net, lookahead=1, profile=profile).identity
    with pytest.raises(FileFormatError, match="profile"):
        load_profile(zoo.build("events34", T=4, channels=(4, 6, 6)), tmp_path / "p.safetensors")
    (tmp_path / "bad").write_bytes(b"no profile at all")
    for name, reason in {"bad": "not a readable profile", "missing": "no such profile"}.items():
        with pytest.raises(FileFormatError, match=reason):
            load_profile(net, tmp_path / name)


def test_membranes_are_those_of_all_neurons_and_integrators():
    """Two layers of 3 and 5 currents and membranes, in float32; the running mean at the end is none."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((4,), Kind.BINARY))
    for i, width in ((1, 3), (2, 5)):
        x = b.add(f"fc{i}", ir.Linear(rng.normal(0, 1, (width, b.signal(x).size)).astype(np.float32)), x)
        x = b.add(f"current{i}", ir.LI(0.5), x)
        x = b.add(f"spikes{i}", ir.LIF(), x)
    readout = b.finish(b.add("mean", ir.TimeMean(), b.add("membrane", ir.LI(0.25), x)))
    for schedule in ("burst", "paced"):
        cost = measure(plan(readout, schedule=schedule), random_frames(readout, 2, 3, seed=0))
        assert cost.membranes == 4 * (2 * 3 + 2 * 5 + 5)


def test_work_is_counted_when_it_is_done():
    """A layer behind an op that needs the window: paced, it works once per step, in a burst T times at the end."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((4,), Kind.BINARY))
    x = b.add("time last", ir.Permute((1, 2, 0)), x)
    x = b.add("time first", ir.Permute((2, 0, 1)), x)
    x = b.add("fc", ir.Linear(rng.normal(0, 1, (3, 4)).astype(np.float32)), x)
    graph = b.finish(b.add("spikes", ir.IF(), x))
    frames = np.ones((T, 1, 4), np.float32)
    assert [s.macs for s in measure(plan(graph, schedule="paced"), frames).steps] == [12] * T
    burst = measure(plan(graph), frames).steps
    assert [s.macs for s in burst] == [0] * (T - 1) + [12 * T]
    assert sum(s.sops for s in burst) == 12 * T
