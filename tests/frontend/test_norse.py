"""Norse models as input: its own cells and layers are the oracle, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.events import open_data
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.sequence import run

nt = pytest.importorskip("norse.torch", reason="Norse is not installed")

T, N = 10, 3


def number(value: float) -> Tensor:
    return torch.tensor(value)


def by_steps(net: nn.Module, x: Tensor) -> Tensor:
    """A network of cells, one time step after the other."""
    state, outputs = None, []
    with torch.no_grad():
        for frame in x:
            y, state = net(frame, state)
            outputs.append(y)
    return torch.stack(outputs)


def in_one(net: nn.Module, x: Tensor) -> Tensor:
    """A network of layers over time."""
    with torch.no_grad():
        return net(x)[0]


RATES = st.floats(1.0, 400.0)
THRESHOLDS = st.floats(0.05, 2.0)
SEEDS = st.integers(0, 2**32 - 1)


def currents(seed: int, T: int = T) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.3, 2.0, (T, N, 6)).astype(np.float32))


def same_bits(net: nn.Module, runs: Callable[[nn.Module, Tensor], Tensor], x: Tensor) -> Graph:
    graph = td.load(net, timesteps=len(x), input_shape=tuple(x.shape[2:]))
    assert torch.equal(run(graph, x), runs(net, x))
    return graph


# -- single neurons ----------------------------------------------------------------------------------------------
@settings(max_examples=40)
@given(RATES, RATES, THRESHOLDS, st.sampled_from([0.0, -0.5, 0.04]), SEEDS)
def test_lif(mem: float, syn: float, threshold: float, rest: float, seed: int) -> None:
    values = (number(syn), number(mem), number(rest), number(threshold), number(rest))
    parameters = nt.LIFParameters(*values)
    same_bits(nt.LIFCell(parameters, dt=0.002), by_steps, currents(seed))
    same_bits(nt.LIF(parameters, dt=0.002), in_one, currents(seed))


@settings(max_examples=40)
@given(RATES, THRESHOLDS, SEEDS)
def test_lif_box(mem: float, threshold: float, seed: int) -> None:
    same_bits(
        nt.LIFBoxCell(nt.LIFBoxParameters(tau_mem_inv=number(mem), v_th=number(threshold)), dt=0.002),
        by_steps,
        currents(seed),
    )


@settings(max_examples=40)
@given(RATES, THRESHOLDS, SEEDS)
def test_lif_box_with_soft_reset(mem: float, threshold: float, seed: int) -> None:
    parameters = nt.LIFBoxParameters(
        tau_mem_inv=number(mem), v_th=number(threshold), reset_method=nt.reset_subtract
    )
    graph = same_bits(nt.LIFBoxCell(parameters, dt=0.002), by_steps, currents(seed))
    assert graph.neurons[0].op.v_reset is None


@settings(max_examples=40)
@given(RATES, SEEDS)
def test_lif_box_with_a_leak_differs_by_rounding_alone(mem: float, seed: int) -> None:
    rest = 0.25
    net = nt.LIFBoxCell(
        nt.LIFBoxParameters(tau_mem_inv=number(mem), v_leak=number(rest), v_reset=number(rest)), dt=0.002
    )
    x = currents(seed)
    graph = td.load(net, timesteps=T, input_shape=(6,))
    spikes = by_steps(net, x).numpy()
    found = compare(graph, x.numpy(), spikes, {graph.neurons[0].name: spikes}, bound=1.0).layers[0]
    # Norse adds the leak to the input before it subtracts the membrane: two roundings of numbers below 16 a step.
    assert found.first is None or abs(found.first.distance or 1.0) <= T * 2 * 2**-20


@settings(max_examples=40)
@given(THRESHOLDS, st.sampled_from([0.0, -0.5]), SEEDS)
def test_iaf(threshold: float, rest: float, seed: int) -> None:
    parameters = nt.IAFParameters(v_th=number(threshold), v_reset=number(rest))
    same_bits(nt.IAFCell(parameters), by_steps, currents(seed))
    same_bits(nt.IAF(parameters), in_one, currents(seed))


@settings(max_examples=40)
@given(RATES, RATES, st.sampled_from([0.0, -0.5, 0.3]), SEEDS)
def test_leaky_integrators(mem: float, syn: float, leak: float, seed: int) -> None:
    full = nt.LIParameters(tau_syn_inv=number(syn), tau_mem_inv=number(mem), v_leak=number(leak))
    box = nt.LIBoxParameters(tau_mem_inv=number(mem), v_leak=number(leak))
    same_bits(nt.LICell(full, dt=0.002), by_steps, currents(seed))
    same_bits(nt.LI(full, dt=0.002), in_one, currents(seed))
    same_bits(nt.LIBoxCell(box, dt=0.002), by_steps, currents(seed))
    same_bits(nt.LILinearCell(6, 4, full, dt=0.002), by_steps, currents(seed))


def test_time_constants_and_dt_are_those_of_the_module() -> None:
    parameters = nt.LIFParameters(tau_syn_inv=number(250.0), tau_mem_inv=number(125.0))
    graph = td.load(nt.LIFCell(parameters, dt=0.002), timesteps=4, input_shape=(2,))
    current, neuron = (node.op for node in graph.nodes[1:])
    assert (current.decay, current.decay_input) == (0.5, False)
    assert (neuron.decay, neuron.decay_input, neuron.strict) == (0.25, True, True)


def test_fires_above_the_threshold_not_at_it() -> None:
    net = nt.IAFCell()
    x = torch.tensor([0.5, 0.5, np.spacing(np.float32(1.0))]).reshape(3, 1, 1)
    graph = same_bits(net, by_steps, x)
    assert run(graph, x).flatten().tolist() == [0.0, 0.0, 1.0]


# -- networks on recordings --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def frames(nmnist: Path) -> NDArray[np.float32]:
    data = open_data(nmnist / "Test", timesteps=T, sensor=(34, 34), limit=4)
    ((x, _),) = data.batches(4)
    return np.asarray(x, np.float32)


def parameters(threshold: float) -> Any:
    return nt.LIFParameters(tau_syn_inv=number(300.0), tau_mem_inv=number(200.0), v_th=number(threshold))


def network_of_cells() -> nn.Module:
    torch.manual_seed(0)
    box = nt.LIFBoxParameters(tau_mem_inv=number(500.0), v_th=number(0.2))
    return nt.SequentialState(
        nn.Conv2d(2, 8, 5, padding=2, bias=False),
        nt.LIFCell(parameters(0.1)),
        nn.MaxPool2d(2),
        nt.SequentialState(nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nt.LIFBoxCell(box)),
        nn.Sequential(nn.AvgPool2d(3), nn.Flatten()),
        nn.Linear(300, 32),
        nt.IAFCell(nt.IAFParameters(v_th=number(0.3))),
        nn.Linear(32, 10),
        nt.LICell(),
    ).eval()


def network_of_layers() -> nn.Module:
    torch.manual_seed(0)
    return nt.SequentialState(
        nt.Lift(nn.Conv2d(2, 8, 5, padding=2)),
        nt.LIF(parameters(0.1)),
        nt.Lift(nn.MaxPool2d(2)),
        nt.Lift(nn.Sequential(nn.Conv2d(8, 12, 3), nn.AvgPool2d(3))),
        nt.LIF(parameters(0.05)),
        nn.Flatten(2),
        nn.Linear(300, 10),
        nt.LI(),
    ).eval()


class Handwritten(nn.Module):
    """As Norse's tutorials write networks: a forward of one time step that passes on its states."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 8, 5)
        self.lif = nt.LIFCell(parameters(0.1))
        self.out = nn.Linear(8 * 15 * 15, 10)
        self.li = nt.LICell()

    def forward(self, x: Tensor, state: Any = None) -> Any:
        s0, s1 = (None, None) if state is None else state
        z, s0 = self.lif(self.conv(x), s0)
        z = nn.functional.max_pool2d(z, 2)
        v, s1 = self.li(self.out(z.flatten(1)), s1)
        return v, (s0, s1)


@pytest.mark.parametrize(
    ("build", "runs"),
    [
        (network_of_cells, by_steps),
        (network_of_layers, in_one),
        (lambda: nt.Lift(network_of_cells()), in_one),
        (Handwritten, by_steps),
    ],
    ids=["cells", "layers", "lifted", "handwritten"],
)
def test_networks_agree_spike_for_spike_on_recordings(
    build: Callable[[], nn.Module], runs: Callable[[nn.Module, Tensor], Tensor], frames: NDArray[np.float32]
) -> None:
    net = build()
    seen: dict[str, list[Tensor]] = {}
    for name, module in net.named_modules():
        if type(module).__name__ in ("LIFCell", "LIFBoxCell", "IAFCell", "LIF"):
            seen[name] = []
            module.register_forward_hook(lambda m, i, o, name=name: seen[name].append(o[0].detach()))
    output = runs(net, torch.from_numpy(frames)).numpy()
    for module in net.modules():
        module._forward_hooks.clear()
    graph = td.load(net, timesteps=T, input_shape=(2, 34, 34))
    spikes = {name: (torch.stack(v) if len(v) == T else v[0]).numpy() for name, v in seen.items()}
    assert set(spikes) == {n.name for n in graph.neurons}
    found = compare(graph, frames, output, spikes, bound=0.0)
    # Kernels over T N frames at once may add up in another order than over N frames: rounding, and nothing else.
    for layer in found.layers:
        assert layer.spikes > 0
        assert layer.first is None or layer.first.distance is None or abs(layer.first.distance) < 1e-5
    assert found.mismatch_rate < 1e-5
    assert found.predictions_equal == found.samples
    assert graph[graph.output].signal.kind is Kind.REAL


# -- what is refused ---------------------------------------------------------------------------------------------
def test_every_offender_is_named() -> None:
    net = nt.SequentialState(
        nt.LIFRecurrentCell(5, 5),
        nt.LIFCell(nt.LIFParameters(v_leak=number(-0.1))),
        nt.LIFBoxCell(nt.LIFBoxParameters(tau_mem_inv=torch.tensor([100.0, 200, 300, 400, 500]))),
        nt.LICell(dt=0.1),
        nt.LIFRefracCell(),
    )
    with pytest.raises(TraceError) as error:
        td.load(net, timesteps=T, input_shape=(5,))
    text = str(error.value)
    assert "0: norse.torch.module.lif.LIFRecurrentCell has no translation" in text
    assert "recurrent connections" in text
    assert "1: leaks to -0.1 but is reset to 0" in text
    assert "2: has a tau_mem_inv for each neuron" in text
    assert "3: leaks 10 of its state in a time step" in text
    assert "4: norse.torch.module.lif_refrac.LIFRefracCell" in text


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (lambda: nt.RecurrentSequential(nn.Linear(5, 5), nt.LIFCell()), "recurrent connections"),
        (lambda: nt.SequentialState(nn.Linear(5, 5), nt.LIFCell(), nt.LIF()), "is a cell"),
        (lambda: nt.SequentialState(nn.Linear(5, 5), nt.LIF(record_states=True)), "records the states"),
        (
            lambda: nt.SequentialState(nn.Linear(5, 5), nt.PoissonEncoder(3)),
            "PoissonEncoder has no translation",
        ),
    ],
)
def test_refusals(net: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(TraceError, match=reason):
        td.load(net(), timesteps=T, input_shape=(5,))


class FeedsBack(nn.Module):
    """Recurrence that only the handed-on state shows."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.back = nt.LIFCell(), nn.Linear(5, 5)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        z, s = (torch.zeros_like(x), None) if state is None else state
        z, s = self.cell(x + self.back(z), s)
        return z, (z, s)


def test_recurrence_through_a_state_is_not_dropped() -> None:
    with pytest.raises(TraceError):
        td.load(FeedsBack(), timesteps=T, input_shape=(5,))


def test_a_custom_update_is_not_taken_for_norses() -> None:
    cell = nt.LIFBoxCell()
    cell.activation = lambda x, s, p, dt: (x, s)
    with pytest.raises(TraceError, match="updates its state by"):
        td.load(nt.SequentialState(cell), timesteps=T, input_shape=(5,))


def test_timesteps_are_needed() -> None:
    with pytest.raises(UsageError, match="number of time steps"):
        td.load(network_of_cells(), input_shape=(2, 34, 34))


def test_the_module_stays_as_it_was() -> None:
    net = network_of_cells()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    td.load(net, timesteps=T, input_shape=(2, 34, 34))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert isinstance(net[1].p.v_th, Tensor)
