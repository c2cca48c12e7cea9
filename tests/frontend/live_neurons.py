"""SpikingJelly's neurons beyond LIF, IF and PLIF, and some of a user's own, each as a builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

__all__ = ["NEURONS", "OwnNode", "T", "network", "randomised"]

T, CHANNELS = 6, 4


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters moved off the values that they begin with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)
    return module.eval()


class OwnNode(neuron.BaseNode):
    """A user's own: a threshold and a leak for each channel, a threshold that grows with the spikes, a reset to a value."""

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(**options)
        self.leak = nn.Parameter(torch.linspace(0.3, 0.9, channels).view(-1, 1, 1))
        self.theta = nn.Parameter(torch.linspace(0.5, 1.2, channels).view(-1, 1, 1))
        self.register_memory("a", 0.0)

    def neuronal_charge(self, x: Tensor) -> None:
        self.v = self.v * torch.sigmoid(self.leak) + x

    def neuronal_fire(self) -> Tensor:
        return self.surrogate_function(self.v - self.theta - self.a)

    def neuronal_adaptation(self, spike: Tensor) -> None:
        self.a = 0.8 * self.a + 0.3 * spike

    def single_step_functional_forward(self, inputs: Any, states: Any, **kwargs: Any) -> Any:
        self.v, self.a = states
        self.neuronal_charge(inputs[0])
        spike = self.neuronal_fire()
        self.neuronal_adaptation(spike)
        self.v = (
            self.v - spike * self.theta
            if self.v_reset is None
            else torch.where(spike > 0, self.v_reset, self.v)
        )
        return (spike,), (self.v, self.a)


class PlainTernary(nn.Module):
    """Plain PyTorch in a loop over the window: spikes of both signs, written into a blank window."""

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), torch.zeros_like(x)
        for t in range(x.shape[0]):
            v = v * 0.7 + x[t]
            s = torch.where(v.abs() >= 0.8, v.sign(), torch.zeros_like(v))
            v = v - 0.8 * s
            out[t] = s
        return out


class Refractory(nn.Module):
    """Plain PyTorch, step by step, state in attributes that begin as None: silent for a step after each spike."""

    def __init__(self) -> None:
        super().__init__()
        self.mem: Tensor | None = None

    def reset(self) -> None:
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mem is None:
            self.mem, self.rest = torch.zeros_like(x), torch.zeros_like(x)
        self.mem = 0.9 * self.mem + x
        spike = ((self.mem > 1) & ~(self.rest > 0)).float()
        self.mem[spike > 0] = 0.1
        self.rest = spike
        return spike


class Steps(nn.Module):
    """A single-step neuron over a window."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def reset(self) -> None:
        self.inner.reset()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.inner(frame) for frame in x])


Maker = Callable[[str], nn.Module]


def _psn(make: Callable[[str], nn.Module]) -> Maker:
    def maker(mode: str) -> nn.Module:
        module: Any = make(mode)
        with torch.no_grad():
            module.bias.fill_(-0.3)
        return module  # type: ignore[no-any-return]

    return maker


NEURONS: dict[str, Maker] = {
    "CLIF": lambda m: neuron.ComplementaryLIFNode(tau=1.7, step_mode=m),
    "CUBALIF": lambda m: _stepped(neuron.CUBALIFNode(c_decay=0.4), m),
    "CUBALIF soft": lambda m: _stepped(neuron.CUBALIFNode(v_reset=None), m),
    "DSRIF": lambda m: _stepped(neuron.DSRIFNode(T=T), m),
    "EIF": lambda m: neuron.EIFNode(v_reset=-0.1, v_rest=0.0, step_mode=m),
    "GatedLIF": lambda m: neuron.GatedLIFNode(T=T, inplane=CHANNELS),
    "GatedLIF for all": lambda m: neuron.GatedLIFNode(T=T),
    "HalfThresholdIF": lambda m: neuron.HalfThresholdIFNode(step_mode=m),
    "ILIF": lambda m: neuron.ILIFNode(tau=1.5, step_mode=m),
    "Izhikevich": lambda m: neuron.IzhikevichNode(v_rest=0.0, v_c=0.5, v_reset=-0.1, step_mode=m),
    "KLIF": lambda m: neuron.KLIFNode(tau=3.0, step_mode=m),
    "KLIF scaled": lambda m: neuron.KLIFNode(scale_reset=True, v_reset=None, decay_input=False, step_mode=m),
    "MaskedPSN": _psn(lambda m: neuron.MaskedPSN(k=3, T=T, lambda_init=1.0, step_mode=m)),
    "MaskedPSN in training": _psn(lambda m: neuron.MaskedPSN(k=3, T=T, lambda_init=0.4, step_mode="m")),
    "OTTTLIF": lambda m: Steps(neuron.OTTTLIFNode()),
    "PSN": _psn(lambda m: neuron.PSN(T=T)),
    "QIF": lambda m: neuron.QIFNode(v_reset=-0.1, v_rest=0.0, step_mode=m),
    "SLTTLIF": lambda m: Steps(neuron.SLTTLIFNode()),
    "SlidingPSN": _psn(lambda m: neuron.SlidingPSN(k=4, step_mode=m)),
    "TernaryIF soft": lambda m: neuron.TernaryIFNode(v_reset=None, step_mode=m),
    "TernaryLIF": lambda m: neuron.TernaryLIFNode(v_threshold=0.7, step_mode=m),
    "own subclass": lambda m: OwnNode(CHANNELS, step_mode=m, v_reset=0.2),
    "own subclass soft": lambda m: OwnNode(CHANNELS, step_mode=m, v_reset=None),
    "plain, refractory": lambda m: Steps(Refractory()),
    "plain, ternary": lambda m: PlainTernary(),
}
"""Each neuron by name, in a step mode if it takes it."""


def _stepped(module: Any, mode: str) -> nn.Module:
    module.step_mode = mode
    return module  # type: ignore[no-any-return]


class network(nn.Sequential):  # noqa: N801 -- a function that gives a module
    """Conv, neuron, conv, neuron, linear over windows `[T, N, 2, 6, 6]`."""

    def __init__(self, make: Maker) -> None:
        from spikingjelly.activation_based import layer

        one, two = randomised(make("m"), 1), randomised(make("m"), 2)
        parts = [
            layer.Conv2d(2, CHANNELS, 3, padding=1, bias=False, step_mode="m"), one,
            layer.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1, step_mode="m"), two,
            layer.Flatten(step_mode="m"), layer.Linear(CHANNELS * 9, 5, step_mode="m"),
        ]  # fmt: skip
        super().__init__(*parts)
        torch.manual_seed(3)
        for p in (*parts[0].parameters(), *parts[2].parameters()):
            nn.init.normal_(p, 0.1, 0.6)
        self.eval()


SURROGATES = [surrogate.ATan(), surrogate.Sigmoid(alpha=2.0), surrogate.Rect()]
