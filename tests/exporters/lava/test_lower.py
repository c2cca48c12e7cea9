"""The lowering is exact: the float stages of a plan fire like the graph they came from."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder, frames_for
from plan_run import run_plan

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.float_neuron import normalise
from tcja_deploy.exporters.lava.lint import lint
from tcja_deploy.exporters.lava.lower import lower
from tcja_deploy.exporters.lava.quantise import quantise
from tcja_deploy.ir import Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.sequence import run

SMALL = (2, 12, 10)


def head(builder, outputs=6):
    return builder.add(ir.Flatten()).linear(outputs).lif().add(ir.TimeMean()).add(ir.Vote(2)).done()


GRAPHS = {
    "plain": lambda: head(Builder(SMALL).conv(4).lif().pool("max", (2, 2)).conv(6).lif()),
    "spikes in": lambda: head(Builder(SMALL, kind=Kind.BINARY).conv(4).lif()),
    "real in": lambda: head(Builder(SMALL, kind=Kind.REAL).conv(4).lif()),
    "dense only": lambda: Builder((9,)).linear(7).lif().linear(5).lif().add(ir.TimeMean()).done(),
    "maps into dense": lambda: head(Builder((3, 5, 4))),
    "rules": lambda: head(
        Builder(SMALL)
        .conv(4)
        .lif(tau=4.0, v_threshold=0.8)
        .conv(4)
        .lif(tau=2.0, decay_input=False)
        .conv(4)
        .add(ir.IF(v_threshold=1.5))
        .conv(4, gain=3)
        .add(ir.PLIF(decay=0.25))
        .conv(4, gain=2)
        .lif(v_reset=-0.5, v_threshold=0.3)
        .conv(4, gain=2)
        .lif(strict=True)
    ),
    "affine neurons": lambda: head(
        Builder(SMALL)
        .conv(4)
        .add(ir.AffineNeuron(0.8, 0.0, leak=np.float32([0.75])))
        .conv(4, gain=2)
        .add(ir.AffineNeuron(1.5, 0.0, True, gain=np.float32([0.5]), leak=np.float32([0.5])))
        .conv(4, gain=3)
        .add(ir.AffineNeuron(1.25, 0.0, leak=np.float32([0.875])))
        .conv(4, gain=2)
        .add(ir.AffineNeuron(0.5, -0.5, leak=np.float32([0.5]), offset=np.float32([-0.25]), v_initial=-0.5))
    ),
    "geometry": lambda: head(
        Builder((2, 17, 15))
        .conv(4, (3, 2), (0, 1, 1, 0), stride=(2, 1))
        .lif()
        .conv(4, (2, 2), (1, 0, 0, 2), groups=2, gain=2)
        .lif()
        .conv(4, (3, 3), (2, 2, 2, 2), dilation=(2, 2), gain=2)
        .lif()
        .conv(4, (2, 2), (0, 0, 1, 1), dilation=(2, 1), gain=2)
        .lif()
        .pool("max", (3, 2), (2, 2), (1, 1))
    ),
    "many groups": lambda: head(Builder((130, 5, 4)).conv(260, bias=False, groups=130).lif()),
    "average, tiles": lambda: head(Builder(SMALL).conv(4).lif().pool("avg", (2, 2)).conv(4).lif()),
    "average, odd size": lambda: head(Builder((2, 13, 11)).conv(4).lif().pool("avg", (2, 2)).conv(4).lif()),
    "average, odd columns": lambda: head(
        Builder((2, 12, 11)).conv(4).lif().pool("avg", (2, 3)).conv(4, (3, 1), (1, 0, 1, 0)).lif()
    ),
    "average, odd, not padded": lambda: head(
        Builder((2, 13, 11)).conv(4).lif().pool("avg", (2, 2)).conv(4, padding=(0, 0, 0, 0)).lif()
    ),
    "average, overlapping": lambda: head(
        Builder((2, 13, 11)).conv(4).lif().pool("avg", (3, 3), (2, 2), (1, 1)).conv(4, padding=(0,) * 4).lif()
    ),
    "average twice": lambda: head(
        Builder((2, 19, 18)).conv(4).lif().pool("avg", (2, 2)).pool("avg", (2, 2)).conv(4, stride=(2, 2)).lif()
    ),
    "average, dilated": lambda: head(
        Builder((2, 16, 16)).conv(4).lif().pool("avg", (2, 2)).conv(4, padding=(2,) * 4, dilation=(2, 2)).lif()
    ),
    "average after max": lambda: head(
        Builder((2, 15, 15)).conv(4).lif().pool("max", (2, 2)).pool("avg", (2, 2)).conv(4).lif()
    ),
    "average, adaptive, before dense": lambda: (
        Builder((2, 13, 11))
        .conv(4)
        .lif()
        .add(ir.AdaptiveAvgPool2d((4, 3)))
        .add(ir.Flatten())
        .linear(6)
        .lif()
        .done()
    ),
    "average without padding counted, before dense": lambda: (
        Builder((2, 9, 9))
        .conv(4)
        .lif()
        .pool("avg", (3, 3), (2, 2), (1, 1), count_include_pad=False)
        .add(ir.Flatten())
        .linear(6)
        .lif()
        .done()
    ),
    "average, adaptive, tiles": lambda: head(
        Builder(SMALL).conv(4).lif().add(ir.AdaptiveAvgPool2d((6, 5))).conv(4).lif()
    ),
    "host pools": lambda: head(
        Builder((2, 16, 13)).add(ir.AdaptiveAvgPool2d((6, 7))).pool("avg", (2, 2), (1, 1)).conv(4, gain=2).lif()
    ),
    "gate": lambda: head(Builder(SMALL).conv(4).lif().tcja().conv(4, gain=2).lif()),
    "gate, max": lambda: head(Builder(SMALL).conv(4).lif().tcja(0, 3).pool("max", (2, 2)).conv(4, gain=2).lif()),
    "gate, average": lambda: head(
        Builder((2, 13, 11)).conv(4).lif().tcja(4, 0).pool("avg", (2, 2)).conv(4, gain=3).lif()
    ),
    "gate, two averages": lambda: head(
        Builder((2, 17, 16))
        .conv(4)
        .lif()
        .tcja()
        .pool("avg", (2, 2))
        .pool("avg", (2, 2))
        .conv(4, (1, 1), (0,) * 4, gain=4)
        .lif()
    ),
    "average, gate": lambda: head(
        Builder(SMALL).conv(4).lif().pool("avg", (2, 2)).tcja(2, 2, "add").conv(4, gain=3).lif()
    ),
    "max, gate, max": lambda: head(
        Builder((2, 17, 17)).conv(4).lif().pool("max", (2, 2)).tcja().pool("max", (3, 3), (2, 2)).conv(4, gain=2).lif()
    ),
    "readout of a gate": lambda: (
        Builder(SMALL).conv(4).lif().tcja().pool("avg", (2, 2)).add(ir.Flatten()).linear(5).linear(3).done()
    ),
    "readout of averages": lambda: (
        Builder(SMALL).conv(4).lif().add(ir.AdaptiveAvgPool2d((1, 1))).add(ir.Flatten()).add(ir.TimeMean()).done()
    ),
    "mean before linear": lambda: (
        Builder(SMALL).conv(4).lif().add(ir.Flatten()).add(ir.Reduce("mean", (0,))).linear(4).done()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_stages_fire_like_the_graph(name):
    graph = GRAPHS[name]()
    frames = frames_for(graph)
    plan = lower(fold_batch_norm(graph))
    values, result = run_plan(plan, frames)
    compared = set()

    def observe(node, value):
        for stage, source in plan.values.items():
            if source == node.name:
                # both compute the same reals, one in float32: a membrane on the very threshold could differ
                expected = value.numpy().reshape(values[stage].shape)
                np.testing.assert_allclose(values[stage], expected, rtol=1e-6, atol=1e-7, err_msg=stage)
                if stage != plan.stages[-1].name:
                    assert 0.01 < (expected != 0).mean() < 0.99, f"{stage} says nothing"
                compared.add(stage)

    output = run(graph, frames, observe=observe).numpy()
    np.testing.assert_allclose(result, output.reshape(result.shape), rtol=1e-5, atol=1e-6)
    missing = {stage.name for stage in plan.stages} - compared
    assert all(stage.endswith(".crop") for stage in missing)
    assert set(plan.notes) == {node.name for node in graph.nodes[1:]}


def test_the_odd_average_gets_a_layer_that_crops():
    plan = lower(GRAPHS["average, odd size"]())
    crops = [stage for stage in plan.stages if isinstance(stage, LayerStage)]
    assert [stage.out_shape for stage in crops] == [(4, 12, 10)]
    assert not [s for s in lower(GRAPHS["average, odd, not padded"]()).stages if isinstance(s, LayerStage)]


def test_groups_stay_below_128():
    synapse = lower(GRAPHS["many groups"]()).stages[0].terms[0].synapse
    assert synapse.groups == 65
    assert synapse.weight.shape == (260, 2, 3, 3)


def test_host_pools_have_the_least_common_unit():
    plan = lower(Builder((2, 128, 128)).add(ir.AdaptiveAvgPool2d((48, 48))).conv(2).lif().done())
    assert plan.host_input.unit == 144  # windows of 3 or 4 rows and columns: 12 * 12
    assert plan.host_input.rows.sum(1).tolist() == [12] * 48


def test_a_leak_that_is_no_integer_is_stated():
    plan = lower(head(Builder(SMALL).conv(2, gain=2).lif(tau=3.0)))
    assert plan.stages[0].neuron.v_decay == 1365
    assert plan.stages[0].neuron.leak_error == pytest.approx(1 / 4096)
    assert "leak 0.333333 becomes 1365/4096, off by 0.024 %" in plan.notes["2.lif"]
    assert normalise(ir.LIF(tau=4.0)).leak_error == 0


def shortcut(builder, *, pooled=False):
    """Two ways to a sum before a neuron; with pools, both average and one averages again."""
    first = builder.conv(4).lif().x
    if pooled:
        first = builder.pool("avg", (2, 2)).x
    left = builder.conv(4).lif().conv(4).x
    builder.x = builder.graph.add("sum", ir.Add(), left, first)
    return head(builder.lif().pool("avg", (2, 2)).conv(4, gain=3).lif())


FREE = {
    "no neuron between": lambda b: head(b.conv(2).conv(2, gain=2).lif()),
    "counts into neurons": lambda b: head(b.lif().conv(2).lif()),
    "largest counts": lambda b: head(b.pool("max", (2, 2)).conv(2).lif()),
    "gate of counts": lambda b: head(b.tcja().conv(2, gain=2).lif()),
    "gate of a gate": lambda b: head(b.conv(2).lif().tcja().tcja().conv(2, gain=3).lif()),
    "gate with two pools": lambda b: head(
        b.conv(2).lif().tcja().pool("max", (2, 2)).pool("max", (2, 2)).conv(2, gain=2).lif()
    ),
    "largest sums": lambda b: head(b.conv(2).pool("max", (2, 2)).lif()),
    "averages of sums": lambda b: head(b.conv(2).pool("avg", (2, 2)).lif()),
    "largest averages": lambda b: head(b.conv(2).lif().pool("avg", (2, 2)).pool("max", (2, 2)).conv(2).lif()),
    "average that no kernel can have": lambda b: head(
        b.conv(2).lif().pool("avg", (3, 3), (2, 2), (1, 1)).conv(2, gain=2).lif()
    ),
    "averages in front of branches": lambda b: shortcut(b.pool("avg", (2, 2))),
    "averages in branches": lambda b: shortcut(b, pooled=True),
    "gate in a branch": lambda b: shortcut(b.conv(2).lif().tcja().pool("avg", (2, 2))),
    "soft reset": lambda b: head(b.conv(2).lif(v_reset=None)),
}  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_graphs_that_are_no_chains_of_layers_and_gates(name):
    """Relays, programs and populations of their own take what layers cannot; still exactly the graph."""
    graph = FREE[name](Builder(SMALL))
    frames = frames_for(graph)
    plan = lower(fold_batch_norm(graph))
    values, result = run_plan(plan, frames, graph)
    seen = {}
    output = run(graph, frames, observe=lambda node, value: seen.update({node.name: value.numpy()})).numpy()
    for stage, source in plan.values.items():
        if source is not None:
            expected = seen[source].reshape(values[stage].shape)
            np.testing.assert_allclose(values[stage], expected, rtol=1e-5, atol=1e-6, err_msg=stage)
    np.testing.assert_allclose(result, output.reshape(result.shape), rtol=1e-5, atol=1e-6)
    quantised = quantise(graph, [frames])
    assert lint(quantised.network).errors == ()
    larger = Twin(quantised.network).run(4 * frames)  # more than was seen is cut off, not refused
    assert larger.payload.shape[:2] == frames.shape[:2]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda b: b.conv(2).lif().add(ir.AdaptiveAvgPool2d((5, 4))).conv(2).lif(), "windows of different"),
        (lambda b: b.conv(2).lif().add(ir.Flatten()).add(ir.Vote(2)).linear(2).lif(), "only at the end"),
        (lambda b: b.add(ir.Flatten()).linear(2), "no spiking layer"),
    ],
)
def test_what_lava_cannot_express_is_refused(build, words):
    with pytest.raises(UnsupportedError, match=words):
        lower(build(Builder(SMALL)).done())


def test_every_offender_is_named_at_once():
    builder = Builder(SMALL).conv(2).add(ir.LI(0.5, v_leak=1.0)).lif()
    graph = builder.add(ir.AdaptiveAvgPool2d((5, 4))).conv(2).lif().done()
    with pytest.raises(UnsupportedError) as caught:
        lower(graph)
    assert "2.li (LI): leaks to 1" in caught.value.reason
    assert "5.conv2d (Conv2d): averages windows of different sizes" in caught.value.reason
    assert caught.value.reason.count("\n  - ") == 2
