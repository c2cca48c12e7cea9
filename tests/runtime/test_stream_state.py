"""The state of a stream as a value: snapshots, bytes, other processes; nothing leaks from window to window."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save
from stream_graphs import graphs, random_frames

from tcja_deploy import zoo
from tcja_deploy.errors import FileFormatError
from tcja_deploy.ir import Kind
from tcja_deploy.ir_file import save_graph
from tcja_deploy.runtime.stream import initial, state_from_bytes, state_to_bytes, stream
from tcja_deploy.runtime.stream.packing import pack, unpack
from tcja_deploy.runtime.synthetic import synthetic_frames


@pytest.fixture(scope="module")
def graph():
    return zoo.build("events34", T=6, channels=(4, 6, 6), hidden=16)


@pytest.fixture(scope="module")
def frames(graph):
    return np.concatenate([synthetic_frames(graph, 1, seed=s) for s in range(3)])


OPTIONS = [{}, {"lookahead": 2}, {"schedule": "paced"}, {"lookahead": 1, "schedule": "paced"}]


def values(stepper, frames):
    return [(e.window, e.frame, e.value.numpy().tobytes()) for f in frames for e in stepper.push(f)]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("pushed", [0, 4, 6, 9])
def test_saved_mid_window_and_restored_it_goes_on_identically(graph, frames, options, pushed):
    stepper = stream(graph, **options)
    for f in frames[:pushed]:
        stepper.push(f)
    other = stream(graph, **options)
    other.state = state_from_bytes(other.plan, state_to_bytes(stepper.state))
    assert values(other, frames[pushed:]) == values(stepper, frames[pushed:])


@settings(max_examples=30)
@given(graphs(), st.sampled_from(["burst", "paced"]), st.data())
def test_states_of_random_networks_come_back_at_any_time(network, schedule, data):
    ahead = data.draw(st.none() | st.integers(0, network.T - 1))
    one, other = (stream(network, lookahead=ahead, schedule=schedule, samples=2) for _ in range(2))
    for f in random_frames(network, 3, 2, seed=0):
        emitted = [e.value.numpy().tobytes() for e in one.push(f)]
        assert [e.value.numpy().tobytes() for e in other.push(f)] == emitted
        other.state = state_from_bytes(other.plan, state_to_bytes(other.state))


def test_another_process_goes_on_identically(graph, frames, tmp_path):
    stepper = stream(graph, lookahead=3)
    for f in frames[:8]:
        stepper.push(f)
    save_graph(graph, tmp_path / "model.tcja")
    (tmp_path / "state").write_bytes(state_to_bytes(stepper.state))
    np.save(tmp_path / "rest.npy", frames[8:])
    code = (
        "import sys, json, numpy as np\n"
        "from tcja_deploy.ir_file import load_graph\n"
        "from tcja_deploy.runtime.stream import *\n"
        "from pathlib import Path\n"
        "folder = Path(sys.argv[1])\n"
        "s = stream(load_graph(folder / 'model.tcja'), lookahead=3)\n"
        "s.state = state_from_bytes(s.plan, (folder / 'state').read_bytes())\n"
        "out = [e for f in np.load(folder / 'rest.npy') for e in s.push(f)]\n"
        "print(json.dumps([[e.window, e.frame, e.value.tolist()] for e in out]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    mine = [[e.window, e.frame, e.value.tolist()] for f in frames[8:] for e in stepper.push(f)]
    assert len(mine) == 2
    assert json.loads(done.stdout) == mine


def test_a_kept_state_never_changes_and_clones_go_their_own_way(graph, frames):
    stepper = stream(graph)
    for f in frames[:4]:
        stepper.push(f)
    kept, before = stepper.state, state_to_bytes(stepper.state)
    clone = stepper.clone()
    straight = values(stepper, frames[4:12])
    assert state_to_bytes(kept) == before
    assert state_to_bytes(clone.state) == before
    clone.push(frames[17])
    stepper.state = kept
    assert values(stepper, frames[4:12]) == straight


def test_nothing_leaks_from_one_window_into_the_next(graph, frames):
    stepper = stream(graph)
    fresh = initial(stepper.plan)
    for f in frames[: graph.T]:
        stepper.push(f)
    after = stepper.state
    assert after.clocks == fresh.clocks
    assert after.queues == fresh.queues
    for name, cell in fresh.cells.items():
        assert all(torch.equal(after.cells[name][part], t) for part, t in cell.items()), name
    for f in frames[:3]:  # a recording that breaks off
        stepper.push(f)
    stepper.state = fresh
    alone = stream(graph)
    second = slice(graph.T, 2 * graph.T)
    assert [v[2] for v in values(stepper, frames[second])] == [v[2] for v in values(alone, frames[second])]


def test_bytes_that_are_no_state_of_this_stream_are_refused(graph, frames):
    stepper = stream(graph)
    for f in frames[:3]:
        stepper.push(f)
    data = state_to_bytes(stepper.state)
    with pytest.raises(FileFormatError, match="another network"):
        state_from_bytes(stream(graph, lookahead=1).plan, data)
    for bad in (b"", data[:100], data[:-3], b"\0" * 64):
        with pytest.raises(FileFormatError):
            state_from_bytes(stepper.plan, bad)


def waiting(about):
    """The first queue in which something waits."""
    return next(q for q in about["queues"] if q["items"])


def lengthen(about, tensors):
    """One byte more than the first frame that waits needs."""
    name = f"queue/{about['queues'].index(waiting(about))}/0"
    tensors[name] = np.append(tensors[name], np.zeros(1, tensors[name].dtype))


@pytest.mark.parametrize(
    "change",
    [
        lambda about, tensors: about.update(samples=10**12),
        lambda about, tensors: about.update(samples=2**62),
        lambda about, tensors: about.update(samples=0),
        lambda about, tensors: about.update(pushed=-5),
        lambda about, tensors: about.update(pushed=4),  # the frames that wait say 3
        lambda about, tensors: about["given"].update({"conv.1": 2}),
        lambda about, tensors: about["given"].clear(),
        lambda about, tensors: about["queues"].pop(),
        lambda about, tensors: about["queues"].append(about["queues"][0]),
        lambda about, tensors: waiting(about).update(items=[]),
        lambda about, tensors: waiting(about)["items"][0].update(dtype="os.path"),
        lambda about, tensors: waiting(about)["items"][0].update(dtype="int8"),
        lambda about, tensors: about["clocks"].update({"conv.1": 6}),
        lambda about, tensors: about.update(version=2),
        lambda about, tensors: about.update(queues=7),
        lambda about, tensors: tensors.update({"cell/conv.1/v": np.zeros((1, 2, 3), np.float32)}),
        lambda about, tensors: tensors.pop("cell/conv.1/v"),
        lambda about, tensors: waiting(about)["items"][0].update(shape=[1, 6, 9, 9]),
        lengthen,
    ],
)
def test_tampered_states_are_refused(graph, frames, change):
    stepper = stream(graph)
    for f in frames[:3]:
        stepper.push(f)
    tensors = {k: v.copy() for k, v in load(state_to_bytes(stepper.state)).items()}
    about = json.loads(tensors.pop("about").tobytes())
    change(about, tensors)
    tensors["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with pytest.raises(FileFormatError):
        state_from_bytes(stepper.plan, save(tensors))


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(max_dims=4),
        elements=st.one_of(st.sampled_from([0.0, 1.0, 0.25, 255.0, 256.0, 65535.0, 65536.0]),
        st.floats(width=32, allow_nan=False)),
    ),
    st.sampled_from([Kind.COUNT, Kind.GRADED, Kind.REAL]),
)  # fmt: skip
def test_packed_frames_come_back_exactly(array, kind):
    packed = pack(torch.from_numpy(array), kind)
    assert np.array_equal(unpack(packed).numpy(), array)
    assert packed.nbytes <= packed.nbytes_unpacked == 4 * array.size


@given(hnp.arrays(np.bool_, hnp.array_shapes(max_dims=4)))
def test_spikes_take_one_bit(array):
    packed = pack(torch.from_numpy(array.astype(np.float32)), Kind.BINARY)
    assert np.array_equal(unpack(packed).numpy(), array)
    assert packed.nbytes == -(-array.size // 8)


@pytest.mark.parametrize(("top", "size"), [(255, 1), (2048, 2), (65535, 2), (65536, 4)])
def test_counts_take_the_smallest_exact_type(top, size):
    frame = torch.tensor([0.0, 1.0, top])
    assert pack(frame, Kind.COUNT).data.itemsize == size
