"""Tracing neurons, layers and containers: outputs and spikes of the module's own forward, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from same_run import assert_output, assert_same
from small_nets import CHANNELS, SHAPE, SIDE, N, T, body, counts, lif, lively, traced
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from tcja_deploy.errors import TraceError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.sequence import run


def kinds(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in graph]


# -- neurons -----------------------------------------------------------------------------------------------------------
NEURONS = {
    "IF": neuron.IFNode,
    "LIF": neuron.LIFNode,
    "PLIF": neuron.ParametricLIFNode,
}


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, None, -0.3, 0.25])
@pytest.mark.parametrize("kind", NEURONS)
def test_neurons(kind: str, v_reset: float | None, decay_input: bool, step_mode: str) -> None:
    leaky = {} if kind == "IF" else {"decay_input": decay_input}
    leaky |= {"LIF": {"tau": 1.7}, "PLIF": {"init_tau": 2.7}}.get(kind, {})
    options = {"v_threshold": 0.6, "v_reset": v_reset, "step_mode": step_mode, **leaky}
    net = lively(
        nn.Sequential(layer.Conv2d(2, 5, 3, step_mode=step_mode), NEURONS[kind](**options)), gain=1.5
    )
    graph = traced(net)
    op = graph["1"].op
    assert type(op).__name__ == kind
    assert (op.v_threshold, op.v_reset, op.strict) == (0.6, v_reset, False)
    x = counts()
    if step_mode == "m":
        assert_same(net, graph, x)
    else:  # the graph is that of the loop over time around the single-step network
        spikes = torch.stack([net(frame) for frame in x])
        functional.reset_net(net)
        assert 0 < spikes.mean() < 1
        assert torch.equal(run(graph, x), spikes)


@pytest.mark.parametrize("cls", [neuron.SimpleIFNode, neuron.SimpleLIFNode])
def test_simple_neurons(cls: Any) -> None:
    def net(v_reset: float) -> nn.Module:
        options = {"tau": 1.7, "decay_input": False} if cls is neuron.SimpleLIFNode else {}
        act = cls(
            v_threshold=0.7, v_reset=v_reset, surrogate_function=surrogate.ATan(), step_mode="m", **options
        )
        return lively(nn.Sequential(layer.Conv2d(2, 5, 3, step_mode="m"), act), gain=1.5)

    plain = net(0.0)
    assert_same(plain, traced(plain), counts())
    # SpikingJelly 2.0 starts these at 0 whatever v_reset is; a graph that starts at v_reset would be another network.
    with pytest.raises(TraceError, match="starts from a membrane other"):
        traced(net(-0.2))


@pytest.mark.parametrize("decode", ["mean-mem", "max-mem"])
@pytest.mark.parametrize(
    "make",
    [neuron.NonSpikingIFNode, lambda d: neuron.NonSpikingLIFNode(4.0, d)],
    ids=["IF", "LIF"],
)
def test_readout_membranes(make: Any, decode: str) -> None:
    net = lively(
        nn.Sequential(
            layer.Conv2d(2, 5, 3, step_mode="m"), lif(), nn.Flatten(2), nn.Linear(180, 7), make(decode)
        )
    )
    graph = traced(net)
    assert kinds(graph)[-2:] == ["LI", "TimeMean" if decode == "mean-mem" else "Reduce"]
    assert_output(net, graph, counts())


@pytest.mark.parametrize("tau", [2.0, 3.0])
def test_readouts_of_the_last_step_and_of_every_step(tau: float) -> None:
    """`decode="last_mem"` gives one membrane, `decode=None` a list of them all."""
    last = lively(
        nn.Sequential(layer.Conv2d(2, 5, 3, step_mode="m"), neuron.NonSpikingLIFNode(tau, "last_mem"))
    )
    every = body(
        lambda s, x: torch.stack(s.read(s.conv(x)))[1:].mean(0), read=neuron.NonSpikingLIFNode(tau, None)
    )
    for net in (last, every):
        graph = traced(net)
        with torch.no_grad():
            torch.testing.assert_close(run(graph, counts()), net(counts()), rtol=1e-6, atol=1e-6)
        # dividing by three is rounded unlike a product with a third
        assert ("computed as x * (1 / tau)" in graph.source.get("assumptions", "")) == (tau == 3.0)


def test_readout_membranes_that_are_refused() -> None:
    with pytest.raises(TraceError, match="decode='max-abs-mem'"):
        traced(nn.Sequential(neuron.NonSpikingLIFNode(2.0, "max-abs-mem")))


def test_membrane_exactly_at_the_threshold() -> None:
    net = nn.Sequential(nn.Identity(), lif(tau=2.0))  # tau = 2: an input of 2 charges to exactly 1
    x = torch.zeros(T, N, *SHAPE)
    x[0] = 2.0
    x[1, :, 0] = 1.9999999
    x[2] = 4.0
    assert_same(net, traced(net), x)


def test_states_and_training_leftovers_do_not_matter() -> None:
    net = body(lambda s, x: s.head(s.spikes(x)).mean(0))
    graph = traced(net)
    net(counts(1))  # membranes are no longer at rest
    assert traced(net).hash == graph.hash
    assert traced(net.train()).hash == graph.hash


# -- layers --------------------------------------------------------------------------------------------------------------
def m(cls: Any, *args: Any, **options: Any) -> nn.Module:
    made: nn.Module = cls(*args, step_mode="m", **options)
    return made


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "conv": (lambda: m(layer.Conv2d, 4, 6, 3, stride=2, dilation=2, groups=2, padding=(2, 1)), (4, 9, 10)),
    "conv, same, even kernel": (lambda: m(layer.Conv2d, 4, 6, (2, 4), padding="same"), (4, 7, 8)),
    "conv, valid": (lambda: m(layer.Conv2d, 4, 6, 3, padding="valid", bias=False), (4, 7, 8)),
    "transposed conv": (
        lambda: m(layer.ConvTranspose2d, 4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 5, 6),
    ),
    "max pool": (lambda: m(layer.MaxPool2d, 3, 2, padding=1), (4, 7, 8)),
    "average pool": (lambda: m(layer.AvgPool2d, 3, 2, padding=1), (4, 7, 8)),
    "average pool, real windows": (lambda: m(layer.AvgPool2d, 3, 2, padding=1, count_include_pad=False), (4, 7, 8)),
    "adaptive pool": (lambda: m(layer.AdaptiveAvgPool2d, (3, 5)), (4, 7, 8)),
    "global pool": (lambda: m(layer.AdaptiveAvgPool2d, 1), (4, 7, 8)),
    "batch norm": (lambda: m(layer.BatchNorm2d, 4), (4, 7, 8)),
    "batch norm without weights": (lambda: m(layer.BatchNorm2d, 4, affine=False), (4, 7, 8)),
    "dense": (lambda: m(layer.Linear, 8, 5), (4, 7, 8)),
    "flatten": (lambda: m(layer.Flatten), (4, 7, 8)),
    "dropout": (lambda: m(layer.Dropout, 0.3), (4, 7, 8)),
    "dropout 2d": (lambda: m(layer.Dropout2d, 0.3), (4, 7, 8)),
    "identity": (nn.Identity, (4, 7, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    build, shape = LAYERS[name]
    net = lively(nn.Sequential(build(), lif(v_threshold=0.5)))
    graph = traced(net, input_shape=shape)
    assert_same(net, graph, counts(shape=shape))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_dense_batch_norm_and_vote(step_mode: str) -> None:
    net = nn.Sequential(
        layer.Flatten(step_mode="m"), layer.Linear(2 * SIDE * SIDE, 24, step_mode="m"),
        layer.BatchNorm1d(24, step_mode="m"), lif(), layer.VotingLayer(5, step_mode=step_mode),
    )  # fmt: skip
    if step_mode == "s":  # a vote over the time mean sees [N, K]
        net = body(lambda s, x: s.vote(s.net(x).mean(0)), net=net[:-1], vote=net[-1])
    lively(net)
    graph = traced(net)
    assert kinds(graph)[-1] == "Vote"
    assert_same(net, graph, counts())


@pytest.mark.parametrize("container", ["SeqToANNContainer", "StepModeContainer stateless", "functional"])
def test_stateless_containers(container: str) -> None:
    layers = nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.AvgPool2d(2)
    if container == "SeqToANNContainer":
        net = nn.Sequential(layer.SeqToANNContainer(*layers), lif(v_threshold=0.3))
    elif container == "functional":
        net = body(
            lambda s, x: s.act(functional.seq_to_ann_forward(x, [s.a, s.b, s.c, s.d])),
            a=layers[0], b=layers[1], c=layers[2], d=layers[3], act=lif(v_threshold=0.3),
        )  # fmt: skip
    else:
        net = nn.Sequential(layer.StepModeContainer(False, "m", *layers), lif(v_threshold=0.3))
    lively(net)
    graph = traced(net)
    assert_same(net, graph, counts()) if container != "functional" else assert_output(net, graph, counts())


@pytest.mark.parametrize(
    "container", ["MultiStepContainer", "StepModeContainer stateful", "functional", "imported"]
)
def test_stateful_containers(container: str) -> None:
    from spikingjelly.activation_based.functional import multi_step_forward

    inner = nn.Conv2d(2, 5, 3), lif("s"), nn.MaxPool2d(2), nn.Conv2d(5, 4, 2), lif("s", v_threshold=0.4)
    sequence = nn.ModuleList(inner)
    net = {
        "MultiStepContainer": lambda: layer.MultiStepContainer(*inner),
        "StepModeContainer stateful": lambda: layer.StepModeContainer(True, "m", *inner),
        "functional": lambda: body(lambda s, x: functional.multi_step_forward(x, list(s.seq)), seq=sequence),
        "imported": lambda: body(lambda s, x: multi_step_forward(x, nn.Sequential(*s.seq)), seq=sequence),
    }[container]()
    net = lively(nn.Sequential(net, nn.Flatten(2)))
    graph = traced(net)
    assert kinds(graph).count("LIF") == 2
    assert_output(net, graph, counts())


def test_shared_stateless_layers() -> None:
    pool = layer.MaxPool2d(2, step_mode="m")
    net = lively(
        nn.Sequential(layer.Conv2d(2, 4, 3, padding=1, step_mode="m"), lif(), pool, lif(), pool, lif())
    )
    graph = traced(net)
    assert kinds(graph).count("MaxPool2d") == 2
    assert_same(net, graph, counts(), active=False)
    shared = nn.Sequential(layer.SeqToANNContainer(nn.MaxPool2d(2)))
    shared[0].append(shared[0][0])  # the same pool twice in one container
    assert kinds(traced(shared)).count("MaxPool2d") == 2
    assert_output(shared, traced(shared), counts())


def test_module_made_in_forward() -> None:
    net = body(lambda s, x: nn.Flatten(2)(layer.SeqToANNContainer(nn.MaxPool2d(2))(s.spikes(x))))
    assert_output(net, traced(net), counts())


def test_subclasses() -> None:
    class Named(nn.Conv2d):
        """Changes nothing."""

    class Doubling(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    class Narrow(layer.Conv2d):
        def __init__(self) -> None:
            super().__init__(2, CHANNELS, 3, step_mode="m")

    for conv in (
        layer.SeqToANNContainer(Named(2, 6, 3)),
        layer.SeqToANNContainer(Doubling(2, 6, 3)),
        Narrow(),
    ):
        net = lively(nn.Sequential(conv, lif()))
        assert_same(net, traced(net), counts())


def test_weights_that_hooks_and_parametrisations_derive() -> None:
    def conv() -> nn.Conv2d:
        return nn.Conv2d(2, 5, 3)

    pruned = torch.nn.utils.prune.l1_unstructured(conv(), "weight", amount=0.5)
    normed = torch.nn.utils.parametrizations.weight_norm(conv())
    with pytest.warns(FutureWarning):
        old_norm = torch.nn.utils.weight_norm(conv())
    for module in (pruned, normed, old_norm):
        net = nn.Sequential(layer.SeqToANNContainer(module), lif(v_threshold=0.2)).eval()
        with torch.no_grad():  # what an optimizer does: the derived weight is stale until the next forward
            for p in module.parameters():
                p.mul_(1.3)
        assert_same(net, traced(net), counts())


def test_wrappers_of_whole_networks() -> None:
    net = body(lambda s, x: s.head(s.spikes(x)).mean(0))
    graph = traced(net)
    assert_output(nn.DataParallel(net), traced(nn.DataParallel(net)), counts())
    compiled = torch.compile(net)
    assert traced(compiled).hash == graph.hash
