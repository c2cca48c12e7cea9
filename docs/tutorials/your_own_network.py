# %% [markdown]
# # Your own network
#
# A live module of SpikingJelly, as half of the field writes it: a single-step network in a loop over time. `load` follows the loop, and
# then **runs module and graph side by side** on made-up windows, with and without a reset in between. What they do not agree on is refused.

# %%
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

import tcja_deploy as td


class Net(nn.Module):
    """Frames `[N, T, C, H, W]` in, mean output spikes `[N, 10]` out."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(
            layer.Conv2d(2, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(tau=2.0),
            layer.MaxPool2d(2, 2),
            layer.Flatten(),
            layer.Linear(channels * 17 * 17, 10),
            neuron.IFNode(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = 0.0
        for t in range(x.shape[1]):
            out = out + self.body(x[:, t])
        return out / x.shape[1]


torch.manual_seed(0)
net = Net().eval()
graph = td.load(net, input_shape=(2, 34, 34), timesteps=8, batch_first=True)
td.inspect(graph)

# %%
print(graph.source["proof"])

# %% [markdown]
# ## What the proof is for
#
# State in a plain attribute is easy to overlook: a tracer that reads the code once sees a constant. Here the network keeps a trace of its
# own, and reset does not touch it.

# %%


class Remembers(Net):
    """Adds a trace of earlier windows, which no neuron holds."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.trace = 0.5 * self.trace + super().forward(x)
        return self.trace


try:
    td.load(Remembers().eval(), input_shape=(2, 34, 34), timesteps=8, batch_first=True)
except td.DeployError as error:
    print(error)

# %% [markdown]
# ## From the command line
#
# With the class in `models.py` and weights in `best.pth`, every command takes it:
#
# <!-- run by: tests/library/test_first_hour.py -->
#
# ```console
# tcja-deploy export models.py:Net --weights best.pth --set channels=8 -T 8 --input-shape 2,34,34 --target onnx
# ```
#
# [Your own network, from the command line](../your-network.md) has three such networks with their files.
