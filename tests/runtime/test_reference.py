"""The reference of comparisons: no engine changes an outcome, and nothing runs twice that is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tcja_deploy import zoo
from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.ir import Graph
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime import compare as compare_module
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.engines import choose
from tcja_deploy.runtime.reference import PackedSpikes, Reference
from tcja_deploy.runtime.sequence import run_with_spikes
from tcja_deploy.runtime.synthetic import synthetic_frames

BOUND = 1e-5
SPIKES = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=5, max_side=5), elements=st.sampled_from([0, 1])
)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return fold_batch_norm(zoo.build("events34", channels=(6, 8, 8), T=5, hidden=24))


@given(SPIKES)
def test_packed_spikes_are_the_spikes(spikes: Any) -> None:
    packed = PackedSpikes()
    packed.keep("layer", spikes)
    assert np.array_equal(packed["layer"], spikes != 0)
    assert dict(packed).keys() == {"layer"}
    same = packed.agreement("layer", spikes)
    assert same is not None
    assert (same.spikes, same.other_spikes, same.mismatches) == (spikes.sum(), spikes.sum(), 0)
    assert same.neuron_steps == spikes.size
    other = spikes.copy()
    other.flat[-1] = 1 - other.flat[-1]
    assert packed.agreement("layer", other) is None


@pytest.mark.parametrize("engine", ["events", "onnx"])
def test_what_agrees_is_settled_by_one_run(
    engine: str, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = synthetic_frames(graph, 3)
    result = run_with_spikes(graph, frames)
    wanted = compare(graph, frames, *result, bound=BOUND)

    def judge(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("there is nothing to decide")

    monkeypatch.setattr(compare_module, "compare", judge)
    found = Reference(graph, engine).compare(frames, *result, bound=BOUND)
    assert found.passed
    assert [vars(layer) for layer in found.layers] == [vars(layer) for layer in wanted.layers]
    assert (found.samples, found.predictions_equal) == (3, 3)
    assert wanted.mismatches == found.mismatches == 0


@pytest.mark.parametrize("engine", ["torch", "events", "onnx"])
def test_what_differs_is_decided_by_the_sequence_runtime(engine: str, graph: Graph) -> None:
    frames = synthetic_frames(graph, 2)
    output, spikes = run_with_spikes(graph, frames)
    first = graph.neurons[0].name
    flipped = spikes[first].copy()
    flipped[2, 1, 0, 3, 4] = 1 - flipped[2, 1, 0, 3, 4]
    for other in ((output, {**spikes, first: flipped}), (output + 1, spikes), (output * np.nan, spikes)):
        wanted = compare(graph, frames, *other, bound=BOUND, first_sample=7)
        found = Reference(graph, engine).compare(frames, *other, bound=BOUND, first_sample=7)
        assert str(found.as_dict()) == str(wanted.as_dict())  # NaN does not equal itself
        assert not found.passed or found.mismatches
    del spikes[first]
    with pytest.raises(DataError, match="nothing"):
        Reference(graph, engine).compare(frames, output, spikes, bound=BOUND)


def test_the_sample_runs_once(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, runs = Reference(graph, "torch"), []
    monkeypatch.setattr(
        judge,
        "_watch",
        lambda frames, observe, _watch=judge._watch: (runs.append(1), _watch(frames, observe))[1],
    )
    sample, other = synthetic_frames(graph, 1), synthetic_frames(graph, 1, seed=5)
    output, spikes = run_with_spikes(graph, sample)
    assert np.array_equal(judge.run_sample(sample).output, output)
    assert judge.compare(sample, output, spikes, bound=BOUND).passed
    assert judge.run_sample(sample.copy()).spikes.keys() == spikes.keys()
    assert len(runs) == 1
    assert judge.compare(other, *run_with_spikes(graph, other), bound=BOUND).passed
    assert len(runs) == 1  # in torch the comparison is the run


def test_little_work_is_left_to_torch(graph: Graph) -> None:
    assert choose(graph).engine == "events"
    assert choose(graph, samples=3).engine == "torch"
    assert choose(graph, samples=10**6).engine == "events"
    assert choose(graph, "events", samples=1).engine == "events"
    assert Reference(graph, samples=4).engine.startswith("torch")
    assert "sparse" in Reference(graph).engine
    with pytest.raises(UsageError, match="--engine"):
        Reference(graph, "lava")
