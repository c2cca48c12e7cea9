"""Networks of SpikingJelly 0.0.0.0.12 (`clock_driven`) and 0.0.0.0.14: live and pickled, exactly as 2.x.

The versions are installed into folders of their own, in a process of their own: two versions cannot be imported at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

OLD, MIDDLE = "0.0.0.0.12", "0.0.0.0.14"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each version."""
    cache = Path(os.environ.get("CASES_CACHE") or tmp_path_factory.getbasetemp().parent / "spikingjelly")
    found = {}
    for version in (OLD, MIDDLE):
        folder = cache / f"spikingjelly__{version}"
        if not (folder / "spikingjelly").is_dir():
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
            done = subprocess.run(
                [*command, f"spikingjelly=={version}"], capture_output=True, text=True, check=False
            )
            if done.returncode:
                pytest.skip(f"no registry to install SpikingJelly {version} from: {done.stderr[-300:]}")
        found[version] = folder
    return found


def in_version(folder: Path, code: str, tmp_path: Path) -> Any:
    """What a script prints last, as JSON, run with this version."""
    script = tmp_path / "networks.py"
    script.write_text(PRELUDE + dedent(code))
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{tmp_path}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


PRELUDE = dedent("""
    import json
    import numpy as np, torch
    from torch import nn
    import tcja_deploy as td
    from tcja_deploy.runtime.sequence import run

    T = 5

    def frames(*shape):
        return torch.poisson(torch.full((T, 2, *shape), 0.8), generator=torch.Generator().manual_seed(1))

    def loud(net):
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                m.weight.data.normal_(0.1, 1).mul_(4 / m.weight[0].numel() ** 0.5)
            if isinstance(m, nn.BatchNorm2d):
                m.running_var.uniform_(0.3, 1.0), m.running_mean.normal_(0, 0.2)
        return net.eval()

    def compare(net, x, functional, single=False, pickled=False):
        functional.reset_net(net)
        with torch.no_grad():
            want = torch.stack([net(f) for f in x]) if single else net(x)
        functional.reset_net(net)
        source = net
        if pickled:
            torch.save(net, "net.pth")
            source = "net.pth"
        graph = td.load(source, timesteps=T, input_shape=tuple(x.shape[2:]), **({"trust_pickle": True} if pickled else {}))
        got = torch.as_tensor(np.asarray(run(graph, x.numpy())))
        return [float(want.sum()), float((got != want).float().mean()), str(type(graph.neurons[0].op).__name__)]
""")

CLOCK_DRIVEN = """
    import os
    from spikingjelly.clock_driven import functional, layer, neuron, surrogate

    os.chdir(os.path.dirname(__file__))
    options = dict(surrogate_function=surrogate.ATan(), detach_reset=True)
    results = {}
    torch.manual_seed(0)
    for name, node in {
        "LIF": lambda kind: getattr(neuron, kind + "LIFNode")(tau=2.0, **options),
        "LIF, soft reset": lambda kind: getattr(neuron, kind + "LIFNode")(tau=3.0, v_reset=None, **options),
        "LIF, reset below": lambda kind: getattr(neuron, kind + "LIFNode")(tau=2.0, v_reset=-0.5, **options),
        "LIF, input not decayed": lambda kind: getattr(neuron, kind + "LIFNode")(tau=2.0, decay_input=False, **options),
        "IF": lambda kind: getattr(neuron, kind + "IFNode")(**options),
        "PLIF": lambda kind: getattr(neuron, kind + "ParametricLIFNode")(init_tau=2.5, **options),
    }.items():
        one = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), node(""), nn.MaxPool2d(2), nn.Flatten(),
                            layer.Dropout(0.5), nn.Linear(64, 10), node(""))
        many = nn.Sequential(
            layer.SeqToANNContainer(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)), node("MultiStep"),
            layer.SeqToANNContainer(nn.MaxPool2d(2), nn.Flatten()), layer.MultiStepDropout(0.5),
            layer.SeqToANNContainer(nn.Linear(64, 10)), node("MultiStep"))
        inside = nn.Sequential(layer.MultiStepContainer(nn.Conv2d(2, 4, 3), node("")), nn.Flatten(2), nn.Linear(144, 5))
        for pickled in (False, True):
            results[f"{name}, single step, {pickled}"] = compare(loud(one), frames(2, 8, 8), functional, True, pickled)
            results[f"{name}, multi-step, {pickled}"] = compare(loud(many), frames(2, 8, 8), functional, False, pickled)
        results[f"{name}, container"] = compare(loud(inside), frames(2, 8, 8), functional)
    print(json.dumps(results))
"""

ACTIVATION_BASED = """
    import os
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    os.chdir(os.path.dirname(__file__))
    options = dict(surrogate_function=surrogate.ATan(), detach_reset=True)
    results = {}
    torch.manual_seed(0)
    for name, node in {
        "LIF": lambda: neuron.LIFNode(tau=2.0, **options),
        "LIF, soft reset": lambda: neuron.LIFNode(tau=3.0, v_reset=None, **options),
        "IF": lambda: neuron.IFNode(**options),
        "PLIF": lambda: neuron.ParametricLIFNode(init_tau=2.5, **options),
    }.items():
        for mode in "sm":
            net = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), node(), layer.MaxPool2d(2),
                                layer.Flatten(), layer.Dropout(0.5), layer.Linear(64, 20), node(), layer.VotingLayer(2))
            functional.set_step_mode(net, mode)
            for pickled in (False, True):
                results[f"{name}, {mode}, {pickled}"] = compare(
                    loud(net), frames(2, 8, 8), functional, mode == "s", pickled)
    print(json.dumps(results))
"""


@pytest.mark.parametrize(("version", "code"), [(OLD, CLOCK_DRIVEN), (MIDDLE, ACTIVATION_BASED)])
def test_networks_translate_exactly(
    version: str, code: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    results = in_version(folders[version], code, tmp_path)
    assert len(results) >= 16
    for name, (spikes, different, op) in results.items():
        assert spikes > 0, name
        # Single-step modules convolve N frames at once, the graph T N: a spike at the threshold may flip.
        assert different <= (0.01 if "single" in name or ", s," in name else 0.0), name
        assert op == {"L": "LIF", "I": "IF", "P": "PLIF"}[name[0]], name


NEWER = """
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    results = {}
    torch.manual_seed(0)
    for name, node in {
        "QIF": lambda: neuron.QIFNode(v_threshold=0.6),
        "EIF": lambda: neuron.EIFNode(v_threshold=0.6),
        "Izhikevich": lambda: neuron.IzhikevichNode(v_threshold=0.6),
        "KLIF": lambda: neuron.KLIFNode(),
        "KLIF, not scaled": lambda: neuron.KLIFNode(scale_reset=True, tau=3.0),
    }.items():
        for mode in "sm":
            net = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), node(), layer.Flatten(), layer.Linear(256, 5))
            functional.set_step_mode(net, mode)
            results[f"{name}, {mode}"] = compare(loud(net), frames(2, 8, 8), functional, mode == "s")
    print(json.dumps(results))
"""


def test_neurons_of_more_arithmetic_translate(folders: dict[str, Path], tmp_path: Path) -> None:
    """By their own steps, as that version defines them; what the last layer adds up differs in its order alone."""
    for name, (total, different, op) in in_version(folders[MIDDLE], NEWER, tmp_path).items():
        assert total != 0, name
        assert different <= (0.3 if ", s" in name else 0.0), name
        assert op in ("Recurrence", "AffineIntegrator"), name


AUTHORS = """
    import sys
    sys.path.insert(0, {here!r})
    from spikingjelly.clock_driven import functional, layer, neuron, surrogate

    class TCJA(nn.Module):
        # The authors' attention as their repository has it, for T steps and C channels.
        def __init__(self, T, C, k_t=4, k_c=4):
            super().__init__()
            self.conv = nn.Conv1d(T, T, k_t, padding="same", bias=False)
            self.conv_c = nn.Conv1d(C, C, k_c, padding="same", bias=False)
            self.sigmoid = nn.Sigmoid()

        def forward(self, x_seq):
            x = torch.mean(x_seq.permute(1, 0, 2, 3, 4), dim=[3, 4])
            x_c = x.permute(0, 2, 1)
            conv_t_out = self.conv(x).permute(1, 0, 2)
            conv_c_out = self.conv_c(x_c).permute(2, 0, 1)
            out = self.sigmoid(conv_c_out * conv_t_out)
            return x_seq * out[:, :, :, None, None]

    class VotingLayer(nn.Module):
        def __init__(self, voter_num):
            super().__init__()
            self.voting = nn.AvgPool1d(voter_num, voter_num)

        def forward(self, x):
            return self.voting(x.unsqueeze(1)).squeeze(1)

    class Net(nn.Module):
        def __init__(self, C=8):
            super().__init__()
            options = dict(tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan(), backend="torch")
            node = lambda: neuron.MultiStepLIFNode(**options)
            conv = []
            for i in range(2):
                part = nn.Conv2d(2 if i == 0 else C, C, 3, padding=1, bias=False), nn.BatchNorm2d(C)
                conv.append(layer.SeqToANNContainer(*part))
                conv.append(node())
                if i == 1:
                    conv.append(TCJA(T, C))
                conv.append(layer.SeqToANNContainer(nn.MaxPool2d(2, 2)))
            self.conv = nn.Sequential(*conv)
            self.fc = nn.Sequential(
                nn.Flatten(2), layer.MultiStepDropout(0.5),
                layer.SeqToANNContainer(nn.Linear(C * 16, 40, bias=False)), node(), layer.MultiStepDropout(0.5),
                layer.SeqToANNContainer(nn.Linear(40, 30, bias=False)), node())
            self.vote = VotingLayer(3)

        def forward(self, x):
            x = x.permute(1, 0, 2, 3, 4)
            return self.vote(self.fc(self.conv(x)).mean(0))

    torch.manual_seed(0)
    net, x = loud(Net()), frames(2, 16, 16)
    with torch.no_grad():
        want = net(x.transpose(0, 1))
    functional.reset_net(net)
    graph = td.load(net, input_shape=(2, 16, 16))
    got = torch.as_tensor(np.asarray(run(graph, x.numpy())))
    print(json.dumps([float(want.sum()), float((got - want).abs().max()), [type(n.op).__name__ for n in graph], graph.T]))
"""


def test_the_authors_network_as_a_live_module(folders: dict[str, Path], tmp_path: Path) -> None:
    total, apart, ops, steps = in_version(
        folders[OLD], AUTHORS.replace("{here!r}", repr(str(Path(__file__).parent))), tmp_path
    )
    assert total > 0
    assert apart == 0
    assert ops.count("TCJA") == 1
    assert "Vote" in ops
    assert steps == 5
