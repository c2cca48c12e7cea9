"""Counts against plain loops, and the promises of the recorder: any batch size, any order, any shards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.errors import DataError, FileFormatError, UsageError
from tcja_deploy.ir import GraphBuilder, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.signal import Kind
from tcja_deploy.runtime.activity.axes import frame_order, frame_shape
from tcja_deploy.runtime.activity.collect import (
    Joined,
    Workers,
    collect,
    workers,
)
from tcja_deploy.runtime.activity.file import load_activity, save_activity
from tcja_deploy.runtime.activity.measures import Measure
from tcja_deploy.runtime.activity.record import Activity, Recorder, Watch
from tcja_deploy.runtime.sequence import run

PAYLOADS = np.array([0, 0, 0, 0, 1, 1, -1, 2, -3, 0.5, -0.25, 1000003], np.float32)


def slow_counts(x: np.ndarray, weights: np.ndarray) -> dict[Measure, np.ndarray]:
    """The definition of every measure, element by element, in Python integers; `x` is `[T, n, ...]`."""
    T, n = x.shape[:2]
    weights = np.broadcast_to(weights, (T, *x.shape[2:]))
    found = {m: np.zeros((n, T), np.int64) for m in Measure}
    for index in np.ndindex(*x.shape):
        t, sample, *position = index
        value, w = float(x[index]), int(weights[(t, *position)])
        if value != 0:
            found[Measure.NONZERO][sample, t] += w
            found[Measure.UNIT][sample, t] += w * (abs(value) == 1)
            if value.is_integer():
                found[Measure.INTEGER][sample, t] += w
                found[Measure.PAYLOAD][sample, t] += w * int(abs(value))
    return found


@st.composite
def recordings(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    T, n = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    features = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    binary = draw(st.booleans())
    x = rng.choice(PAYLOADS[:5] if binary else PAYLOADS, (T, n, *features))
    maps = {}
    for i in range(draw(st.integers(0, 2))):
        shape = tuple(d if draw(st.booleans()) else 1 for d in (T, *features))
        maps[f"map{i}"] = rng.integers(0, 7, shape, dtype=np.int64)
    return x, maps


@settings(max_examples=60, deadline=None)
@given(recordings())
def test_every_count_equals_the_loop(case: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    x, maps = case
    recorder = Recorder([Watch("v", x.shape[2:], len(x), maps)])
    recorder.begin(range(x.shape[1]))
    recorder.add("v", x)
    value = recorder.finish()["v"]
    for key, weights in {"": np.ones((1,) * (x.ndim - 1), np.int64), **maps}.items():
        for measure, counts in slow_counts(x, weights).items():
            assert np.array_equal(value.counts(measure, key), counts), (key, measure)
    assert np.array_equal(value.neurons, (x != 0).sum((0, 1)))


@settings(max_examples=40, deadline=None)
@given(recordings(), st.randoms(use_true_random=False))
def test_frames_batches_order_and_shards_do_not_matter(case, random) -> None:
    x, maps = case
    T, n = x.shape[:2]
    watch = Watch("v", x.shape[2:], T, maps)
    whole = Recorder([watch], {"model": "m"})
    whole.begin(range(n))
    whole.add("v", torch.from_numpy(x))
    order = list(range(n))
    random.shuffle(order)
    shards = []
    while order:
        cut = random.randint(1, len(order))
        part, order = order[:cut], order[cut:]
        recorder = Recorder([watch], {"model": "m"})
        while part:
            size = random.randint(1, len(part))
            batch, part = part[:size], part[size:]
            recorder.begin(batch)
            steps = list(range(T))
            random.shuffle(steps)
            for t in steps:
                recorder.add("v", x[t : t + 1, batch], t)
        shards.append(recorder.finish())
    random.shuffle(shards)
    assert Activity.merge(shards).same_as(whole.finish())


@settings(max_examples=40, deadline=None)
@given(recordings(), st.sampled_from([np.float32, np.int32, np.bool_, np.float64]))
def test_the_binary_path_counts_the_same_and_is_left_where_the_promise_is_broken(case, dtype) -> None:
    x, maps = case
    x = (x > 0).astype(dtype)
    for values in (x, x * 3 if dtype is not np.bool_ else x, -x.astype(np.float32)):
        found = []
        for binary in (False, True):
            recorder = Recorder([Watch("v", x.shape[2:], len(x), maps, binary)])
            recorder.begin(range(x.shape[1]))
            recorder.add("v", values)
            found.append(recorder.finish())
        assert found[0].same_as(found[1])


def test_payloads_beyond_float_sums_stay_exact() -> None:
    # 2**24 and 1: a float32 sum would lose the ones.
    x = np.full((1, 1, 3, 300, 300), 1, np.float32)
    x[0, 0, 0, 0, 0] = 2**24
    recorder = Recorder([Watch("v", (3, 300, 300), 1, {"f": np.full((1, 1, 300, 1), 10**9, np.int64)})])
    recorder.begin([0])
    recorder.add("v", x)
    value = recorder.finish()["v"]
    assert value.counts(Measure.PAYLOAD).item() == 2**24 + 270_000 - 1
    assert value.counts(Measure.NONZERO, "f").item() == 270_000 * 10**9


def test_integer_twin_arrays_count_like_floats() -> None:
    x = np.array([[[0, 1, -64, 7]]], np.int32)
    recorder = Recorder([Watch("v", (4,), 1)])
    recorder.begin([0])
    recorder.add("v", x)
    value = recorder.finish()["v"]
    assert [value.counts(m).item() for m in Measure] == [3, 1, 3, 72]


def two_layers() -> tuple[object, np.ndarray]:
    rng = np.random.default_rng(3)
    b = GraphBuilder(T=5)
    x = b.add("input", ir.Input((2, 6, 6)))
    x = b.add("conv", ir.Conv2d(rng.normal(0, 1, (4, 2, 3, 3)).astype(np.float32), padding=(1, 1, 1, 1)), x)
    x = b.add("lif", ir.LIF(), x)
    x = b.add("mean", ir.TimeMean(), x)
    return b.finish(x), rng.integers(0, 3, (7, 5, 2, 6, 6)).astype(np.float32)


class Stored:
    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, None]:
        return self.frames[index], None


def watches(graph) -> list[Watch]:
    return [Watch(n.name, n.signal.features, frame_shape(n.signal, graph.T)[0]) for n in graph]


def test_collect_equals_one_run_and_adds_up_over_processes() -> None:
    graph, frames = two_layers()
    whole = collect(graph, Stored(frames), watches(graph), batch_size=3)
    spikes = {}
    run(graph, frames.swapaxes(0, 1), observe=lambda node, y: spikes.update({node.name: y.numpy()}))
    assert np.array_equal(whole["lif"].counts(), (spikes["lif"] != 0).sum((2, 3, 4)).T)
    assert np.array_equal(whole["mean"].counts()[:, 0], (spikes["mean"] != 0).sum((1, 2, 3)))
    done: list[int] = []
    parts = []
    for rank in range(3):
        shared = Workers(rank, 3)
        mine = [i for r in shared.batches(7, 2) for i in r]
        recorder = Recorder(watches(graph))
        for batch in shared.batches(7, 2):
            values = {}
            run(
                graph,
                frames[list(batch)].swapaxes(0, 1),
                observe=lambda n, y, v=values: v.update({n.name: y}),
            )
            recorder.begin(list(batch))
            for name, y in values.items():
                recorder.add(name, y[None] if name == "mean" else y)
        parts.append(recorder.finish())
        done += mine
    assert sorted(done) == list(range(7))
    assert Activity.merge(parts).same_as(whole)


WORKER = """
import sys, numpy as np
sys.path.insert(0, {tests!r})
from test_activity import Stored, two_layers, watches
from tcja_deploy.runtime.activity.collect import collect, workers
from tcja_deploy.runtime.activity.file import save_activity
from pathlib import Path
graph, frames = two_layers()
origin = {{"model": graph.hash}}
with workers() as shared:
    assert shared.count == 2
    activity = collect(graph, Stored(frames), watches(graph), batch_size=2, origin=origin, shared=shared)
    save_activity(activity, Path({out!r}) / f"rank{{shared.rank}}.npz")
"""


@pytest.mark.slow
def test_two_gloo_processes_hold_the_counts_of_one(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent), out=str(tmp_path)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    graph, frames = two_layers()
    alone = collect(graph, Stored(frames), watches(graph), batch_size=2, origin={"model": graph.hash})
    for rank in range(2):
        assert load_activity(tmp_path / f"rank{rank}.npz").same_as(alone)


@pytest.mark.parametrize("size", ["2", "many"])
def test_variables_of_a_job_scheduler_are_no_torchrun(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with workers() as shared:
        assert (shared.rank, shared.count) == (0, 1)


def test_joined_data_sets_are_numbered_through() -> None:
    graph, frames = two_layers()
    done: list[int] = []
    joined = Joined([Stored(frames[:3]), Stored(frames[3:3]), Stored(frames[3:])])
    activity = collect(graph, joined, watches(graph), batch_size=2, progress=done.append)
    assert activity.same_as(collect(graph, Stored(frames), watches(graph), batch_size=2))
    assert done == [2, 4, 6, 7]
    with pytest.raises(IndexError):
        joined[7]


def test_axes_of_any_signal_come_in_frame_order() -> None:
    signal = Signal(("N", 3, "T", 7), Kind.REAL)
    assert frame_order(signal) == (2, 0, 1, 3)
    assert frame_shape(signal, 9) == (9, (3, 7))
    assert frame_shape(Signal(("N", 5), Kind.REAL), 9) == (1, (5,))
    with pytest.raises(DataError, match="no axis of samples"):
        frame_order(Signal(("T", 3), Kind.REAL))


def small(origin: str = "m", ids: tuple[int, ...] = (0, 1)) -> Activity:
    recorder = Recorder([Watch("v", (3,), 2, {"f": np.arange(3, dtype=np.int64)[None]})], {"model": origin})
    recorder.begin(ids)
    recorder.add("v", np.array([[[0, 1, 2]] * len(ids)] * 2, np.float32))
    return recorder.finish()


def test_file_round_trip(tmp_path: Path) -> None:
    activity = small()
    save_activity(activity, tmp_path / "a.npz")
    assert load_activity(tmp_path / "a.npz").same_as(activity)


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "foreign", "unsorted", "changed"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.npz"
    save_activity(small(), path)
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("hello")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        with np.load(path) as file:
            arrays = dict(file)
        if damage == "foreign":
            arrays["header"] = np.array('{"format": "other"}')
        elif damage == "changed":
            arrays["table0"][0, 0, 0, 0] += 1  # one spike more than the neurons have
        else:
            arrays["samples"] = arrays["samples"][::-1]
        np.savez(path, **arrays)
    with pytest.raises(FileFormatError):
        load_activity(path)


def test_what_cannot_be_merged() -> None:
    with pytest.raises(DataError, match="recording 1 was counted twice"):
        Activity.merge([small(), small(ids=(1, 2))])
    with pytest.raises(DataError, match="different models"):
        Activity.merge([small(), small("other", (2,))])
    with pytest.raises(DataError, match="nothing to merge"):
        Activity.merge([])


def test_misuse_is_named() -> None:
    recorder = Recorder([Watch("v", (3,), 2)])
    recorder.begin([0])
    with pytest.raises(DataError, match=r"got \[1, 1, 4\] for time step 0"):
        recorder.add("v", np.zeros((1, 1, 4)))
    with pytest.raises(DataError, match="expected"):
        recorder.add("v", np.zeros((2, 1, 3)), 1)
    recorder.add("v", np.zeros((1, 1, 3)), 1)
    with pytest.raises(DataError, match="step 1 was counted before"):
        recorder.add("v", np.zeros((1, 1, 3)), 1)
    with pytest.raises(DataError, match="v at step 0"):
        recorder.finish()
    recorder.add("v", np.full((1, 1, 3), 1.0), 0)
    recorder.add("other", np.zeros(1))  # passed over
    broken = Recorder([Watch("v", (1,), 1)])
    broken.begin([0])
    with pytest.raises(DataError, match="not finite"):
        broken.add("v", np.array([[[np.nan]]], np.float32))
    with pytest.raises(DataError, match="broadcasts"):
        Watch("v", (3,), 1, {"f": np.zeros((1, 2), np.int64)})
    with pytest.raises(DataError, match="not recorded"):
        small()["w"]
    with pytest.raises(DataError, match="not recorded"):
        small()["v"].counts(weighted_by="g")


def test_collect_refuses_nonsense() -> None:
    graph, frames = two_layers()
    with pytest.raises(UsageError, match="batch size"):
        collect(graph, Stored(frames), [], batch_size=0)
    with pytest.raises(DataError, match="no recordings"):
        collect(graph, Stored(frames[:0]), [])
    with pytest.raises(DataError, match="frames have shape"):
        collect(graph, Stored(frames[:, :4]), [])
