"""Files as the TCJA authors' scripts write them, from networks of the zoo; and their TET networks, written anew."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


def save_checkpoint(net: nn.Module, path: Path) -> Path:
    """The dict that the scripts pass to `torch.save`, with a used optimizer and scheduler."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    sum(p.sum() for p in net.parameters()).backward()  # type: ignore[union-attr]
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=32)
    optimizer.step()
    scheduler.step()
    content = {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
    }
    torch.save({**content, "epoch": 7, "max_test_acc": 0.5}, path)
    return path


class Folded(nn.Module):
    """Stateless layers over `[N, T, ...]`, under the one attribute `module`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.module = layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.module(x.flatten(0, 1))
        return y.unflatten(0, x.shape[:2])


class HalvingNeuron(nn.Module):
    """Halves its membrane each step, spikes strictly above 1, starts from 0 again; over axis 1."""

    def forward(self, x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            membrane = 0.5 * membrane + x[:, t]
            fired = (membrane > 1.0).float()
            membrane = membrane * (1 - fired)
            spikes.append(fired)
        return torch.stack(spikes, 1)


class ConvStage(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fwd = Folded(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))
        self.act = HalvingNeuron()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.fwd(x))


class Gate(nn.Module):
    """TCJA over `[N, T, C, H, W]`; the weights that mix time steps lie in a `Sequential`."""

    def __init__(self, k_c: int, k_t: int, T: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(T, T, k_c, padding="same", bias=False))
        self.conv_c = nn.Conv1d(channels, channels, k_t, padding="same", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = x.mean((3, 4))
        gate = self.conv(z) * self.conv_c(z.transpose(1, 2)).transpose(1, 2)
        return x * torch.sigmoid(gate)[..., None, None]


class TETNetwork(nn.Module):
    """One of the TET networks: `layers` holds channels, `"pool"`, or `(k_c, k_t)` of a gate."""

    def __init__(
        self,
        layers: list[int | str | tuple[int, int]],
        T: int,
        pool: nn.Module,
        features: int,
        hidden: int | None,
    ) -> None:
        super().__init__()
        shared, modules, c = Folded(pool), [], 2
        for entry in layers:
            if isinstance(entry, int):
                modules.append(ConvStage(c, entry))
                c = entry
            else:
                modules.append(shared if isinstance(entry, str) else Gate(*entry, T, c))
        self.features = nn.Sequential(*modules)
        self.hidden = hidden
        if hidden is None:
            self.classifier = Folded(nn.Linear(features, 10))
        else:
            self.act = HalvingNeuron()
            self.classifier_1 = nn.Sequential(Folded(nn.Dropout(), nn.Linear(features, hidden)))
            self.classifier_2 = nn.Sequential(nn.Dropout(), Folded(nn.Linear(hidden, 101)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(2)
        return (
            self.classifier(x) if self.hidden is None else self.classifier_2(self.act(self.classifier_1(x)))
        )


def lively(net: nn.Module, seed: int) -> nn.Module:
    """Random weights and statistics with which every layer spikes; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)  # type: ignore[union-attr]
                module.running_var.uniform_(0.005, 0.02, generator=generator)  # type: ignore[union-attr]
            elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                bound = (6 if isinstance(module, nn.Linear) else 1) / module.weight[0].numel() ** 0.5
                for p in module.parameters():
                    p.uniform_(-bound, bound, generator=generator)
    return net.eval()
