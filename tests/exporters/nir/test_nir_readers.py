"""One file, several readers: ours, Norse and SpikingJelly, layer by layer on real recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nir_nets import FOREIGN, INSTALLED, RECORDINGS, chain, conv_net, counts, needs, normal

import tcja_deploy as td
from tcja_deploy import data as shipped
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.nir.artifact import read_nir_artifact
from tcja_deploy.exporters.nir.runners import RUNNERS
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.runtime.sequence import run

NETS = {
    "lif": conv_net,
    "lif, input undivided": lambda: conv_net(neuron=ir.LIF(decay_input=False, tau=4.0)),
    "lif, reset to -0.5": lambda: conv_net(neuron=ir.LIF(v_reset=-0.5)),
    "lif, threshold not reached at": lambda: conv_net(neuron=ir.LIF(strict=True)),
    "plif": lambda: conv_net(neuron=ir.PLIF(decay=0.25), gain=2.0),
    "if": lambda: conv_net(neuron=ir.IF()),
    "average pooling": lambda: conv_net(pool=ir.AvgPool2d((2, 2), (2, 2))),
    "padded pooling": lambda: conv_net(pool=ir.MaxPool2d((3, 3), (2, 2), (1, 1))),
    "padded average": lambda: conv_net(pool=ir.AvgPool2d((3, 3), (2, 2), (1, 1))),
}


@pytest.mark.parametrize("runner", ["sequence", *FOREIGN])
@pytest.mark.parametrize("net", NETS)
def test_exported_networks_agree_layer_by_layer(
    net: str, runner: str, recordings: RECORDINGS, tmp_path: Path
) -> None:
    if runner != "sequence":
        needs(runner)
    graph = NETS[net]()
    report = td.export(graph, "nir", tmp_path / "net.nir", verify=False)
    found = td.verify(report.path, graph, [recordings], runner=runner)
    assert all(layer.spikes > 0 for layer in found.layers)
    assert found.predictions_equal == found.samples == 10
    # Time constants here are powers of two: nothing is rounded. The exceptions: a sum over nine, divided by nine in the
    # weights, and a membrane counted from -0.5.
    if net in ("padded average", "lif, reset to -0.5"):
        assert found.mismatch_rate < 1e-5
        assert all(
            f is None or f.distance is None or abs(f.distance) < 1e-5 for f in (x.first for x in found.layers)
        )
    else:
        assert found.mismatches == 0
        assert [x.spikes for x in found.layers] == [x.other_spikes for x in found.layers]


@pytest.mark.parametrize("tau", [1.5, 3.0, 10.0])
@pytest.mark.parametrize("runner", ["sequence", *FOREIGN])
def test_other_time_constants_differ_by_rounding_alone(
    tau: float, runner: str, recordings: RECORDINGS, tmp_path: Path
) -> None:
    """Norse multiplies by dt / tau rounded twice to float32, where SpikingJelly divides by tau."""
    if runner != "sequence":
        needs(runner)
    for decay_input in (True, False):
        graph = conv_net(neuron=ir.LIF(tau=tau, decay_input=decay_input))
        report = td.export(graph, "nir", tmp_path / "net.nir", verify=False, force=True)
        found = td.verify(report.path, graph, [recordings], runner=runner)
        assert found.mismatch_rate < 1e-5
        for layer in found.layers:
            # Membranes below 4, ten steps, each rounded a few times by 2**-23.
            if layer.first is not None and layer.first.distance is not None:
                assert abs(layer.first.distance) < 10 * 4 * 2**-21


@pytest.mark.parametrize("runner", FOREIGN)
@pytest.mark.parametrize("dt", [1e-3, 1.0, 2.0**-12])
def test_the_time_step_is_free(dt: float, runner: str, recordings: RECORDINGS, tmp_path: Path) -> None:
    needs(runner)
    graph = conv_net()
    report = td.export(graph, "nir", tmp_path / "net.nir", dt=dt, verify=False)
    assert td.verify(report.path, graph, [recordings], runner=runner).mismatches == 0


@pytest.mark.parametrize("runner", FOREIGN)
def test_current_based_neurons(runner: str, recordings: RECORDINGS, tmp_path: Path) -> None:
    needs(runner)
    rng = np.random.default_rng(0)
    graph = chain(
        10, (2, 34, 34), ir.Flatten(), ir.Linear(normal(rng, 30, 2312, scale=0.1)), ir.LI(0.25, decay_input=False),
        ir.PLIF(strict=True, decay=0.125), ir.Linear(normal(rng, 10, 30, scale=2.0)), ir.LI(0.5), ir.LIF(tau=4.0),
    )  # fmt: skip
    report = td.export(graph, "nir", tmp_path / "net.nir")
    assert {type(n).__name__ for n in nir.read(report.path).nodes.values()} >= {"CubaLIF"}
    found = td.verify(report.path, graph, [recordings], runner=runner)
    assert all(layer.spikes > 0 for layer in found.layers)
    assert found.mismatch_rate <= 1e-3  # 400 neuron-steps per sample: rounding may move a spike
    for layer in found.layers:
        assert layer.first is None or layer.first.distance is None or abs(layer.first.distance) < 1e-5


def residual(T: int = 10) -> Graph:
    from tcja_deploy.ir import GraphBuilder

    rng = np.random.default_rng(3)
    b = GraphBuilder(T)
    x = b.add("input", ir.Input((2, 34, 34)))
    c = b.add("conv", ir.Conv2d(normal(rng, 6, 2, 3, 3, scale=0.5), stride=(2, 2)), x)
    s = b.add("lif1", ir.LIF(), c)
    d = b.add("inner", ir.Conv2d(normal(rng, 6, 6, 3, 3, scale=0.3), padding=(1, 1, 1, 1)), s)
    m = b.add("add", ir.Add(), d, c)
    s2 = b.add("lif2", ir.LIF(), m)
    out = b.add("sew", ir.Add(), s2, s)
    f = b.add("fc", ir.Linear(normal(rng, 10, 6 * 256, scale=0.1)), b.add("flat", ir.Flatten(), out))
    return b.finish(b.add("mean", ir.TimeMean(), b.add("lif3", ir.LIF(), f)))


@pytest.mark.parametrize("runner", FOREIGN)
def test_residual_networks(runner: str, recordings: RECORDINGS, tmp_path: Path) -> None:
    needs(runner)
    graph = residual()
    report = td.export(graph, "nir", tmp_path / "net.nir")
    found = td.verify(report.path, graph, [recordings], runner=runner)
    assert all(layer.spikes > 0 for layer in found.layers)
    # A sum of two values in another order is the same number.
    assert found.mismatches == 0


@pytest.mark.parametrize("runner", ["sequence", *FOREIGN])
@pytest.mark.parametrize("gate", ["mean", "split"])
def test_trained_tcja_network(gate: Any, runner: str, recordings: RECORDINGS, tmp_path: Path) -> None:
    if runner != "sequence":
        needs(runner)
    graph = td.load(shipped.path("nmnist_checkpoint_max.pth"))
    report = td.export(graph, "nir", tmp_path / "net.nir", gate=gate, data=[recordings], verify=False)
    found = td.verify(report.path, graph, [recordings], runner=runner)
    assert all(layer.spikes > 0 for layer in found.layers)
    assert found.mismatches == 0
    assert found.predictions_equal == 10
    if gate == "split":
        result = read_nir_artifact(report.path, runner).run(recordings)
        assert np.array_equal(result.output, run(graph, recordings).numpy())


@settings(max_examples=12)
@given(
    st.sampled_from([1.0, 2.0, 4.0, 3.0, 7.5]), st.booleans(), st.floats(0.125, 4.0), st.booleans(),
    st.sampled_from([0.0, -1.0]), st.sampled_from(["LIF", "PLIF", "IF"]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_neuron_means_the_same_everywhere(
    tau: float, decay_input: bool, threshold: float, strict: bool, reset: float, kind: str, seed: int
) -> None:
    import tempfile

    common = {"v_threshold": threshold, "v_reset": reset, "strict": strict}
    neuron: ir.Neuron
    match kind:
        case "LIF":
            neuron = ir.LIF(**common, tau=tau, decay_input=decay_input)  # type: ignore[arg-type]
        case "PLIF":
            neuron = ir.PLIF(**common, decay=1 / tau, decay_input=decay_input)  # type: ignore[arg-type]
        case _:
            neuron = ir.IF(**common)  # type: ignore[arg-type]
    graph = chain(12, (40,), neuron, kind=Kind.REAL)
    x = np.random.default_rng(seed).normal(0.4, 2.0, (12, 2, 40)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        report = td.export(graph, "nir", Path(folder) / "n.nir", verify=False)
        for name in ("sequence", *INSTALLED):
            if name == "spikingjelly" and tau == 1.0 and kind != "IF":
                continue  # its LIFNode takes tau > 1 only
            found = td.verify(report.path, graph, [x], runner=name)
            for layer in found.layers:
                if layer.first is not None:
                    # Membranes below 16, twelve steps, each rounded a few times by half of 2**-20.
                    assert layer.first.distance is not None
                    assert abs(layer.first.distance) < 12 * 2**-19


# -- known defects of readers, and how the files avoid them -----------------------------------------------------------
def test_norse_is_refused_where_it_would_stop_silently(tmp_path: Path) -> None:
    needs("norse")
    graph = chain(4, (2, 8, 8), ir.LIF(), ir.AvgPool2d((2, 2), (2, 2)))
    report = td.export(graph, "nir", tmp_path / "net.nir")
    frames = np.ones((4, 1, 2, 8, 8), np.float32)
    with pytest.raises(UnsupportedError, match="silently stop before it"):
        td.verify(report.path, graph, [frames], runner="norse")
    graph = chain(4, (2, 8, 8), ir.AvgPool2d((2, 2), (2, 2)))
    report = td.export(graph, "nir", tmp_path / "nothing.nir", data=[frames])
    with pytest.raises(UnsupportedError, match=r"Norse does not take this file: .*empty graph"):
        td.verify(report.path, graph, [frames], runner="norse")


@pytest.mark.parametrize("runner", FOREIGN)
def test_biases_arrive(runner: str, tmp_path: Path) -> None:
    """nirtorch 2.6 loses the bias of Affine unless the reader has its own rule."""
    needs(runner)
    rng = np.random.default_rng(0)
    graph = chain(
        3, (4,), ir.Linear(normal(rng, 5, 4), normal(rng, 5)), ir.LIF(v_threshold=0.5), kind=Kind.REAL
    )
    td.export(graph, "nir", tmp_path / "net.nir")
    x = np.zeros((3, 1, 4), np.float32)
    result = RUNNERS[runner](tmp_path / "net.nir", 1e-4)(x)
    assert np.allclose(result.values["linear_0"], graph["linear.0"].op.bias)


@pytest.mark.parametrize("runner", FOREIGN)
@pytest.mark.parametrize(
    "op",
    [
        {"shape": (4, 2, 3, 5), "padding": (1, 2, 1, 2)},
        {"shape": (4, 2, 3, 3), "padding": (0, 0, 2, 2)},
        {"shape": (4, 2, 5, 1), "padding": (0, 3, 0, 1), "stride": (2, 1)},
        {"shape": (4, 1, 3, 3), "groups": 2},
        {"shape": (4, 2, 3, 1), "dilation": (2, 1)},
    ],
)
def test_odd_convolutions(op: dict[str, Any], runner: str, tmp_path: Path) -> None:
    """nir 1.0.8 takes the kernel's height for its width, SpikingJelly 2.0 takes no groups, nobody uneven padding."""
    needs(runner)
    rng = np.random.default_rng(0)
    settings_ = {k: v for k, v in op.items() if k != "shape"}
    weight = np.round(normal(rng, *op["shape"], scale=4.0))
    graph = chain(3, (2, 10, 11), ir.Conv2d(weight, **settings_), ir.IF(v_threshold=5.5))
    td.export(graph, "nir", tmp_path / "net.nir")
    x = rng.poisson(0.5, (3, 2, 2, 10, 11)).astype(np.float32)
    found = td.verify(tmp_path / "net.nir", graph, [x], runner=runner)
    assert found.layers[0].spikes > 0
    assert found.mismatches == 0


def test_both_readings_of_the_threshold_are_counted(tmp_path: Path) -> None:
    """A membrane of exactly the number before the threshold is where readers with >= and with > part."""
    graph = chain(2, (1,), ir.IF(), kind=Kind.REAL)
    below = np.nextafter(np.float32(1), np.float32(0))
    x = np.array([below, 0.0], np.float32).reshape(2, 1, 1)
    report = td.export(graph, "nir", tmp_path / "n.nir", data=[x])
    assert report.agreement is not None
    assert (report.agreement.mismatches, report.comparisons["inclusive"].mismatches) == (0, 1)
    at = np.array([1.0, 0.0], np.float32).reshape(2, 1, 1)
    for name in ("sequence", "sequence>=", "norse", "spikingjelly"):
        if name in FOREIGN:
            needs(name)
        assert td.verify(report.path, graph, [at], runner=name).mismatches == 0


def test_counts_are_those_of_the_network(recordings: RECORDINGS, tmp_path: Path) -> None:
    graph = conv_net()
    report = td.export(graph, "nir", tmp_path / "net.nir", data=[recordings])
    read = load_nir(report.path)
    assert counts(read, recordings) == counts(graph, recordings)
    assert np.array_equal(run(read, recordings).numpy(), run(graph, recordings).numpy())
