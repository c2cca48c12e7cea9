"""The twin as a stream and the schedule of a bundle agree on when each value appears, in every family that is a graph."""

from __future__ import annotations

import pytest
from family_nets import net

from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.exporters.lava.schedule import latency, schedule
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.stream.timing import timing

FAMILIES = (
    "tcja",
    "tcja-heads",
    "cross",
    "ma-tcs",
    "ms-resnet-tcja",
    "sew-iand",
    "norse-lif",
    "fsvae-decoder",
)


@pytest.mark.parametrize("key", FAMILIES)
def test_each_stage_sends_its_first_frame_at_the_step_of_the_manifest(key: str) -> None:
    made = net(key)
    network = quantise(made.graph, [made.family.frames(2, seed=5).numpy()], LavaOptions()).network
    plan = plan_twin(network, schedule="paced")
    on_chip = timing(plan, synapse=1).first
    assert {name: on_chip[name] for name in schedule(network)} == {
        name: times.leaves for name, times in schedule(network).items()
    }
    last = network.stages[-1].name
    assert latency(network) == on_chip[last]
    assert timing(plan).first[last] <= latency(network)  # a stream computes a whole frame in a step
