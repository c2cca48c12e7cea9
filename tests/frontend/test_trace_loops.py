"""Loops over time in `forward`: the graph computes what the module computes, or the loop is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import CHANNELS, SHAPE, N, T, counts, lif, lively
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import run


class Looping(nn.Module):
    """A single-step network and a `forward` that runs it step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.T = T
        self.net = nn.Sequential(
            nn.Conv2d(2, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), lif("s"), nn.Flatten(),
            nn.Linear(CHANNELS * 64, 10), neuron.LIFNode(v_threshold=0.5),
        )  # fmt: skip
        self.readout = nn.Linear(10, 3)


Forward = Callable[[Any, Tensor], Any]


def looping(forward: Forward) -> nn.Module:
    return lively(type("Net", (Looping,), {"forward": forward})())


def total(s: Any, x: Tensor) -> Tensor:
    out = 0
    for t in range(s.T):
        out = out + s.net(x[:, t])
    return out  # type: ignore[return-value]


def first_then_rest(s: Any, x: Tensor) -> Tensor:
    x = x.permute(1, 0, 2, 3, 4)
    out = s.net(x[0])
    for t in range(1, x.shape[0]):
        out += s.net(x[t])
    return out / x.shape[0]  # type: ignore[no-any-return]


def into_zeros(s: Any, x: Tensor) -> Tensor:
    out = torch.zeros(x.shape[0], x.shape[1], 10, device=x.device)
    for t in range(x.shape[1]):
        out[:, t] = s.net(x[:, t])
    return out.mean(1)


def onto_zeros(s: Any, x: Tensor) -> Tensor:
    functional.reset_net(s)
    out = torch.zeros(x.size(0), 10)
    for t in range(s.T):
        out += s.net(x[:, t, ...])
    return out / s.T


def onto_zeros_like(s: Any, x: Tensor) -> Tensor:
    out = None
    for frame in x:
        y = s.net(frame)
        out = torch.zeros_like(y) + y if out is None else out + y
    return out  # type: ignore[return-value]


def last(s: Any, x: Tensor) -> Tensor:
    for t in range(x.shape[1]):
        out = s.net(x[:, t])
    return s.readout(out)  # type: ignore[no-any-return]


def features_of_a_frame(s: Any, x: Tensor) -> Tensor:
    return torch.stack([s.net(x[:, t, :, :, :]) for t in range(s.T)])[..., 2:7]


def two_loops(s: Any, x: Tensor) -> Tensor:
    first = [s.net[:3](x[t]) for t in range(s.T)]
    return torch.stack([s.net[3:](f) for f in first]).amax(0)


def without_burn_in(s: Any, x: Tensor) -> Tensor:
    outs = [s.net(f) for f in x.unbind(0)]
    return sum(outs[1:]) / 4  # type: ignore[return-value]


def side_by_side(s: Any, x: Tensor) -> Tensor:
    return torch.cat([s.net(f).unsqueeze(1) for f in x.unbind(1)], dim=1)


BATCH_FIRST: dict[str, Forward] = {
    "sum": total,
    "first step before the loop": first_then_rest,
    "stack in the second axis": lambda s, x: torch.stack([s.net(x[:, t]) for t in range(s.T)], 1),
    "stack in the last axis, summed": lambda s, x: torch.stack([s.net(x[:, t]) for t in range(s.T)], -1).sum(
        -1
    ),
    "into zeros": into_zeros,
    "onto zeros": onto_zeros,
    "last step": last,
    "features of the result": features_of_a_frame,
    "unbind and cat": side_by_side,
}
TIME_FIRST: dict[str, Forward] = {
    "stack": lambda s, x: torch.stack([s.net(x[t]) for t in range(s.T)]),
    "iteration": lambda s, x: sum(s.net(f) for f in x) / len(x),
    "zeros_like": onto_zeros_like,
    "two loops": two_loops,
    "burn-in": without_burn_in,
    "last of a list": lambda s, x: [s.net(f) for f in x][-1],
}


def image_in_each_step(s: Any, x: Tensor) -> Tensor:
    out: Any = None
    for _ in range(s.T):
        out = s.net(x) if out is None else out + s.net(x)
    return out / s.T  # type: ignore[no-any-return]


def encoded_once(s: Any, x: Tensor) -> Tensor:
    drive = s.net[:2](x)
    return torch.stack([s.net[2:](drive) for _ in range(s.T)]).mean(0)


IMAGE: dict[str, Forward] = {"in each step": image_in_each_step, "encoded once": encoded_once}


def module_result(net: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(net)
    with torch.no_grad():
        result: Tensor = net(x)
    assert result.abs().sum() > 0
    return result


def agrees(graph: Any, frames: Tensor, expected: Tensor) -> None:
    result = torch.as_tensor(np.asarray(run(graph, frames.numpy())))
    # Sums over time in another order than the loop's: of spikes exact, of a readout within rounding.
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("timesteps", [T, None])
@pytest.mark.parametrize("name", BATCH_FIRST)
def test_batch_first(name: str, timesteps: int | None) -> None:
    net, x = looping(BATCH_FIRST[name]), counts()
    agrees(td.load(net, timesteps=timesteps, input_shape=SHAPE), x, module_result(net, x.transpose(0, 1)))


@pytest.mark.parametrize("name", TIME_FIRST)
def test_time_first(name: str) -> None:
    net, x = looping(TIME_FIRST[name]), counts()
    agrees(td.load(net, input_shape=SHAPE), x, module_result(net, x))


@pytest.mark.parametrize("name", IMAGE)
def test_the_same_image_in_every_step(name: str) -> None:
    net, image = looping(IMAGE[name]), counts()[0]
    graph = td.load(net, input_shape=SHAPE)
    assert "one image" in graph.source["assumptions"]
    agrees(graph, image.expand(T, *image.shape).contiguous(), module_result(net, image))


def test_a_loop_costs_no_nodes() -> None:
    """The graph is that of the multi-step network: nothing is unrolled."""
    net = looping(TIME_FIRST["stack"])
    assert [type(n.op) for n in td.load(net, input_shape=SHAPE)] == [
        ir.Input, ir.Conv2d, ir.BatchNorm2d, ir.LIF, ir.Flatten, ir.Linear, ir.LIF,
    ]  # fmt: skip


def test_layers_after_the_last_step_run_once() -> None:
    graph = td.load(looping(last), input_shape=SHAPE)
    assert graph["readout"].signal.dims == ("N", 3)


# -- loops that know their own T ---------------------------------------------------------------------------------------------
def by_hand(s: Any, x: Tensor) -> Tensor:
    mem = torch.zeros(x.shape[1], 10)
    outs = []
    for t in range(s.T):
        mem = mem * 0.5 + s.net[4](s.net[3](s.net[1](s.net[0](x[t]))))
        spike = (mem >= 0.5).float()
        mem = mem * (1 - spike)
        outs.append(spike)
    return torch.stack(outs).mean(0)


OWN_T: dict[str, Forward] = {
    "sum": total,
    "onto zeros": onto_zeros,
    "stack": TIME_FIRST["stack"],
    "two loops": two_loops,
    "image": image_in_each_step,
    "membrane by hand": by_hand,
}


@pytest.mark.parametrize("name", OWN_T)
def test_a_loop_that_ends_before_the_window_is_refused(name: str) -> None:
    """The graph would run, and count, steps that the module never takes."""
    net = looping(OWN_T[name])
    with pytest.raises(
        TraceError, match=rf"loop over time in Net\.forward: \w+ (the first )?{T} of the {T + 3} time steps"
    ) as told:
        td.load(net, timesteps=T + 3, input_shape=SHAPE)
    assert f"pass timesteps={T} (--timesteps {T}), or let the loop run over all {T + 3} frames" in str(
        told.value
    )
    assert str(told.value).count("loop over time") == 1
    assert td.load(net, timesteps=T, input_shape=SHAPE).T == T


@pytest.mark.parametrize("name", ["sum", "stack", "two loops", "membrane by hand"])
def test_a_loop_that_goes_on_after_the_window_is_refused(name: str) -> None:
    net = looping(OWN_T[name])
    with pytest.raises(
        TraceError, match=r"1 part of the model(.|\n)*reads time step 2, counted from 0, of 2"
    ) as told:
        td.load(net, timesteps=2, input_shape=SHAPE)
    assert "pass the number of time steps that the code is written for" in str(told.value)
    assert td.load(net, timesteps=T, input_shape=SHAPE).T == T


@pytest.mark.parametrize("name", ["sum", "stack", "image", "membrane by hand"])
def test_what_a_loop_runs_tells_the_number_of_steps(name: str) -> None:
    net = looping(OWN_T[name])
    expected = td.load(net, input_shape=SHAPE)
    net.steps = net.T
    forward = OWN_T[name]
    inner = type("Inner", (), {"__getattr__": lambda own, key: T if key == "T" else getattr(net, key)})()
    del net.T
    net.forward = lambda x: forward(inner, x)
    graph = td.load(net, input_shape=SHAPE)
    assert graph.T == expected.T == T
    assert f"T = {T}: what the loop over time in forward runs" in graph.source["assumptions"]


# -- other loops ---------------------------------------------------------------------------------------------------------------
def recurrent(s: Any, x: Tensor) -> Tensor:
    y: Any = 0
    for t in range(s.T):
        y = 0.5 * y + s.net(x[t])
    return y  # type: ignore[no-any-return]


def backwards(s: Any, x: Tensor) -> Tensor:
    return torch.stack([s.net(x[t]) for t in reversed(range(s.T))])


def twice_a_step(s: Any, x: Tensor) -> Tensor:
    return torch.stack([s.net[2](s.net[:3](x[t])) for t in range(s.T)])


def difference_of_frames(s: Any, x: Tensor) -> Tensor:
    return torch.stack([s.net(x[t] - x[max(t - 1, 0)]) for t in range(s.T)])


def another_way_in_one_step(s: Any, x: Tensor) -> Tensor:
    return torch.stack([s.net(x[t] * 2 if t == 2 else x[t]) for t in range(s.T)])


@pytest.mark.parametrize("forward", [backwards, twice_a_step, difference_of_frames, another_way_in_one_step])
def test_other_loops_are_named(forward: Forward) -> None:
    for timesteps in (T, None):
        with pytest.raises(TraceError, match=r"loop over time in Net\.forward") as caught:
            td.load(looping(forward), timesteps=timesteps, input_shape=SHAPE)
        assert "7919" not in str(caught.value)


def test_a_leaky_sum_of_frames_is_an_integrator() -> None:
    net = looping(recurrent)
    graph = td.load(net, timesteps=T, input_shape=SHAPE)
    assert "AffineIntegrator" in [type(n.op).__name__ for n in graph]


# -- three ways to write one network -----------------------------------------------------------------------------------------
@st.composite
def stages(draw: st.DrawFn) -> list[tuple[str, int]]:
    kinds = st.sampled_from(["conv", "norm", "pool", "spike"])
    return [("conv", draw(st.integers(2, 4))), ("spike", 0)] + [
        (k, draw(st.integers(2, 4))) for k in draw(st.lists(kinds, max_size=4))
    ]


def built(plan: list[tuple[str, int]], style: str, seed: int) -> nn.Module:
    """The same network as a loop over single steps, in step mode 'm', or of PyTorch's layers in containers."""
    torch.manual_seed(seed)
    mode = "m" if style != "loop" else "s"
    parts: list[nn.Module] = []
    width, pools = 2, 0
    for kind, n in plan:
        if kind == "conv":
            parts.append(nn.Conv2d(width, n, 3, padding=1))
            width = n
        elif kind == "norm":
            parts.append(nn.BatchNorm2d(width))
        elif kind == "pool" and pools < 2:
            parts.append(nn.MaxPool2d(2))
            pools += 1
        elif kind == "spike":
            parts.append(neuron.LIFNode(tau=2.0, v_threshold=0.4, step_mode=mode))
    side = 8 >> pools
    parts += [
        nn.Flatten(1),
        nn.Linear(width * side * side, 6),
        neuron.IFNode(v_threshold=0.4, step_mode=mode),
    ]
    lively(nn.Sequential(*parts))
    if style == "loop":

        class Loop(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = nn.Sequential(*parts)

            def forward(self, x: Tensor) -> Tensor:
                return torch.stack([self.body(x[t]) for t in range(x.shape[0])]).mean(0)

        return Loop().eval()

    class Multi(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            wrap = layer.SeqToANNContainer if style == "containers" else layer.MultiStepContainer
            self.body = nn.Sequential(*(p if isinstance(p, neuron.BaseNode) else wrap(p) for p in parts))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).mean(0)  # type: ignore[no-any-return]

    return Multi().eval()


@settings(max_examples=12)
@given(plan=stages(), seed=st.integers(0, 50))
def test_three_styles_give_one_graph(plan: list[tuple[str, int]], seed: int) -> None:
    x = counts(seed)
    ops, results = [], []
    for style in ("loop", "multi-step", "containers"):
        net = built(plan, style, seed)
        graph = td.load(net, timesteps=T, input_shape=SHAPE)
        ops.append([type(n.op).__name__ for n in graph])
        results.append(np.asarray(run(graph, x.numpy())))
        functional.reset_net(net)
        with torch.no_grad():
            expected = net(x)
        assert expected.shape == (N, 6)
        # The loop convolves N frames at once, the graph T N: kernels may sum in another order, a spike at the threshold flip.
        different = np.abs(results[-1] - expected.numpy()) > 1e-6
        assert different.sum() == 0 if style != "loop" else different.mean() <= 0.06
    assert ops[0] == ops[1] == ops[2]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
