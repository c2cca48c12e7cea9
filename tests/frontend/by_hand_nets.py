"""Networks that keep their membranes by hand in `forward`, as half of the field writes them; each takes `[T, N, ...]`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Adaptive",
    "Branches",
    "Current",
    "InPlace",
    "LearntLeak",
    "Listed",
    "NormPerStep",
    "Readout",
    "Recurrent",
    "Residual",
    "Skipping",
    "StaticImage",
    "StaticLayers",
    "Stbp",
    "Ternary",
]


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.gt(0.3).float()


class _Written(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        out = torch.zeros_like(u)
        out[u >= 0.5] = 1.0
        return out


def _update(layer: nn.Module, x: Tensor, mem: Tensor, spike: Tensor) -> tuple[Tensor, Tensor]:
    mem = mem * 0.2 * (1.0 - spike) + layer(x)
    return mem, _Gate.apply(mem)


class Stbp(nn.Module):
    """The helper function of hundreds of repositories."""

    frame = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 4, 5)
        with torch.no_grad():
            self.conv2.weight.mul_(4)
            self.fc.weight.mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(1)
        m1 = s1 = torch.zeros(n, 4, 8, 8, device=x.device)
        m2 = s2 = torch.zeros(n, 4, 4, 4, device=x.device)
        m3 = s3 = total = torch.zeros(n, 5)
        for step in range(x.size(0)):
            m1, s1 = _update(self.conv1, x[step].float(), m1, s1)
            m2, s2 = _update(self.conv2, F.avg_pool2d(s1, 2), m2, s2)
            m3, s3 = _update(self.fc, F.avg_pool2d(s2, 2).view(n, -1), m3, s3)
            total = total + s3
        return total / x.size(0)


class LearntLeak(nn.Module):
    """Threshold and leak are parameters; the output is a sum of a layer's results."""

    frame = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3, 2, 1), nn.Linear(64, 5)
        self.threshold, self.leak = nn.Parameter(torch.tensor(0.4)), nn.Parameter(torch.tensor(0.9))

    def forward(self, x: Tensor) -> Tensor:
        u = torch.zeros_like(self.conv(x[0]))
        total = torch.zeros(x.shape[1], 5)
        for frame in x:
            u = torch.sigmoid(self.leak) * u + self.conv(frame)
            z = torch.heaviside(u - self.threshold, torch.tensor(1.0))
            u = u - z * self.threshold
            total = total + self.fc(z.flatten(1))
        return total


class StaticImage(nn.Module):
    """An image is convolved once, in front of the loop."""

    frame = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        m, out, y = torch.zeros(x.size(0), 4, 8, 8), torch.zeros(x.size(0), 5), self.conv(x)
        for _ in range(4):
            m = 0.9 * m + y
            s = _Written.apply(m)
            m = m - s * 0.5
            out = out + self.fc(s.flatten(1))
        return out / 4


class StaticLayers(nn.Module):
    """A loop over layers inside the one over time, on an image."""

    frame = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(16, 5)
        self.layers = nn.ModuleList([nn.Linear(256, 16), nn.Linear(16, 16)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(1)
        membranes, out = [torch.zeros(x.size(0), 16) for _ in range(2)], []
        for _ in range(4):
            h = x
            for i, fc in enumerate(self.layers):
                membranes[i] = 0.5 * membranes[i] + fc(h)
                h = (membranes[i] >= 0.2).float()
                membranes[i] = membranes[i] * (1 - h)
            out.append(self.out(h))
        return torch.stack(out, 1).mean(1)


class Listed(nn.Module):
    """States in a list, that begin as the first frame; spikes are stacked."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 5)])

    def forward(self, x: Tensor) -> Tensor:
        mem: list[Any] = [None] * 3
        out = []
        for t in range(x.shape[0]):
            h = x[t]
            for i, fc in enumerate(self.layers):
                c = fc(h)
                mem[i] = c if mem[i] is None else mem[i] * 0.5 + c
                h = (mem[i] > 0.1).to(x.dtype)
                mem[i] = torch.where(h > 0, torch.zeros_like(mem[i]), mem[i])
            out.append(h)
        return torch.stack(out).mean(0)


class Current(nn.Module):
    """A synaptic current, a reset by the spike of the step before, a leak for each neuron, states in a dictionary."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(8, 16), nn.Linear(16, 5)
        self.beta = nn.Parameter(torch.linspace(0.5, 0.9, 16))

    def forward(self, x: Tensor) -> Tensor:
        zero = torch.zeros(x.size(1), 16)
        state = {"syn": zero, "mem": zero, "spike": zero}
        read, rec = torch.zeros(x.size(1), 5), []
        for t in range(x.size(0)):
            state["syn"] = 0.7 * state["syn"] + self.fc(x[t])
            state["mem"] = self.beta * state["mem"] + state["syn"] - state["spike"] * 0.6
            state["spike"] = (state["mem"] - 0.6 > 0).float()
            read = 0.9 * read + self.out(state["spike"])
            rec.append(read)
        return torch.stack(rec, dim=0).max(0)[0]


class Readout(nn.Module):
    """The last membrane of a readout; SpikingJelly's order of operations."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        v, o = torch.zeros(x.shape[1], 16), x.new_zeros(x.shape[1], 5)
        for frame in x.unbind(0):
            v = v + (self.fc(frame) - v) / 2.0
            z = (v >= 0.2).float()
            v = (1 - z) * v
            o = o * 0.8 + self.out(z)
        return o


class Adaptive(nn.Module):
    """A threshold that grows with every spike."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        v, a = torch.zeros(x.shape[1], 16), torch.zeros(x.shape[1], 16)
        out: Any = 0
        for t in range(x.shape[0]):
            v = 0.8 * v + self.fc(x[t])
            z = torch.where(v - (0.3 + 0.2 * a) >= 0, 1.0, 0.0)
            v, a = v * (1 - z), 0.9 * a + z
            out = out + self.out(z)
        return out / x.shape[0]  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two convolutions go into one membrane, which has a floor."""

    frame = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 4, 1)
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros(x.size(1), 4, 8, 8), []
        for t in range(x.size(0)):
            v = 0.5 * v + self.norm(self.a(x[t])) + F.relu(self.b(x[t])) * 0.5
            z = (v > 0.6).float()
            v = v * (1 - z)
            v.clamp_(min=-1)
            out += [self.fc(z.mean((2, 3))).unsqueeze(0)]
        return torch.cat(out, 0).mean(0)


class Branches(nn.Module):
    """Two branches side by side, spikes of all steps written into one tensor, votes of groups."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 10), nn.Linear(8, 10), nn.Linear(20, 20)

    def forward(self, x: Tensor) -> Tensor:
        t_end, n = x.shape[:2]
        va, vb, vc = torch.zeros(n, 10), torch.zeros(n, 10), torch.zeros(n, 20)
        outs = torch.zeros(n, t_end, 20)
        for t in range(t_end):
            va = va * 0.5 + self.a(x[t])
            sa = va.ge(0.2).float()
            va = va - sa * 0.2
            vb = vb * 0.9 + self.b(x[t])
            sb = vb.ge(0.2) * 1.0
            vb = vb.masked_fill(sb.bool(), 0.0)
            vc = vc + self.c(torch.cat([sa, sb], dim=1))
            sc = (vc >= 0.3).float()
            vc = vc * (1.0 - sc)
            outs[:, t] = sc
        return outs.mean(1).view(n, 5, 4).mean(2)


class InPlace(nn.Module):
    """Everything is written over what was there."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(8, 16), nn.Linear(16, 5)
        self.tau = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        v, o = torch.zeros((x.size(1), 16)), torch.zeros(x.size(1), 5)
        decay = self.tau.sigmoid()
        for t in range(x.size(0)):
            v.mul_(decay).add_(self.fc(x[t]))
            z = v.ge(0.2).float()
            v[z.bool()] = 0
            o += self.out(z)
        return o


class Ternary(nn.Module):
    """Spikes of both signs."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros(x.size(1), 16)
        o: Any = 0
        for t in range(x.size(0)):
            v = v * 0.9 + self.fc(x[t])
            z = (v >= 0.4).float() - (v <= -0.4).float()
            v = v - z * 0.4
            o = o + self.out(z)
        return o  # type: ignore[no-any-return]


class Skipping(nn.Module):
    """Counts spikes from the second step on; frames are compared with the ones before."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        m, count, before = torch.zeros(x.size(1), 5), torch.zeros(x.size(1), 5), torch.zeros_like(x[0])
        for t in range(x.size(0)):
            change, before = x[t] - before, x[t]
            m = 0.5 * m + self.fc(change)
            z = (m >= 0.2).float()
            m = m * (1 - z)
            if t >= 1:
                count += z
        return count


class NormPerStep(nn.Module):
    """BNTT: a normalisation for each step."""

    frame = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.Linear(256, 5)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4) for _ in range(4)])
        norm: Any
        for i, norm in enumerate(self.norms):
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.1 * (i + 1), 0.2 * (i + 1))

    def forward(self, x: Tensor) -> Tensor:
        m, o = torch.zeros(x.size(1), 4, 8, 8), torch.zeros(x.size(1), 5)
        for t in range(4):
            m = 0.95 * m + self.norms[t](self.conv(x[t]))
            z = (m > 1.0).float()
            m = m - z * 1.0
            o = o + self.fc(z.flatten(1))
        return o / 4


class Recurrent(nn.Module):
    """Spikes go back through weights."""

    frame = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back, self.out = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        v, z = torch.zeros(x.size(1), 16), torch.zeros(x.size(1), 16)
        out: Any = 0
        for t in range(x.size(0)):
            v = 0.5 * v + self.fc(x[t]) + self.back(z)
            z = (v > 0.6).float()
            v = v * (1 - z)
            out = out + self.out(z)
        return out  # type: ignore[no-any-return]
