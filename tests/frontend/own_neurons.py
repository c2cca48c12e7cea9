"""Neurons as people write them in plain PyTorch, in the ways of public repositories."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn


class AtOrAbove(torch.autograd.Function):
    """1 where the input is not negative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.ge(0.0).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Cell(nn.Module):
    """One step; the membrane after reset and leak in an attribute, the reset to the threshold."""

    def __init__(self, alpha: float, beta: float, threshold: float) -> None:
        super().__init__()
        self.alpha, self.beta, self.threshold = alpha, beta, threshold
        self.kept: Any = None

    def reset(self) -> None:
        self.kept = None

    def forward(self, x: Tensor) -> Tensor:
        u = x if self.kept is None else self.kept + x
        s = AtOrAbove.apply(u - self.threshold)
        self.kept = (s * self.threshold + (1 - s) * u) * self.alpha + self.beta
        return s


class Window(nn.Module):
    """A loop over a whole window that writes into zeros; the first step takes its input as it is."""

    def __init__(self, decay: float, threshold: float, soft: bool, batch_first: bool) -> None:
        super().__init__()
        self.decay, self.threshold, self.soft, self.batch_first = decay, threshold, soft, batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.batch_first else x
        mem, spike, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), torch.zeros_like(x)
        for i in range(x.shape[0]):
            if self.soft:
                mem = (mem - spike * self.threshold) * self.decay + x[i] if i else x[i]
            else:
                mem = mem * self.decay * (1 - spike) + x[i] if i else x[i]
            spike = (mem > self.threshold).float()
            out[i] = spike
        return out.transpose(0, 1) if self.batch_first else out


class Analog(nn.Module):
    """LIAF: spikes reset the membrane, what goes on is the rectified membrane."""

    def __init__(self, decay: float, threshold: float) -> None:
        super().__init__()
        self.decay, self.threshold = decay, threshold

    def forward(self, x: Tensor) -> Tensor:
        mem, out = torch.zeros_like(x[0]), []
        for frame in x:
            mem = mem * self.decay + frame
            out.append(torch.relu(mem))
            mem = mem * (1 - (mem > self.threshold).float())
        return torch.stack(out)


class Charged(neuron.BaseNode):
    """A subclass of SpikingJelly's base that defines `neuronal_charge` alone."""

    def __init__(self, w: float, **options: Any) -> None:
        super().__init__(**options)
        self.w = nn.Parameter(torch.tensor(w))

    def neuronal_charge(self, x: Tensor) -> None:
        rest = 0.0 if self.v_reset is None else self.v_reset
        self.v = self.v + (x - (self.v - rest)) * self.w.sigmoid()


class LateSubtract(nn.Module):
    """The threshold is taken off a step later, behind the leak."""

    def __init__(self, decay: float, threshold: float) -> None:
        super().__init__()
        self.decay, self.threshold = decay, threshold
        self.mem: Any = None

    def reset(self) -> None:
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        mem = torch.zeros_like(x) if self.mem is None else self.mem
        self.mem = self.decay * mem + x - (mem > self.threshold).float() * self.threshold
        return (self.mem > self.threshold).float()


class PerChannel(nn.Module):
    """A leak for each channel, learned."""

    def __init__(self, decays: list[float]) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(decays).view(-1, 1, 1))
        self.mem: Any = None

    def reset(self) -> None:
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        mem = x if self.mem is None else self.decay * self.mem + x
        spike = (mem >= 1.0).float()
        self.mem = torch.where(spike > 0, torch.zeros_like(mem), mem)
        return spike


class LeakySum(nn.Module):
    """A readout membrane."""

    def __init__(self, decay: float, gain: float) -> None:
        super().__init__()
        self.decay, self.gain = decay, gain
        self.mem: Any = None

    def reset(self) -> None:
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        mem = 0.0 if self.mem is None else self.mem
        self.mem = self.decay * mem + self.gain * x
        return self.mem
