"""The event engine runs the networks of every family, spike for spike."""

from __future__ import annotations

import numpy as np
import pytest
from family_nets import FAMILIES, net

from tcja_deploy.ir import Node
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.agreement import BOUND
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.events.engine import run_plan
from tcja_deploy.runtime.events.plan import compile_graph
from tcja_deploy.runtime.events.values import LayerValue


@pytest.mark.parametrize("key", sorted(FAMILIES))
def test_families(key: str) -> None:
    made = net(key)
    graph = fold_batch_norm(made.graph)
    frames = made.family.frames(4, seed=6).numpy()
    seen: dict[str, np.ndarray] = {}

    def observe(node: Node, value: LayerValue) -> None:
        seen[node.name] = value.dense

    output = run_plan(compile_graph(graph), frames, observe=observe)
    found = compare(graph, frames, output, seen, bound=BOUND)
    assert found.passed, found
    assert found.mismatches == 0
    assert all(layer.other_spikes for layer in found.layers)
    for threads in (1, 3):
        assert np.array_equal(run_plan(compile_graph(graph), frames, threads=threads), output)
