"""The twin as a stream and the schedule of a bundle agree on when each value appears, in every family."""

from __future__ import annotations

import pytest
from family_nets import FAMILIES, net

from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.exporters.lava.schedule import latency, schedule
from tcja_deploy.runtime.integers.layers import GateStage
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.stream.timing import timing


@pytest.mark.parametrize("key", FAMILIES)
def test_each_stage_sends_its_first_frame_at_the_step_of_the_manifest(key: str) -> None:
    """Gates without CLA send sooner in a stream: they need the frames of their kernel, and the process a window."""
    made = net(key)
    network = quantise(made.graph, [made.family.frames(2, seed=5).numpy()], LavaOptions()).network
    plan = plan_twin(network, schedule="paced")
    on_chip, steps = timing(plan, synapse=1).first, schedule(network)
    sooner = [stage for stage in network.stages if on_chip[stage.name] < steps[stage.name].leaves]
    gates = [stage for stage in network.stages if isinstance(stage, GateStage) and stage.cla is None]
    assert sooner[:1] == gates[:1]
    if not gates:
        assert {name: on_chip[name] for name in steps} == {
            name: times.leaves for name, times in steps.items()
        }
        assert latency(network) == on_chip[network.stages[-1].name]
    assert all(on_chip[name] <= times.leaves for name, times in steps.items())
    last = network.stages[-1].name
    assert timing(plan).first[last] <= latency(network)  # a stream computes a whole frame in a step
