"""Contracts of the passes: each leaves what it promises on random graphs, and refuses unsound ones."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_attention import Spelling, kernels, start
from test_fold import layers, norm
from test_simplify import chains

from tcja_deploy.errors import GraphError
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.contract import SOUND, Condition, Pass
from tcja_deploy.passes.prepare import PASSES, READING

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
from stream_graphs import graphs

EVERY = (*READING, *PASSES)
NAMES = [step.name for step in EVERY]


@st.composite
def blocks(draw: Any) -> Graph:
    """A TCJA block in some spelling of generic ops."""
    b, x = start()
    spelling = Spelling(b, "conv.3.", lambda n: draw(st.integers(0, n - 1)))
    return b.finish(spelling.block(x, kernels(*draw(st.sampled_from([(4, 4), (2, 0), (0, 3)])))))


@st.composite
def networks(draw: Any) -> Graph:
    """Graphs of several makers, so that each pass has something to do in some of them."""
    made = draw(st.one_of(chains(), layers(), graphs(), blocks()))
    return made if isinstance(made, Graph) else made[0]


def normalised() -> Graph:
    """Weights of two outputs and their normalisation."""
    b, rng = GraphBuilder(2), np.random.default_rng(0)
    b.add("weights", ir.Linear(np.ones((2, 3), np.float32)), b.add("x", ir.Input((3,), Kind.REAL)))
    return b.finish(b.add("norm", norm(ir.BatchNorm1d, rng, 2), "weights"))


@given(networks(), st.permutations(EVERY))
@settings(max_examples=60, deadline=None)
def test_passes_leave_what_they_promise(graph: Graph, order: list[Pass]) -> None:
    """In any order; what one has left stays; and a second time there is nothing to do."""
    kept: list[Condition] = []
    for step in order:
        assert all(condition.violations(graph) == [] for condition in step.needs)
        graph = step(graph)
        kept += step.leaves
        assert [c.name for c in kept if c.violations(graph)] == []
        assert step(graph).hash == graph.hash


def test_conditions_can_be_broken() -> None:
    """A promise that no graph breaks promises nothing."""
    idle = GraphBuilder(2)
    idle.add("y", ir.Permute((0, 1, 2)), idle.add("x", ir.Input((3,), Kind.REAL)))
    spelled, x = start()
    block = Spelling(spelled, "conv.3.", lambda n: 0).block(x, kernels(4, 4))
    broken = {
        "no batch normalisation directly after weights": normalised(),
        "no permutation or reshape that does nothing": idle.finish("y"),
        "no TCJA block in generic ops": spelled.finish(block),
    }
    promised = {condition.name: condition for step in EVERY for condition in step.leaves}
    assert set(broken) == set(promised)
    assert all(promised[name].violations(graph) for name, graph in broken.items())


@pytest.mark.parametrize("step", EVERY, ids=NAMES)
def test_unsound_graphs_are_refused(step: Pass) -> None:
    graph = normalised()
    assert step.needs == (SOUND,)
    weight = next(node for node in graph if node.op.synaptic)
    spoilt = replace(weight.op, bias=np.full(2, np.nan, np.float32))  # type: ignore[call-arg]
    nodes = tuple(Node(n.name, spoilt, n.inputs, n.value) if n is weight else n for n in graph.nodes)
    with pytest.raises(GraphError, match=r"needs a graph that has no broken rule of the IR") as refused:
        step(Graph(graph.T, nodes, graph.output, graph.source))
    assert weight.name in refused.value.where
