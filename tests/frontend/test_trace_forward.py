"""Tracing what users write in `forward`: spellings of readouts, views and calls; time and samples in any order."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from same_run import assert_output, own_forward
from small_nets import CHANNELS, SIDE, Body, T, body, convolved, counts, lively, traced
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from tcja_deploy.errors import TraceError
from tcja_deploy.ir.ops import TimeMean, Vote
from tcja_deploy.runtime.sequence import run

# -- spellings -----------------------------------------------------------------------------------------------------------
READOUTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "mean(0)": lambda s, x: s.head(s.spikes(x)).mean(0),
    "mean(dim=0)": lambda s, x: s.head(s.spikes(x)).mean(dim=0),
    "mean(axis=0)": lambda s, x: s.head(s.spikes(x)).mean(axis=0),
    "torch.mean": lambda s, x: torch.mean(s.head(s.spikes(x)), 0),
    "torch.mean(input=)": lambda s, x: torch.mean(input=s.head(s.spikes(x)), dim=(0,)),
    "sum / number": lambda s, x: s.head(s.spikes(x)).sum(0) / T,
    "sum / x.shape[0]": lambda s, x: s.head(s.spikes(x)).sum(dim=0) / x.shape[0],
    "sum / len(x)": lambda s, x: s.head(s.spikes(x)).sum(dim=0) / len(x),
    "mean after moving": lambda s, x: s.head(s.spikes(x)).transpose(0, 1).mean(1),
}


@pytest.mark.parametrize("name", READOUTS)
def test_rates(name: str) -> None:
    net = body(READOUTS[name])
    graph = traced(net)
    assert [type(n.op).__name__ for n in graph][-1] == "TimeMean"
    assert_output(net, graph, counts())


def normalised(net: Any, folded: Tensor) -> Tensor:
    """The body's batch normalisation as a function."""
    bn = net.bn
    return F.batch_norm(folded, bn.running_mean, bn.running_var, bn.weight, bn.bias)


FORWARDS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "flatten function": lambda s, x: s.out(s.fc(torch.flatten(s.spikes(x), 2))),
    "flatten start_dim": lambda s, x: s.out(s.fc(torch.flatten(s.spikes(x), start_dim=2))),
    "flatten negative": lambda s, x: s.out(s.fc(s.spikes(x).flatten(-3))),
    "view with sizes": lambda s, x: s.out(s.fc(s.spikes(x).view(x.shape[0], x.shape[1], -1))),
    "view with a tuple": lambda s, x: s.out(s.fc(s.spikes(x).view((x.size(0), x.size(1), -1)))),
    "reshape with a size": lambda s, x: s.out(s.fc(s.spikes(x).reshape(*x.shape[:2], -1))),
    "reshape all at once": lambda s, x: s.out(s.fc(s.spikes(x).reshape(T, -1, CHANNELS * SIDE * SIDE))),
    "folded by hand": lambda s, x: s.out(s.fc(s.spikes(x).reshape(-1, CHANNELS * SIDE * SIDE).view(T, -1, 384))),
    "unflatten": lambda s, x: s.out(s.fc(s.spikes(x).flatten(0, 1).flatten(1).unflatten(0, (T, -1)))),
    "function pools": lambda s, x: F.avg_pool2d(s.spikes(x).flatten(0, 1), 2).view(T, -1, CHANNELS, 4, 4),
    "function max pool": lambda s, x: F.max_pool2d(s.spikes(x).flatten(0, 1), 2, 2).unflatten(0, (T, -1)),
    "function global pool": lambda s, x: F.adaptive_avg_pool2d(s.spikes(x).flatten(0, 1), 1).view(T, -1, CHANNELS),
    "function conv": lambda s, x: s.lif(convolved(s, x.flatten(0, 1)).unflatten(0, x.shape[:2])),
    "function linear": lambda s, x: s.out(F.linear(s.spikes(x).flatten(2), s.fc.weight, s.fc.bias)),
    "function batch norm": lambda s, x: s.lif(normalised(s, s.conv(x).flatten(0, 1)).unflatten(0, (T, -1))),
    "means over axes": lambda s, x: s.spikes(x).mean([3, 4]),
    "means one by one": lambda s, x: s.spikes(x).mean(-1).mean(-1),
    "kept axes": lambda s, x: s.spikes(x).mean((-2, -1), keepdim=True).squeeze(-1).squeeze(-1),
    "keepdims": lambda s, x: s.bn(s.conv(x)).amax((3, 4), keepdims=True),
    "largest": lambda s, x: s.spikes(x).flatten(3).max(3)[0],
    "largest, named": lambda s, x: torch.max(s.bn(s.conv(x)), dim=0).values,
    "largest, unpacked": lambda s, x: (lambda values, _: values)(*s.bn(s.conv(x)).max(0)),
    "ellipsis and None": lambda s, x: s.spikes(x).mean((3, 4))[..., None][:, :, None],
    "unsqueeze, squeeze": lambda s, x: s.spikes(x).unsqueeze(2).squeeze(2).unsqueeze(-1),
    "permuted features": lambda s, x: s.spikes(x).permute(0, 1, 3, 4, 2).flatten(2),
    "movedim": lambda s, x: s.spikes(x).movedim(2, -1),
    "swapaxes": lambda s, x: s.spikes(x).swapaxes(3, 4),
    "cat": lambda s, x: torch.cat([s.spikes(x), s.bn(s.conv(x))], dim=2),
    "cat of one": lambda s, x: torch.cat([s.spikes(x)], 2),
    "stack": lambda s, x: torch.stack([s.spikes(x), s.bn(s.conv(x))], 2).mean(2),
    "residual": lambda s, x: s.spikes(x) + s.bn(s.conv(x)),
    "inverted and": lambda s, x: s.spikes(x) * (1 - s.other(x)),
    "difference": lambda s, x: s.bn(s.conv(x)) - s.spikes(x),
    "numbers": lambda s, x: torch.sigmoid(F.relu(s.conv(x) * 0.3 + 1) / 2 - 0.25),
    "numbers on the left": lambda s, x: 0.5 - 2 * s.conv(x),
    "negative square": lambda s, x: -(s.conv(x) ** 2) + torch.square(s.conv(x)).neg() * 0.1,
    "learned number": lambda s, x: s.scale * s.spikes(x) + s.scale.exp(),
    "broadcast": lambda s, x: s.gated(s.spikes(x)),
    "to, type, clone": lambda s, x: s.spikes(x.float().to(x.device).to(x.dtype).contiguous().clone().detach()),
    "dropout function": lambda s, x: F.dropout(s.spikes(x), 0.5, training=s.training),
    "dropout2d function": lambda s, x: F.dropout2d(s.spikes(x).flatten(0, 1), 0.5, False).unflatten(0, (T, -1)),
    "branch on the shape": lambda s, x: s.spikes(x if x.dim() == 5 else x.unsqueeze(0)) if x.shape[1] else x,
    "inner reset": lambda s, x: (functional.reset_net(s), s.head(s.spikes(x)))[1],
    "no_grad": torch.no_grad()(lambda s, x: s.head(s.spikes(x))),
    "3-D means": lambda s, x: F.adaptive_avg_pool3d(s.spikes(x).transpose(0, 1), 1).flatten(1),
    "3-D largest": lambda s, x: F.adaptive_max_pool3d(s.bn(s.conv(x)).transpose(0, 1), (1, 1, 1)).flatten(1),
}  # fmt: skip


@pytest.mark.parametrize("name", FORWARDS)
def test_spellings(name: str) -> None:
    class Net(Body):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([0.7]))

        def other(self, x: Tensor) -> Tensor:
            result: Tensor = self.out(self.bn(self.conv(x)) * 0.7)
            return result

        def gated(self, y: Tensor) -> Tensor:
            gate = torch.sigmoid(y.mean((3, 4), keepdim=True))
            return y * gate.expand_as(y) + gate.expand(-1, -1, -1, SIDE, SIDE)

        forward = FORWARDS[name]

    net = lively(Net())
    assert_output(net, traced(net), counts())


def test_further_arguments_keep_their_defaults() -> None:
    def forward(
        self: Any, x: Tensor, flag: bool = False, mask: Tensor | None = None, *rest: Any, scale: float = 2.0
    ) -> Tensor:
        y = self.spikes(x) * scale
        return y if mask is None and not flag and not rest else y * mask  # type: ignore[operator]

    net = body(forward)
    assert_output(net, traced(net), counts())


def test_forward_of_the_instance() -> None:
    net = body(lambda s, x: s.spikes(x))
    net.forward = lambda x: net.spikes(x).mean(0)  # type: ignore[method-assign,assignment]
    graph = traced(net)
    assert graph[graph.output].signal.dims == ("N", CHANNELS, SIDE, SIDE)


def test_hand_written_vote() -> None:
    class Vote10(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.average = nn.AvgPool1d(10, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.average(x.unsqueeze(1)).squeeze(1)

    for vote in (Vote10(), nn.AvgPool1d(10)):
        net = body(lambda s, x: s.vote(s.head(s.spikes(x)).mean(0)), vote=vote)
        graph = traced(net)
        assert [type(n.op) for n in graph][-2:] == [TimeMean, Vote]
        assert_output(net, graph, counts())
    grouped = body(lambda s, x: s.head(s.spikes(x)).mean(0).view(-1, 2, 10).mean(2))
    assert_output(grouped, traced(grouped), counts())


def test_folded_results_come_out_with_time_as_an_axis() -> None:
    net = body(lambda s, x: s.spikes(x).flatten(0, 1))
    y, _ = own_forward(net, counts())
    assert torch.equal(run(traced(net), counts()).flatten(0, 1), y)


# -- changes in place ---------------------------------------------------------------------------------------------------
def in_place(change: Callable[[Any, Tensor], None]) -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        same = y
        change(self, y)
        return same * 2 + y

    return body(forward)


@pytest.mark.parametrize(
    "change",
    [
        lambda s, y: operator.iadd(y, 1),
        lambda s, y: operator.isub(y, 0.5),
        lambda s, y: operator.imul(y, y),
        lambda s, y: operator.itruediv(y, 4),
        lambda s, y: y.add_(y),
        lambda s, y: y.mul_(0.25),
        lambda s, y: y.relu_(),
        lambda s, y: F.relu(y, inplace=True),
        lambda s, y: nn.ReLU(inplace=True)(y),
        lambda s, y: torch.sigmoid_(y),
    ],
)
def test_other_names_of_a_tensor_see_changes_in_place(change: Callable[[Any, Tensor], None]) -> None:
    net = in_place(change)
    assert_output(net, traced(net), counts())


def test_views_of_a_changed_tensor_are_refused() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        view = y.flatten(2)
        y += 1
        return view * 2

    with pytest.raises(TraceError, match="changed in place") as caught:
        traced(body(forward))
    assert "x = x + y" in str(caught.value)


def test_views_that_nobody_reads_do_not_matter() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        mean = y.flatten(3).mean(3)
        y += 1
        return y * mean[..., None, None]

    net = body(forward)
    assert_output(net, traced(net), counts())
