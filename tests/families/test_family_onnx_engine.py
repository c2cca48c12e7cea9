"""onnxruntime as an engine: what it counts in the networks of every family is what the sequence runtime counts."""

from __future__ import annotations

import pytest
from family_nets import FAMILIES, net
from targets import Stored

from tcja_deploy.energy.measure import measure
from tcja_deploy.runtime.activity.measures import Measure


@pytest.mark.parametrize("key", sorted(FAMILIES))
def test_counts(key: str) -> None:
    """No count of anything that energy asks for differs: rounding moves none of these spikes."""
    made = net(key)
    frames = made.family.frames(4, seed=6)
    expected = measure(made.graph, Stored(frames), batch_size=3)
    found = measure(made.graph, Stored(frames), batch_size=3, engine="onnx")
    assert any(value.counts(Measure.NONZERO).any() for value in expected.activity.values.values())
    assert found.activity.same_as(expected.activity)
