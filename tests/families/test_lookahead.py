"""What the graphs say about time: how far ahead attention looks, node by node."""

from __future__ import annotations

import pytest
from family_nets import FAMILIES, net

from tcja_deploy.ir import ops as ir

WINDOW = {"tcja", "cla", "tcja-added", "tcja-heads", "cross", "ma-t", "ma-c", "ma-s", "ma-tcs", "att-ms-resnet",
          "ms-resnet-tcja", "fsvae-encoder", "fsvae-decoder"}  # fmt: skip
"""Families with attention over the whole window: a mixture of all steps, or, in SpikingJelly's MA-SNN, a mean over them."""


@pytest.mark.parametrize("key", FAMILIES)
def test_lookahead(key: str) -> None:
    graph = net(key).graph
    ahead = {
        n.name: n.op.lookahead(*graph.signals_in(n), T=graph.T)
        for n in graph
        if n.inputs and not isinstance(n.op, ir.TimeMean)  # a readout needs the window by itself
    }
    if key in WINDOW:
        assert max(ahead.values()) == graph.T - 1
    elif key == "tla":
        assert sorted(ahead.values())[-2:] == [1, 1]
        assert sum(ahead.values()) == 2
    else:
        assert set(ahead.values()) == {0}
