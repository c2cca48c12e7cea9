"""State dicts in the authors' layout: what is read off keys and shapes, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from same_run import assert_same, graph_forward

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.frontend.checkpoint import from_state
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir.ops import LIF, TCJA, AvgPool2d, MaxPool2d, TimeMean, Vote
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo.modules import Network, to_module

from authors import save_checkpoint  # isort: skip


if TYPE_CHECKING:
    from golden_files import Golden


def network(name: str, **changes: Any) -> Network:
    arch = zoo.BUILDERS[name](**changes)
    return to_module(arch, zoo.random_state(arch, seed=3))


def arrays(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in net.state_dict().items()}


def ops(graph: Graph, kind: type) -> list[Any]:
    return [n.op for n in graph if isinstance(n.op, kind)]


# -- the published file ------------------------------------------------------------------------------------------------
def test_golden_checkpoint_needs_no_option(golden: Golden) -> None:
    graph = td.load(golden.checkpoint)
    assert (graph.T, graph.input_shape, graph.source["architecture"]) == (20, (2, 128, 128), "dvs128")
    assert graph.source["format"] == "checkpoint"
    y, spikes = graph_forward(graph, torch.from_numpy(golden.frames))
    assert np.array_equal(y.numpy(), golden.output)
    counts = {name: int(s.sum()) for name, s in spikes.items()}
    wrong = {name: n - golden.counts[name] for name, n in counts.items() if n != golden.counts[name]}
    # the golden files' README: equal "to within a few spikes in a million"
    assert sum(map(abs, wrong.values())) <= 5e-6 * sum(counts.values()), wrong


# -- layouts -----------------------------------------------------------------------------------------------------------
LAYOUTS: list[tuple[str, dict[str, Any]]] = [
    ("dvs128", {"channels": 8, "T": 6}),
    ("dvs128", {"channels": 12, "T": 5, "k_t": 2, "k_c": 3, "hidden": 24}),
    ("ncaltech101", {"channels": (4, 4, 6, 6, 8), "T": 3, "hidden": 40}),
    (
        "ncaltech101",
        {"channels": (3, 4, 5, 6, 7), "T": 4, "kernels": ((2, 3), (1, 5)), "hidden": 30, "classes": 12},
    ),
    ("cifar10dvs", {"channels": (4, 4, 6, 6, 8, 8, 8, 8), "T": 4}),
    (
        "cifar10dvs",
        {
            "channels": (4, 4, 6, 6, 8, 8, 10, 12),
            "T": 3,
            "kernels": ((3, 2), (1, 4)),
            "size": 64,
            "classes": 7,
        },
    ),
    ("events34", {"channels": (6, 8, 8), "T": 5, "hidden": 32}),
    (
        "events34",
        {"channels": (6, 8, 12), "T": 7, "kernels": ((2, 2), None, (5, 3)), "hidden": 20, "classes": 4},
    ),
]


@pytest.mark.parametrize(("name", "changes"), LAYOUTS)
def test_layouts_are_read_off_the_file(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    net = network(name, **changes)
    graph = td.load(save_checkpoint(net, tmp_path / "checkpoint_max.pth"))
    arch = net.arch
    assert (graph.T, graph.input_shape, graph.source["architecture"]) == (arch.T, arch.input_shape, name)
    assert_same(net, graph, torch.from_numpy(synthetic_frames(graph, 2, seed=1)))


def test_what_weights_do_not_tell_is_named(tmp_path: Path) -> None:
    graph = td.load(save_checkpoint(network("cifar10dvs", channels=(4,) * 8), tmp_path / "c.pth"))
    assumed = graph.source["assumptions"]
    for part in ("tau = 2", "avg of 2 x 2", "pooled to 48 x 48", "of membrane inputs", "event counts"):
        assert part in assumed


def test_partial_attention_blocks() -> None:
    # An ablation keeps the keys of the part that is left: conv_c is TLA, conv is CLA.
    state = arrays(network("dvs128", channels=8, T=6))
    without_cla = {k: v for k, v in state.items() if k != "conv.11.conv.weight"}
    tla_alone, both = ops(from_state(without_cla), TCJA)
    assert tla_alone.cla is None
    assert np.array_equal(tla_alone.tla, state["conv.11.conv_c.weight"])
    assert np.array_equal(both.cla, state["conv.15.conv.weight"])


def test_no_attention_needs_timesteps() -> None:
    net = network("events34", kernels=(None, None, None), channels=(6, 8, 8))
    with pytest.raises(UsageError, match="--timesteps"):
        from_state(arrays(net))
    graph = from_state(arrays(net), timesteps=10)
    assert_same(net, graph, torch.from_numpy(synthetic_frames(graph, 2)))


def test_tla_alone_needs_timesteps() -> None:
    # T is not an axis of a TLA weight; a guess from its channels would be wrong.
    net = network("events34", kernels=(None, (4, 0), (2, 0)), channels=(6, 10, 10), hidden=20)
    with pytest.raises(UsageError, match="--timesteps"):
        from_state(arrays(net))
    assert from_state(arrays(net), timesteps=4).T == 4


def test_one_channel_is_an_image() -> None:
    net = network("fashion_mnist", channels=(8, 8))
    graph = from_state(arrays(net))
    assert graph.input_shape == (1, 28, 28)
    assert graph.input.signal.kind is Kind.REAL
    assert_same(net, graph, torch.from_numpy(synthetic_frames(graph, 2)))


# -- files -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_bare_state_dicts_and_wrappers(prefix: str, tmp_path: Path) -> None:
    net = network("events34", channels=(4, 6, 6), hidden=20)
    torch.save({prefix + k: v for k, v in net.state_dict().items()}, tmp_path / "weights.pt")
    graph = td.load(tmp_path / "weights.pt")
    assert graph.source["format"] == "state dict"
    assert graph.hash == from_state(arrays(net)).hash


def test_data_parallel_state_dict(tmp_path: Path) -> None:
    net = network("events34", channels=(4, 6, 6), hidden=20)
    torch.save(torch.nn.DataParallel(net).state_dict(), tmp_path / "weights.pt")
    assert td.load(tmp_path / "weights.pt").hash == from_state(arrays(net)).hash


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_widened(dtype: torch.dtype, tmp_path: Path) -> None:
    net = network("events34", channels=(4, 6, 6), hidden=20)
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    torch.save({"net": state}, tmp_path / "weights.pt")
    graph = td.load(tmp_path / "weights.pt")
    assert np.array_equal(graph["conv.0.0"].op.weight, state["conv.0.0.weight"].float().numpy())
    assert all(
        w.dtype == np.float32 for n in graph for w in n.op.constants().values() if isinstance(w, np.ndarray)
    )


def test_loading_is_deterministic_and_does_not_alias(tmp_path: Path) -> None:
    state = arrays(network("events34", channels=(4, 6, 6), hidden=20))
    graph = from_state(state)
    before = graph.hash
    state["conv.0.0.weight"] += 1
    assert graph.hash == before


# -- refusals ----------------------------------------------------------------------------------------------------------
def small() -> dict[str, np.ndarray]:
    return arrays(network("events34", channels=(4, 6, 6), T=4, hidden=20))


def test_all_offending_keys_in_one_error() -> None:
    state = small()
    del state["conv.3.1.running_var"], state["conv.0.0.weight"], state["fc.5.0.weight"]
    state |= {
        "fc.5.0.bias": np.zeros(100, np.float32),
        "conv.3.0.scale": np.zeros(3, np.float32),
        "extra": np.zeros(2),
    }
    state["conv.5.conv_c.weight"] = state["conv.5.conv_c.weight"][:, :3]
    state["conv.7.0.weight"] = state["conv.7.0.weight"][..., 0]
    with pytest.raises(TraceError) as caught:
        from_state(state)
    text = str(caught.value)
    for key, what in {
        "conv.3.1.running_var": "missing",
        "conv.0.0.weight": "missing",
        "fc.5.0.weight": "missing",
        "conv.3.0.scale": "has no place",
        "extra": "has no place",
        "conv.5.conv_c.weight": "has shape (6, 3, 4)",
        "conv.7.0.weight": "has shape (6, 6, 3)",
    }.items():
        assert re.search(rf"- {re.escape(key)}: {re.escape(what)}", text), (key, text)
    assert text.count("\n  - ") == 7


@pytest.mark.parametrize(
    ("lost", "error", "reason"),
    [
        ("conv.0.", TraceError, "conv.0 and conv.1 have no weights"),
        ("conv.3.", TraceError, "conv.2 and conv.3 have no weights"),
        (
            "fc.2.",
            UsageError,
            "only one dense layer",
        ),  # or it would fit an average-pooling network for 64 x 64 frames
        ("fc.5.", UsageError, "only one dense layer"),
    ],
)
def test_a_lost_layer_is_not_taken_for_a_smaller_network(lost: str, error: type, reason: str) -> None:
    state = arrays(network("dvs128", channels=16, T=4))
    with pytest.raises(error, match=re.escape(reason)):
        from_state({k: v for k, v in state.items() if not k.startswith(lost)})


def test_disagreeing_time_steps() -> None:
    state = small()
    state["conv.9.conv.weight"] = np.zeros((5, 5, 4), np.float32)
    with pytest.raises(TraceError, match=r"conv\.5\.conv\.weight: 4, conv\.9\.conv\.weight: 5"):
        from_state(state)


def test_cla_weights_of_two_lengths() -> None:
    state = small()
    for key in ("conv.5.conv.weight", "conv.9.conv.weight"):
        state[key] = np.zeros((4, 6, 4), np.float32)
    with pytest.raises(TraceError, match=r"conv\.5\.conv\.weight: has shape \(4, 6, 4\), .* \(4, 4, 4\)"):
        from_state(state)


def test_contradicting_options() -> None:
    state = small()
    with pytest.raises(UsageError, match=r"--timesteps 5 contradicts .* T = 4"):
        from_state(state, timesteps=5)
    assert from_state(state, timesteps=4).T == 4
    with pytest.raises(TraceError, match=r"fc\.2\.0\.weight: has shape"):
        from_state(state, input_shape=(2, 64, 64))
    with pytest.raises(TraceError, match=r"conv\.0\.0\.weight: has shape"):
        from_state(state, input_shape=(1, 34, 34))
    with pytest.raises(TraceError, match=r"conv\.0\.0\.weight: has shape"):
        from_state(state, arch="fashion_mnist")
    with pytest.raises(UsageError, match="choose one of cifar10dvs, dvs128"):
        from_state(state, arch="resnet")
    with pytest.raises(UsageError, match="three axes"):
        from_state(state, input_shape=(34, 34))


def test_unknown_layout_names_both_known_ones() -> None:
    with pytest.raises(TraceError, match=r"(?s)conv\.<i>\.0\.weight.*features\.<i>\.fwd") as caught:
        from_state({"backbone.weight": np.zeros((3, 3), np.float32)})
    assert "backbone.weight" in str(caught.value)
    assert "tcja_deploy.load(module" in caught.value.hint


def test_frame_size_that_no_sensor_has() -> None:
    state = small()
    state["fc.2.0.weight"] = np.zeros((20, 6 * 15), np.float32)
    with pytest.raises(UsageError, match=r"(?s)15 positions.*--input-shape"):
        from_state(state)
    state["fc.2.0.weight"] = np.zeros((20, 6 * 16 - 1), np.float32)
    with pytest.raises(TraceError, match="95 inputs are not a multiple of 6 channels"):
        from_state(state)


# -- options that overrule ------------------------------------------------------------------------------------------------
def test_input_shape_overrules_the_sensor() -> None:
    assert from_state(small()).input_shape == (2, 34, 34)
    assert from_state(small(), input_shape=(2, 39, 32)).input_shape == (2, 39, 32)


def test_arch_overrules_the_readout() -> None:
    state = arrays(network("ncaltech101", channels=(4, 4, 4, 4, 4), T=3, hidden=20))
    spiking, membrane = from_state(state), from_state(state, arch="ncaltech101_tet")
    assert len(ops(spiking, LIF)) == len(ops(membrane, LIF)) + 1
    assert spiking[spiking.output].signal.kind is Kind.BINARY
    assert membrane[membrane.output].signal.kind is Kind.REAL
    voting = from_state(small())
    assert ops(voting, Vote)
    assert ops(voting, TimeMean)
    per_step = from_state(small(), arch="ncaltech101", input_shape=(2, 34, 34))
    assert not ops(per_step, Vote)


def test_arch_overrules_the_pooling() -> None:
    arch = zoo.BUILDERS["cifar10dvs"](channels=(4,) * 8, T=3)
    state = zoo.random_state(arch)
    assert len(ops(from_state(state), AvgPool2d)) == 4
    assert len(ops(from_state(state, arch="cifar10dvs"), AvgPool2d)) == 4
    assert len(ops(from_state(small()), MaxPool2d)) == 3
