"""What cannot be traced is listed whole, with module paths and advice; and the module stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from small_nets import CHANNELS, SHAPE, Body, T, body, counts, lif
from spikingjelly.activation_based import encoding, functional, layer, monitor, neuron, surrogate
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError, UsageError


def refusal(net: nn.Module, **options: Any) -> TraceError:
    with pytest.raises(TraceError) as caught:
        td.load(net, **{"input_shape": SHAPE, "timesteps": T, **options})
    return caught.value


def listed(error: TraceError) -> dict[str, str]:
    """Reasons by module path."""
    lines = [line.removeprefix("  - ") for line in str(error).splitlines() if line.startswith("  - ")]
    return {path: reason for path, _, reason in (line.partition(": ") for line in lines)}


# -- everything at once ----------------------------------------------------------------------------------------------------
def test_every_offender_is_listed_with_its_path() -> None:
    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = layer.SeqToANNContainer(nn.GroupNorm(2, CHANNELS))
            self.act = neuron.ActivationAwareIFNode(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.norm(x))

    class Net(Body):
        def __init__(self) -> None:
            super().__init__()
            self.stage = nn.Sequential(Stage(), lif("s"))
            self.reflect = layer.Conv2d(
                CHANNELS, CHANNELS, 3, padding=1, padding_mode="reflect", step_mode="m"
            )

        def forward(self, x: Tensor) -> Tensor:
            y = self.reflect(self.stage(self.spikes(x)))
            return F.softmax(self.head(torch.fft.fft(y).real + 1).mean(0), -1)

    net = Net()
    net.lif.surrogate_function.spiking = False
    error = refusal(net)
    found = listed(error)
    assert set(found) == {"lif", "stage.0.norm.0", "stage.0.act", "stage.1", "reflect", "forward"}
    assert "surrogate" in found["lif"]
    assert "GroupNorm has no translation" in found["stage.0.norm.0"]
    assert "ActivationAwareIFNode has its own kind of state" in found["stage.0.act"]
    assert "step mode 's'" in found["stage.1"]
    assert "'reflect'" in found["reflect"]
    text = str(error)
    assert "fft" in text
    assert "softmax" in text
    assert f"T = {T}, frames of 2, 8, 8" in text
    assert "\n      -> set it to True" in text
    assert "leave it out where it is the last layer" in text
    assert error.exit_code == 5


OFFENDERS: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "part of the samples": (lambda s, x: s.spikes(x)[:, 1:], "takes out some of the samples"),
    "positions by a list": (lambda s, x: s.spikes(x)[:, :, [0, 2]], "by a list or tensor of positions"),
    "loop over time": (
        lambda s, x: torch.stack([s.out(s.fc(s.conv(f).flatten(1))) for f in x]),
        "step mode 'm' but gets single frames",
    ),
    "random": (lambda s, x: s.spikes((torch.rand_like(x) < x).float()), "must not draw random numbers"),
    "branch on values": (lambda s, x: s.spikes(x) if x.sum((0, 1, 2, 3, 4)) > 0 else x, "samples"),
    "branch": (lambda s, x: s.spikes(x) if s.scale * x > 0 else x, "branches on the values"),
    "comparison": (lambda s, x: (s.conv(x) > 1).float(), "outside a module that is a neuron"),
    "product of too large matrices": (
        lambda s, x: s.conv(x).repeat(1, 1, 1, 40, 40) @ s.conv(x).repeat(1, 1, 1, 40, 40),
        "too large to write out",
    ),
    "mean over samples": (lambda s, x: s.spikes(x).mean(1), "reduction over samples would mix them"),
    "mean over all": (lambda s, x: s.spikes(x).mean(), "reduces over all axes, samples included"),
    "samples as features": (lambda s, x: s.spikes(x).flatten(1), "mixes samples or time steps with features"),
    "constant tensor": (
        lambda s, x: s.spikes(x) + torch.linspace(0, 1, 2 * T).view(T, 1, 1, 1, 2).repeat(1, 1, 1, 1, 4),
        "differs by time step and by feature",
    ),
    "division": (lambda s, x: s.spikes(x / 0), "divides by zero"),
    "division by a signal": (lambda s, x: 1 / s.conv(x), "divides by a signal"),
    "power": (lambda s, x: s.conv(x) ** 3, "raises to the power 3"),
    "half": (lambda s, x: s.spikes(x).to(torch.float16), "converts to torch.float16"),
    "sum in double": (lambda s, x: s.spikes(x).sum(0, dtype=torch.float64), "sums in torch.float64"),
    "dropout at inference": (
        lambda s, x: F.dropout(s.spikes(x), 0.5),
        "applies dropout at inference as well",
    ),
    "neuron used twice": (lambda s, x: s.lif(s.spikes(x)), "called more than once"),
    "two results": (lambda s, x: (s.spikes(x), s.conv(x)), "returns several values"),
    "no result": (lambda s, x: None, "does not depend on the input"),
    "setitem": (lambda s, x: x.__setitem__(0, 0) or s.spikes(x), "'setitem' has no translation"),
    "own exception": (lambda s, x: s.spikes(x).no_such_method(), "no_such_method"),
    "unknown attribute": (
        lambda s, x: s.spikes(x) + x.mT,
        "uses 'mT' of a tensor",
    ),
    "dilated pool": (lambda s, x: F.max_pool2d(x.flatten(0, 1), 2, dilation=2), "dilation"),
    "positions": (lambda s, x: s.conv(x).max(2)[1], "positions of the largest values"),
    "larger of two": (lambda s, x: torch.max(s.conv(x), s.bn(s.conv(x))), "larger of two signals"),
    "2-D conv on a window": (lambda s, x: F.conv2d(x, s.conv.weight), "gets 5 axes instead of 4"),
    "weights from the input": (lambda s, x: F.linear(x, x.mean((0, 1, 2))), "reduction over samples"),
}


@pytest.mark.parametrize("name", OFFENDERS)
def test_offenders(name: str) -> None:
    forward, reason = OFFENDERS[name]
    net = body(forward)
    net.scale = 2.0  # type: ignore[assignment]
    assert reason in str(refusal(net))


class OwnDynamics(neuron.LIFNode):
    """A threshold that rises with the mean over the layer: no rule for each neuron alone."""

    def multi_step_forward(self, x_seq: Any) -> Any:
        return super().multi_step_forward(x_seq - x_seq.mean(-1, keepdim=True))


def folded(module: nn.Module) -> nn.Module:
    return layer.SeqToANNContainer(module)


def patched() -> nn.Module:
    node = lif()
    node.multi_step_forward = lambda x: x  # type: ignore[method-assign]
    return node


def awake() -> nn.Module:
    node = lif()
    node.set_reset_value("v", 0.5)
    return node


def monitored() -> nn.Module:
    net = nn.Sequential(lif())
    monitor.OutputMonitor(net, neuron.LIFNode)
    return net


MODULES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "unknown neuron": (lambda: neuron.ActivationAwareIFNode(step_mode="m"), "has its own kind of state"),
    "own dynamics": (lambda: OwnDynamics(step_mode="m"), "OwnDynamics changes how LIFNode computes"),
    "patched": (patched, "changes how LIFNode computes"),
    "other first membrane": (awake, "starts from a membrane other"),
    "delay": (lambda: layer.Delay(1, step_mode="m"), "Delay has its own kind of state"),
    "synapse filter": (lambda: layer.SynapseFilter(step_mode="m"), "SynapseFilter has its own kind of state"),
    "poisson encoder": (lambda: encoding.PoissonEncoder(step_mode="m"), "must not draw random numbers"),
    "batch statistics": (lambda: folded(nn.BatchNorm2d(2, track_running_stats=False)), "statistics of the running batch"),
    "neuron in a stateless container": (lambda: layer.SeqToANNContainer(lif("s")), "as further samples"),
    "wrong mode": (lambda: layer.MultiStepContainer(nn.Identity(), lif("s")).append(lif("m")), "gets single frames"),
    "plain conv on a window": (lambda: nn.Conv2d(2, 2, 3), "fold time into the batch"),
    "wrong channels": (lambda: layer.Conv2d(3, 2, 3, step_mode="m"), "the weight expects 3 channels, the input has 2"),
    "monitored": (monitored, "has a forward hook"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    build, reason = MODULES[name]
    assert reason in str(refusal(nn.Sequential(nn.Identity(), build(), lif()).eval()))


def test_arguments_of_forward() -> None:
    assert "takes more than frames: mask" in str(refusal(body(lambda s, x, mask: x)))
    assert "takes no frames" in str(refusal(body(lambda s: s)))


def test_a_loop_is_reported_once() -> None:
    # Not once for every step.
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.conv.bias.mean()
        for t in range(x.shape[0]):
            y = 0.5 * y + self.lif(self.conv(x[t]))
        return y

    net = body(forward)
    functional.set_step_mode(net, "s")
    for timesteps in (T, None):
        found = listed(refusal(net, timesteps=timesteps))
        assert list(found) == ["forward"]
        assert found["forward"].startswith("loop over time in Net.forward")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_what_is_no_module() -> None:
    with pytest.raises(UsageError, match="a function is not a model"):
        td.load(lambda x: x)  # type: ignore[arg-type]
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(TraceError, match="TorchScript"):
        td.load(scripted, input_shape=(2,), timesteps=2)


# -- the module stays as it was ---------------------------------------------------------------------------------------------
def content(value: Any) -> Any:
    """Something to compare: tensors by value, containers by content."""
    if isinstance(value, Tensor):
        return value.dtype, value.requires_grad, value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {k: content(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [content(v) for v in value]
    return value if isinstance(value, int | float | str | type(None)) else id(value)


def picture(net: nn.Module) -> dict[str, Any]:
    return {name: {k: content(v) for k, v in vars(m).items()} for name, m in net.named_modules()}


class Careless(Body):
    """Writes wherever a forward can write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.record: list[Any] = ["before"]
        self.seen: set[int] = {1}
        self.cache: dict[str, Any] = {"kept": 1}
        self.register_buffer("counter", torch.zeros(1))
        self.pruned = torch.nn.utils.prune.l1_unstructured(nn.Conv2d(CHANNELS, 4, 3), "weight", 0.5)
        self.fold = layer.SeqToANNContainer(self.pruned)

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        self.calls += 1
        self.counter += 1
        y = self.spikes(x)
        self.last = y
        self.record.append(y)
        self.seen.add(2)
        self.cache["y"] = y
        self.cache.pop("kept", None)
        self.conv.note = y  # type: ignore[assignment]
        return self.fold(F.dropout(y, training=self.training))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("closure", [True, False])
def test_module_is_left_as_it_was(training: bool, fails: bool, closure: bool) -> None:
    net = Careless().train(training)
    net.bn.eval()  # flags of single modules, too
    net(counts())
    net.lif.v = net.lif.v + 1
    net.out = neuron.ActivationAwareIFNode() if fails else nn.Identity()  # type: ignore[assignment]
    if closure:  # a copy of the module would run the module itself
        net.forward = lambda x: net.out(Careless.forward(net, x))  # type: ignore[method-assign]
    else:
        net.fold = layer.SeqToANNContainer(net.pruned, net.out)
    before, generator = picture(net), torch.get_rng_state()
    if fails:
        refusal(net)
    else:
        graph = td.load(net, input_shape=SHAPE, timesteps=T)
        weight = graph["conv"].op.weight
        weight_before = weight.copy()
    assert picture(net) == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert net.bn.training is False
    assert net.training is training
    net(counts()) if not fails else None  # still runs
    if not fails:  # and the graph does not share memory with it
        with torch.no_grad():
            net.conv.weight.add_(1)
        assert np.array_equal(weight, weight_before)


def test_a_copy_is_not_needed() -> None:
    # Memories that are part of an autograd graph cannot be deep-copied; tracing does not try.
    net = body(lambda s, x: s.head(s.spikes(x)).mean(0)).train()
    net(counts().requires_grad_())
    with pytest.raises(RuntimeError):
        copy.deepcopy(net.lif.v)
    assert td.load(net, input_shape=SHAPE, timesteps=T).T == T


def test_functions_of_spikingjelly_are_restored() -> None:
    from spikingjelly.activation_based.functional import forward

    before = forward._multi_step_forward
    refusal(nn.Sequential(layer.MultiStepContainer(nn.GroupNorm(1, 2))))
    assert forward._multi_step_forward is before
    y = functional.multi_step_forward(counts(), nn.Identity())
    assert torch.equal(y, counts())


def test_surrogates_do_not_matter() -> None:
    net, hashes = body(lambda s, x: s.spikes(x)), set()
    for function in (surrogate.ATan(), surrogate.Sigmoid(alpha=8.0), surrogate.PiecewiseQuadratic()):
        net.lif.surrogate_function = function  # type: ignore[union-attr]
        hashes.add(td.load(net, input_shape=SHAPE, timesteps=T).hash)
    assert len(hashes) == 1
