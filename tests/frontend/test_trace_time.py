"""Tracing finds out how the code sees time: samples first, images repeated over time, the number of time steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from same_run import assert_output, own_forward
from small_nets import SHAPE, T, body, convolved, counts, lif, lively, traced
from spikingjelly.activation_based import layer
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.ir import Kind
from tcja_deploy.runtime.sequence import run

# -- time, samples and images -----------------------------------------------------------------------------------------------
BATCH_FIRST: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "transpose": lambda s, x: s.spikes(x.transpose(0, 1)).mean(0),
    "permute": lambda s, x: s.head(s.spikes(torch.permute(x, (1, 0, 2, 3, 4)).contiguous())),
    "late": lambda s, x: s.spikes((x * 2).transpose(0, 1)).mean(0),
    "in and out": lambda s, x: s.spikes(x.swapaxes(0, 1)).transpose(0, 1).flatten(2),
    "folded first": lambda s, x: s.lif(
        convolved(s, x.flatten(0, 1)).unflatten(0, x.shape[:2]).transpose(0, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCH_FIRST)
def test_batch_first_is_found_out(name: str) -> None:
    net = body(BATCH_FIRST[name])
    graph = traced(net)
    frames = counts()
    y, _ = own_forward(net, frames.transpose(0, 1))
    assert torch.equal(run(graph, frames), y)
    assert traced(net, batch_first=True).hash == graph.hash
    assert graph.input.signal.dims == ("T", "N", *SHAPE)


def test_batch_first_can_be_denied() -> None:
    net = body(lambda s, x: s.spikes(x.transpose(0, 1)).mean(0))
    with pytest.raises(TraceError, match="needs a stream of frames"):
        traced(net, batch_first=False)


IMAGES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "unsqueeze, repeat": lambda s, x: s.head(s.spikes(x.unsqueeze(0).repeat(T, 1, 1, 1, 1))).mean(0),
    "None, repeat with a tuple": lambda s, x: s.spikes(x[None].repeat((T, 1, 1, 1, 1))),
    "repeat alone": lambda s, x: s.spikes(x.repeat(T, 1, 1, 1, 1)),
    "expand": lambda s, x: s.spikes(x.unsqueeze(0).expand(T, -1, -1, -1, -1)),
    "expand to sizes": lambda s, x: s.spikes(x.expand(T, *x.shape)),
    "stack": lambda s, x: s.spikes(torch.stack([x] * T)),
    "stack in a loop": lambda s, x: s.spikes(torch.stack([x for _ in range(T)], dim=0)),
    "cat": lambda s, x: s.spikes(torch.cat([x.unsqueeze(0)] * T, 0)),
    "convolved before": lambda s, x: s.lif(s.bn(convolved(s, x).unsqueeze(0).repeat(T, 1, 1, 1, 1))),
    "normalised before": lambda s, x: s.spikes(((x - 0.5) * 2).unsqueeze(0).repeat(T, 1, 1, 1, 1)),
    "layer on one step": lambda s, x: s.lif(s.bn(s.conv(x.unsqueeze(0))).repeat(T, 1, 1, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_images_repeated_over_time(name: str) -> None:
    net = body(IMAGES[name])
    graph = traced(net)
    assert graph.input.signal.kind is Kind.REAL
    assert "one image" in graph.source["assumptions"]
    image = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2
    y, _ = own_forward(net, image)
    assert y.std() > 0
    # Where the module convolves N images at once, the graph convolves T N: kernels may sum in another order. Measured: equal.
    assert torch.equal(run(graph, image.expand(T, *image.shape)), y)


def test_image_that_is_not_repeated() -> None:
    one_step = body(lambda s, x: s.lif(s.bn(s.conv(x.unsqueeze(0)))))
    with pytest.raises(TraceError, match="gets a window of one time step"):
        traced(one_step)
    with pytest.raises(TraceError, match="conv"):
        traced(body(lambda s, x: torch.relu(convolved(s, x))))  # no network over time at all
    with pytest.raises(TraceError, match=r"repeats a tensor \(3, 1, 1, 1, 1\) times"):
        traced(body(lambda s, x: s.spikes(x.unsqueeze(0).repeat(3, 1, 1, 1, 1))))


# -- T ----------------------------------------------------------------------------------------------------------------------
def test_timesteps_of_an_attribute() -> None:
    net = body(IMAGES["unsqueeze, repeat"])
    net.T = T  # type: ignore[assignment]
    graph = td.load(net, input_shape=SHAPE)
    assert graph.T == T
    plain = body(lambda s, x: s.spikes(x))
    plain.T = 9  # type: ignore[assignment]
    graph = td.load(plain, input_shape=SHAPE)
    assert graph.T == 9
    assert "T = 9: the attribute T" in graph.source["assumptions"]


def test_timesteps_of_weights_that_mix_steps() -> None:
    net = body(lambda s, x: s.mix(s.spikes(x).flatten(2).permute(1, 2, 0)), mix=nn.Linear(T, 3))
    graph = td.load(net, input_shape=SHAPE)
    assert graph.T == T
    assert "the only number of time steps that fits" in graph.source["assumptions"]


def test_timesteps_that_nothing_tells() -> None:
    net = body(lambda s, x: s.spikes(x))
    with pytest.raises(UsageError, match="nothing in the model gives the number of time steps"):
        td.load(net, input_shape=SHAPE)
    # Convolutions along time fit any T: their channels must not be taken for it.
    tla = body(
        lambda s, x: s.lif(x.mean((3, 4)) * s.c(x.mean((3, 4)).permute(1, 2, 0)).permute(2, 0, 1)),
        c=nn.Conv1d(2, 2, 3, padding=1),
    )  # fmt: skip
    with pytest.raises(UsageError, match="nothing in the model"):
        td.load(tla, input_shape=SHAPE)


def test_timesteps_that_contradicts_the_weights() -> None:
    net = body(lambda s, x: s.mix(s.spikes(x).flatten(2).permute(1, 2, 0)), mix=nn.Linear(T, 3))
    with pytest.raises(
        TraceError, match=r"(?s)T = 6.*mix: Linear: the weight expects 4 features, the input has 6"
    ):
        traced(net, timesteps=6)


def test_two_candidates_for_timesteps() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        assert x.shape[0] in (4, 6)
        return self.spikes(x)

    net = body(forward, a=nn.Linear(4, 1), b=nn.Linear(6, 1))
    with pytest.raises(UsageError, match="fits 4 or 6 time steps"):
        td.load(net, input_shape=SHAPE)


def test_input_shape_is_needed() -> None:
    with pytest.raises(UsageError, match="--input-shape"):
        td.load(body(lambda s, x: s.spikes(x)), timesteps=T)


def test_flat_frames() -> None:
    net = lively(
        nn.Sequential(
            layer.Linear(12, 8, step_mode="m"), lif(), layer.Linear(8, 3, step_mode="m"), lif(v_threshold=0.3)
        )
    )
    assert_output(net, traced(net, input_shape=(12,)), counts(shape=(12,)))


class _Classifier(nn.Module):
    """An attention that mixes five steps, and a dense layer that fixes the size of a frame to 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1, step_mode="m"), lif())
        self.mix = nn.Conv1d(5, 5, 3, padding="same", bias=False)
        self.head = nn.Sequential(layer.Flatten(step_mode="m"), layer.Linear(256, 10, step_mode="m"), lif())

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        gate = torch.sigmoid(self.mix(y.mean((3, 4)).permute(1, 0, 2))).permute(1, 0, 2)
        return self.head(y * gate[:, :, :, None, None])


def test_the_attempt_that_came_furthest_is_told() -> None:
    assert td.load(_Classifier(), input_shape=(2, 8, 8)).T == 5
    with pytest.raises(TraceError) as caught:
        td.load(_Classifier(), input_shape=(2, 16, 16))
    assert "head.1: Linear" in caught.value.reason  # and not that two or four steps do not fit the attention
    assert "nearest with T = 5" in caught.value.reason
    assert "mix" not in caught.value.reason


@pytest.mark.parametrize("shape", [(2, -8, 8), (0, 0, 0)])
def test_empty_frames(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="empty"):
        td.load(_Classifier(), input_shape=shape)
