"""What other programs make of one NIR neuron: the table in docs/nir.md, found by running them.

The export's encoding rests on these facts. They are those of the versions named; with another version the test is skipped, and
somebody should look whether the encoding can become simpler.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import nir
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]
VERSIONS = {
    "norse": "1.1",
    "spikingjelly": "2.0",
    "snntorch": "1.0",
    "sinabs": "3.1",
    "nirtorch": "2.6",
    "nir": "1.0",
}
T, N, F = 40, 2, 4


def only(*packages: str) -> None:
    for package in packages:
        try:
            installed = version(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed")
        if not installed.startswith(VERSIONS[package]):
            pytest.skip(f"the facts are those of {package} {VERSIONS[package]}, this is {installed}")
        pytest.importorskip(package)


def full(value: float) -> NDArray[np.float64]:
    return np.full(F, value)


def lif(tau: float, r: float = 1.0, leak: float = 0.0, threshold: float = 1.0, reset: float = 0.0) -> Any:
    return nir.NIRGraph.from_list(nir.LIF(full(tau), full(r), full(leak), full(threshold), full(reset)))


def integrate(r: float, threshold: float = 1.0, reset: float = 0.0) -> Any:
    return nir.NIRGraph.from_list(nir.IF(full(r), full(threshold), full(reset)))


def inputs(scale: float = 2.0) -> Array:
    return np.random.default_rng(0).normal(0.5, scale, (T, N, F)).astype(np.float32)


def stepped(network: Any, x: Array) -> Array:
    state, outputs = None, []
    with torch.no_grad():
        for frame in torch.from_numpy(x):
            result, state = network(frame, state)
            outputs.append(np.asarray(result))
    return np.stack(outputs)


def norse(graph: Any, x: Array, dt: float) -> Array:
    only("norse", "nirtorch")
    import norse.torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return stepped(norse.torch.from_nir(graph, ignore_warnings=True, dt=dt), x)


def spikingjelly(graph: Any, x: Array, dt: float) -> Array:
    only("spikingjelly", "nirtorch")
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return stepped(import_from_nir(graph, dt=dt), x)


def snntorch(graph: Any, x: Array, dt: float) -> Array:
    only("snntorch", "nirtorch")
    from snntorch.import_nir import import_from_nir

    assert dt == 1e-4, "it knows no other time step"
    with contextlib.redirect_stdout(io.StringIO()):
        return stepped(import_from_nir(graph), x)


def euler(x: Array, q: float, gain: float, at: bool, leak: float = 0.0, reset: float = 0.0) -> Array:
    """`v += q (leak - v) + gain i`; fire at or above 1; return to `reset`."""
    v, out = np.full((N, F), leak), []
    for i in x.astype(np.float64):
        v = v + q * (leak - v) + gain * i
        s = v >= 1 if at else v > 1
        v = np.where(s, reset, v)
        out.append(s)
    return np.stack(out).astype(np.float32)


READERS: dict[str, Callable[..., Array]] = {
    "norse": norse,
    "spikingjelly": spikingjelly,
    "snntorch": snntorch,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("tau", [2.0, 4.0])
def test_all_take_one_euler_step(reader: str, tau: float) -> None:
    x = inputs()
    assert np.array_equal(READERS[reader](lif(tau * 1e-4), x, 1e-4), euler(x, 1 / tau, 1 / tau, at=False))


@pytest.mark.parametrize(("reader", "at"), [("norse", False), ("snntorch", False), ("spikingjelly", True)])
def test_at_the_threshold(reader: str, at: bool) -> None:
    x = np.full((1, N, F), 2.0, np.float32)  # a membrane of exactly 1
    assert (READERS[reader](lif(2e-4), x, 1e-4) == at).all()


def test_resistance() -> None:
    x, graph = inputs(), lif(4e-4, r=4.0)
    undivided = euler(x, 0.25, 1.0, at=False)
    assert np.array_equal(spikingjelly(graph, x, 1e-4), undivided)
    assert np.array_equal(norse(graph, x, 1e-4), euler(x, 0.25, 0.25, at=False))  # Norse ignores r
    with pytest.raises(ValueError, match="must equal 1 or tau / dt"):
        spikingjelly(lif(4e-4, r=3.0), x, 1e-4)


def test_reset() -> None:
    x, graph = inputs(), lif(2e-4, leak=-0.5, reset=-0.5)
    moved = euler(x, 0.5, 0.5, at=False, leak=-0.5, reset=-0.5)
    assert np.array_equal(spikingjelly(graph, x, 1e-4), moved)
    ignored = euler(x, 0.5, 0.5, at=False, leak=-0.5, reset=0.0)
    assert np.array_equal(norse(graph, x, 1e-4), ignored)  # Norse ignores v_reset
    assert not np.array_equal(moved, ignored)
    with pytest.raises(AssertionError, match="v_leak not supported"):
        snntorch(graph, x, 1e-4)


def test_integrate_and_fire() -> None:
    x = inputs()
    summed = euler(x, 0.0, 1.0, at=False)
    assert np.array_equal(norse(integrate(1e4), x, 1e-4), summed)
    assert np.array_equal(norse(integrate(1.0), x, 1e-4), summed)  # Norse ignores r and dt
    assert np.array_equal(spikingjelly(integrate(1e4), x, 1e-4), summed)
    with pytest.raises(ValueError, match="must equal 1 / dt"):
        spikingjelly(integrate(1.0), x, 1e-4)
    with pytest.raises(AssertionError, match="r != 1"):
        snntorch(integrate(1e4), x, 1e-4)
    leaking = snntorch(integrate(1.0), x, 1e-4)  # snnTorch makes a leaky neuron of it
    assert not np.array_equal(leaking, summed)


def test_pooling() -> None:
    only("norse", "nirtorch")
    import norse.torch

    x = np.ones((1, N, 2, 4, 4), np.float32)
    two, one = np.array([2, 2]), np.array([1, 1])
    average = nir.NIRGraph.from_list(nir.Input(np.array([2, 4, 4])), nir.AvgPool2d(two, two, 0 * two))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception):  # noqa: B017, PT011 - alone it fails, behind other nodes it ends the network
            stepped(norse.torch.from_nir(average, ignore_warnings=True), x)
        padded = nir.NIRGraph.from_list(nir.Input(np.array([2, 4, 4])), nir.SumPool2d(two, two, one))
        assert stepped(norse.torch.from_nir(padded, ignore_warnings=True), x).shape[2:] == (
            2,
            2,
            2,
        )  # not 3 x 3


def test_nirtorch_loses_the_bias_of_affine() -> None:
    only("nirtorch")
    import nirtorch

    graph = nir.NIRGraph.from_list(nir.Affine(np.zeros((3, F), np.float32), np.full(3, 7.0, np.float32)))
    result, _ = nirtorch.nir_to_torch(graph, {})(torch.zeros(1, F))
    assert not (result == 7).any()


def test_nirtorch_puts_its_own_rules_before_those_of_the_caller() -> None:
    """Only on the way to NIR; we do not go that way, and SpikingJelly's rules agree with nirtorch's where both have one."""
    only("nirtorch")
    import nirtorch

    called = []

    def rule(module: torch.nn.Linear) -> Any:
        called.append(module)
        return nir.Linear(module.weight.detach().numpy())

    graph = nirtorch.torch_to_nir(torch.nn.Sequential(torch.nn.Linear(F, 3)), {torch.nn.Linear: rule})
    assert not called
    assert "Affine" in {type(node).__name__ for node in graph.nodes.values()}


def test_nir_takes_the_height_of_a_kernel_for_its_width() -> None:
    only("nir")
    node = nir.Conv2d((10, 10), np.zeros((1, 1, 3, 5), np.float32), 1, 0, 1, 1, np.zeros(1, np.float32))
    assert node.output_type["output"].tolist() == [1, 8, 8]  # and not 8 x 6


def test_sinabs_computes_another_neuron() -> None:
    """Decay exp(-1 / tau) with tau in time steps, input undivided, several spikes per step, each subtracts the threshold."""
    only("sinabs", "nirtorch")
    import sinabs.nir

    x = inputs()[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = sinabs.nir.from_nir(lif(2.0), batch_size=1)
        result = network(torch.from_numpy(x))
    result = (result[0] if isinstance(result, tuple) else result).detach().numpy()
    v, expected = np.zeros(F, np.float32), []
    for i in x:
        v = np.float32(np.exp(-0.5)) * v + i
        s = np.floor(np.maximum(v, 0))
        v = v - s
        expected.append(s)
    assert np.array_equal(result, np.stack(expected))
