"""The authors' TET networks, by their keys; the oracle is `authors.TETNetwork`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from authors import HalvingNeuron, TETNetwork, lively
from same_run import graph_forward
from torch import nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.frontend.checkpoint import from_state
from tcja_deploy.ir import Kind
from tcja_deploy.runtime.synthetic import synthetic_frames


def cifar(T: int = 5, gate: bool = True) -> nn.Module:
    gates: list[int | str | tuple[int, int]] = [(2, 3)] if gate else []
    layers = [4, 6, *gates, "pool", 6, 6, "pool", 8, 8, "pool", 8, 8, "pool"]
    return lively(TETNetwork(layers, T, nn.AvgPool2d(2), 8 * 9, None), seed=1)


def ncaltech(T: int = 4) -> nn.Module:
    layers: list[int | str | tuple[int, int]] = [
        4, "pool", 6, "pool", 6, "pool", 8, (4, 4), "pool", 10, (3, 2), "pool",
    ]  # fmt: skip
    return lively(TETNetwork(layers, T, nn.MaxPool2d(2), 10 * 35, 30), seed=2)


@pytest.mark.parametrize("build", [cifar, ncaltech])
def test_output_and_spikes(build: type, tmp_path: Path) -> None:
    net: nn.Module = build()
    torch.save(net.state_dict(), tmp_path / "log.pth")
    graph = td.load(tmp_path / "log.pth")
    assert graph.source["architecture"] == "tet"
    frames = torch.from_numpy(synthetic_frames(graph, 2, seed=4))
    spikes: dict[str, torch.Tensor] = {}
    for name, m in net.named_modules():
        if isinstance(m, HalvingNeuron):
            m.register_forward_hook(lambda m, args, y, name=name: spikes.update({name: y.transpose(0, 1)}))
    with torch.no_grad():
        expected = net(frames.transpose(0, 1)).transpose(0, 1)
    y, ours = graph_forward(graph, frames)
    assert set(ours) == set(spikes)
    for name, expected_spikes in spikes.items():
        # Not bit for bit: the module folds N before T, so that kernels see the frames in another order; measured: no flips.
        assert 0 < expected_spikes.mean() < 1
        assert torch.equal(ours[name], expected_spikes), name
    # The last matrix product sums up to 350 terms of size 1: float32 rounds it by 350 * 2**-24 at most.
    assert torch.allclose(y, expected, rtol=0, atol=350 * 2**-24 * float(expected.abs().max()))


def test_strictly_above_the_threshold() -> None:
    # A membrane of exactly 1 does not spike in that code, unlike in SpikingJelly.
    x = torch.tensor([1.0, 0.5, 1.5])[None, :, None]
    graph = from_state({k: v.numpy() for k, v in cifar().state_dict().items()})
    op = graph["features.0.act"].op
    assert (
        HalvingNeuron()(x)[0, :, 0].tolist()
        == op.apply(x.transpose(0, 1).numpy())[:, 0, 0].tolist()
        == [0, 0, 1]
    )


def test_frame_sizes_and_kinds() -> None:
    small = from_state({k: v.numpy() for k, v in cifar().state_dict().items()})
    assert small.input_shape == (2, 48, 48)
    assert small.input.signal.kind is Kind.GRADED  # resized frames are not integers
    large = from_state({k: v.numpy() for k, v in ncaltech().state_dict().items()})
    assert large.input_shape == (2, 180, 240)
    assert large.input.signal.kind is Kind.COUNT
    assert large[large.output].signal.dims == ("T", "N", 101)


def test_time_steps() -> None:
    state = {k: v.numpy() for k, v in cifar(T=6).state_dict().items()}
    assert from_state(state).T == 6
    with pytest.raises(UsageError, match="contradicts"):
        from_state(state, timesteps=5)
    plain = {k: v.numpy() for k, v in cifar(gate=False).state_dict().items()}
    with pytest.raises(UsageError, match="--timesteps"):
        from_state(plain)
    assert from_state(plain, timesteps=3).T == 3


def test_all_offending_keys_in_one_error() -> None:
    state = {k: v.numpy() for k, v in cifar().state_dict().items()}
    del state["features.0.fwd.module.1.running_mean"], state["classifier.module.weight"]
    state["features.2.conv_c.weight"] = state["features.2.conv_c.weight"][:4]
    state["features.4.fwd.module.0.weight"] = state["features.4.fwd.module.0.weight"][:, :5]
    state["head.weight"] = np.zeros(3, np.float32)
    with pytest.raises(TraceError) as caught:
        from_state(state)
    for line in (
        "features.0.fwd.module.1.running_mean: missing",
        "classifier.module.weight: missing",
        "features.2.conv_c.weight: has shape (4, 6, 3), expected (6, 6, any)",
        "features.4.fwd.module.0.weight: has shape (6, 5, 3, 3), expected (6, 6, 3, 3)",
        "head.weight: has no place",
    ):
        assert re.search(r"\n  - " + re.escape(line), str(caught.value)), line
    assert str(caught.value).count("\n  - ") == 5


def test_strided_variant_is_refused() -> None:
    # The layers without pools stride their convolutions; weights do not tell where.
    net = TETNetwork([4, 4, 6], 4, nn.AvgPool2d(2), 6, None)
    with pytest.raises(TraceError, match="strides its convolutions"):
        from_state({k: v.numpy() for k, v in net.state_dict().items()}, timesteps=4)


def test_no_square_frame() -> None:
    state = {k: v.numpy() for k, v in cifar().state_dict().items()}
    state["classifier.module.weight"] = np.zeros((10, 8 * 12), np.float32)
    with pytest.raises(UsageError, match="--input-shape"):
        from_state(state)
    assert from_state(state, input_shape=(2, 48, 64)).input_shape == (2, 48, 64)


def test_arch_does_not_apply() -> None:
    with pytest.raises(UsageError, match="does not apply"):
        from_state({k: v.numpy() for k, v in cifar().state_dict().items()}, arch="cifar10dvs")
