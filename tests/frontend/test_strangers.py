"""Small networks as strangers write them: equal to their own forward where every layer spikes, or refused by what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from strangers import (
    SHAPE,
    STRANGERS,
    N,
    Net,
    OwnCell,
    T,
    Whole,
    before,
    forgotten,
    head,
    of,
    single,
)
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError
from tcja_deploy.runtime.sequence import run


@pytest.mark.parametrize("name", STRANGERS)
def test_networks_of_strangers_are_read_as_they_compute(name: str) -> None:
    build, view = STRANGERS[name]
    net = of(build)
    graph = td.load(net, timesteps=T, input_shape=SHAPE)
    assert graph.source["proof"].startswith("equal to the module")
    assert "silence" not in graph.source
    for seed in (3, 4):
        x = torch.poisson(torch.full((T, N, *SHAPE), 0.7), generator=torch.Generator().manual_seed(seed))
        x = x[:1].expand(x.shape).contiguous() if view == "image" else x
        with torch.no_grad():
            plain = forgotten(net)
            if view == "frame":
                expected = torch.stack([plain(frame) for frame in x])
            else:
                expected = plain({"image": x[0], "batch first": x.transpose(0, 1)}.get(view, x))
        result = torch.as_tensor(np.asarray(run(graph, x.numpy())))
        assert float(expected.abs().max()) > 0
        # a module convolves single frames, the graph all at once: their sums may be rounded in another order
        torch.testing.assert_close(result, expected.reshape(result.shape), rtol=1e-5, atol=1e-5)


# -- what cannot be read -----------------------------------------------------------------------------------------------------
LEFT_BEHIND: dict[str, Any] = {}


class Counting(Net):
    """Does something else in every fourth step."""

    calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.step(x) * (1.0 if self.calls % 4 else 2.0)


def remembered_outside(s: Any, x: Tensor) -> Any:
    y = s.step(x)
    before = LEFT_BEHIND.get("y", y)
    LEFT_BEHIND["y"] = y.detach() if isinstance(y, Tensor) else y
    return y + 0.5 * before if before.shape == y.shape else y


def hooked() -> nn.Module:
    net = Whole(lambda s, x: s.window(x))
    net.conv.register_forward_hook(lambda module, inputs, output: output * 1.5)
    return net


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a counter in an attribute": (lambda: Counting(lambda s, x: x), "keeps 'calls'"),
    "memory in a dictionary of the file": (lambda: Net(remembered_outside), "computes something other than"),
    "a hook that changes a layer's result": (hooked, "forward hook"),
    "the largest frame of the batch": (lambda: before(lambda x: x / x.max()), "samples included"),
    "steps that are added up": (lambda: before(lambda x: x.cumsum(0)), "'cumsum'"),
    "a dictionary of two": (lambda: Whole(lambda s, x: {"out": s.window(x), "frames": x}), "several values"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_by_what_it_does(name: str) -> None:
    build, reason = REFUSED[name]
    LEFT_BEHIND.clear()
    with pytest.raises(TraceError, match=reason):
        td.load(of(build), timesteps=T, input_shape=SHAPE)


def test_memory_that_nothing_takes_back_is_told() -> None:
    """A module without `reset()` carries its memory from window to window; the graph cannot."""

    class NoReset(OwnCell):
        reset = None  # type: ignore[assignment]

    graph = td.load(of(lambda: single(NoReset(0.5, False), *head())), timesteps=T, input_shape=SHAPE)
    assert "from window to window" in graph.source["memory"]


def test_divisions_are_named_where_they_are_rounded_otherwise() -> None:
    graph = td.load(of(lambda: before(lambda x: x / 3)), timesteps=T, input_shape=SHAPE)
    assert "x / 3 is computed as x * (1 / 3)" in graph.source["assumptions"]
