"""A network from the user's own code: arguments by the signature, weights strictly, what ran on record, failures in words."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from same_run import assert_same
from torch import nn
from torch.nn.utils import prune

import tcja_deploy as td
from tcja_deploy.errors import CodeError, FileFormatError, TraceError, UsageError
from tcja_deploy.frontend.named_code import CodeName, built
from tcja_deploy.runtime.synthetic import synthetic_frames

BLOCKS = """
from spikingjelly.activation_based import layer, neuron

def block(i, o):
    return [layer.Conv2d(i, o, 3, padding=1), layer.BatchNorm2d(o), neuron.LIFNode()]
"""
MODELS = """
from __future__ import annotations
from typing import Literal
from torch import nn
from spikingjelly.activation_based import functional, layer, neuron
from blocks import block

print("imported")

class Net(nn.Module):
    def __init__(self, channels: int, T=4, *, bias: bool = True):
        super().__init__()
        self.T = T
        self.body = nn.Sequential(*block(2, channels), layer.Flatten(), layer.Linear(channels * 64, 10, bias=bias),
                                  neuron.LIFNode())
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.body(x)

def build(channels: int = 6, rest: tuple[int, ...] = (), kind: Literal["a", "b"] = "a", scale: float | None = None,
          **more):
    build.got = dict(channels=channels, rest=rest, kind=kind, scale=scale, **more)
    return Net(channels)

def fails(depth=1):
    return [][depth]

def number():
    return 3

def quits():
    raise SystemExit(2)

LIMIT = 4
ready = Net(6)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "blocks.py").write_text(BLOCKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network(project: Path, name: str = "build", **settings: Any) -> nn.Module:
    with built(CodeName(str(project / "models.py"), name), settings) as (net, _):
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in net.parameters():
                p.uniform_(-0.5, 0.7, generator=generator)
        return net.eval()


def load(source: str = "models.py:build", **options: Any) -> td.Graph:
    return td.load(source, **{"input_shape": (2, 8, 8), "timesteps": 4, **options})


# -- the right network -----------------------------------------------------------------------------------------------------
def test_weights_are_those_of_the_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = network(project)
    torch.save(net.state_dict(), "best.pth")
    before = list(sys.path), set(sys.modules)
    graph = load(weights="best.pth")
    assert list(sys.path) == before[0]
    assert not {"models", "blocks"} & set(sys.modules)
    assert_same(net, graph, torch.from_numpy(synthetic_frames(graph, 2)))
    assert graph.hash == td.load(net, input_shape=(2, 8, 8), timesteps=4).hash
    out, err = capsys.readouterr()
    assert "imported" not in out  # what the code prints is not output of this program
    assert "imported" in err


def test_what_ran_is_on_record(project: Path) -> None:
    torch.save({"net": network(project, channels=5).state_dict()}, "best.pth")
    source = load(weights="best.pth", settings={"channels": 5}).source
    assert source["format"] == "named code"
    assert source["code"] == "models.py:build"
    assert source["code_sha256"] == hashlib.sha256((project / "models.py").read_bytes()).hexdigest()
    assert source["code_arguments"] == "channels=5"
    assert source["code_imports"].split()[0] == "blocks"
    assert source["file"] == "best.pth"
    assert source["file_sha256"] == hashlib.sha256((project / "best.pth").read_bytes()).hexdigest()
    assert source["weights_key"] == "net"


def test_without_weights_the_network_is_the_same_every_time(project: Path) -> None:
    first = load()
    torch.rand(1)
    assert load().hash == first.hash
    assert first.source["weights"] == "as the code makes them"


@pytest.mark.parametrize("source", ["models.py:Net", "models:Net", "pkg.nets:Net", "pkg/nets.py:Net"])
def test_classes_modules_and_packages(source: str, project: Path) -> None:
    (project / "pkg").mkdir()
    (project / "pkg" / "__init__.py").touch()
    (project / "pkg" / "blocks.py").write_text(BLOCKS)
    (project / "pkg" / "nets.py").write_text(MODELS.replace("from blocks", "from .blocks"))
    graph = load(source, settings={"channels": "6"})
    assert (
        graph.hash == load("models.py:ready").hash or graph.parameters == load("models.py:ready").parameters
    )
    assert graph.source["code_arguments"] == "channels=6"


def test_files_of_one_name_in_two_folders(project: Path) -> None:
    other = project / "other"
    other.mkdir()
    (other / "models.py").write_text(MODELS.replace("channels: int = 6", "channels: int = 7"))
    (other / "blocks.py").write_text(BLOCKS.replace("padding=1", "padding=1, bias=False"))
    first, second = load(), load(str(other / "models.py") + ":build")
    widths = [g["body.0"].signal.features[0] for g in (first, second)]
    assert widths == [6, 7]
    assert second["body.0"].op.bias is None  # type: ignore[attr-defined]
    assert first["body.0"].op.bias is not None  # type: ignore[attr-defined]


# -- arguments ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({"channels": "5"}, {"channels": 5}),
        ({"rest": "1,2,3"}, {"rest": (1, 2, 3)}),
        ({"rest": "(4,)"}, {"rest": (4,)}),
        ({"kind": "b"}, {"kind": "b"}),
        ({"scale": "0.5"}, {"scale": 0.5}),
        ({"scale": "none"}, {"scale": None}),
        ({"extra": "[1, 2]"}, {"extra": [1, 2]}),
        ({"extra": "resnet"}, {"extra": "resnet"}),
        ({"channels": 5, "scale": 1.5}, {"channels": 5, "scale": 1.5}),
    ],
)
def test_texts_are_read_as_the_signature_says(
    given: dict[str, Any], got: dict[str, Any], project: Path
) -> None:
    with built(CodeName("models.py", "build"), given):
        seen = sys.modules["models"].build.got
    assert {k: seen[k] for k in got} == got
    assert all(type(seen[k]) is type(v) for k, v in got.items())


@pytest.mark.parametrize(
    ("name", "settings", "reason", "hint"),
    [
        ("build", {"channels": "five"}, "this is not an int", ""),
        ("build", {"kind": "c"}, "this is not a Literal", ""),
        ("Net", {"channels": "4", "bias": "maybe"}, "this is not a bool", ""),
        ("Net", {}, "Net needs channels", "--set channels=VALUE"),
        ("Net", {"width": "4", "channels": "4"}, "Net takes no width", "it takes: channels, T, bias"),
        ("ready", {"channels": "4"}, "is a network already", ""),
        ("nothing", {}, "there is no nothing in it", "it defines: Net, build, fails, number, quits"),
        ("LIMIT", {}, "an int, which builds no network", ""),
    ],
)
def test_arguments_that_do_not_fit(
    name: str, settings: dict[str, Any], reason: str, hint: str, project: Path
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        load(f"models.py:{name}", settings=settings)
    assert hint in caught.value.hint


@pytest.mark.parametrize("source", ["missing.py:Net", "no_such_package.models:Net"])
def test_code_that_is_not_there(source: str, project: Path) -> None:
    with pytest.raises(UsageError, match="there is no"):
        load(source)


def test_hint_of_a_missing_argument_works(project: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load("models.py:Net")
    assert "pass --set channels=VALUE, or name a function that needs nothing" in caught.value.hint
    assert load("models.py:Net", settings={"channels": "6"}).T == load("models.py:build").T == 4


# -- the user's errors ---------------------------------------------------------------------------------------------------------
def line_of(text: str) -> int:
    return next(i for i, line in enumerate(MODELS.splitlines(), 1) if text in line)


def test_errors_name_file_and_line(project: Path) -> None:
    with pytest.raises(CodeError, match="IndexError: list index out of range") as caught:
        load("models.py:fails")
    where = f"{project / 'models.py'}, line {line_of('[depth]')}, in fails"
    assert caught.value.where == where
    assert caught.value.exit_code == 12
    with pytest.raises(CodeError, match="SystemExit: 2"):
        load("models.py:quits")
    with pytest.raises(CodeError, match="makes an int, not a torch"):
        load("models.py:number")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_thing_at_all\n", "ModuleNotFoundError"),
        ("def build(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("import sys\nsys.exit('usage: train.py')\n", "SystemExit: usage"),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()\n",
            "SystemExit",
        ),
    ],
)
def test_files_that_do_not_import(text: str, reason: str, project: Path) -> None:
    (project / "broken.py").write_text(text)
    with pytest.raises(CodeError, match=reason) as caught:
        load("broken.py:build")
    assert caught.value.where.startswith(f"{project / 'broken.py'}, line ")


def test_name_that_python_has_itself(project: Path) -> None:
    (project / "json.py").write_text(MODELS)
    with pytest.raises(UsageError, match="hides this file") as caught:
        load("json.py:build")
    assert "rename the file" in caught.value.hint
    (project / "json.py").rename(project / "my_json.py")
    assert load("my_json.py:build").T == 4


# -- strict loading ----------------------------------------------------------------------------------------------------------
def test_misfits_are_listed(project: Path) -> None:
    state = network(project).state_dict()
    del state["body.1.running_mean"]
    state["body.0.weight"] = torch.zeros(6, 2, 5, 5)
    state["body.0.bias"] = torch.zeros(6, dtype=torch.int8)
    state["head.weight"] = torch.zeros(1)
    torch.save(state, "best.pth")
    with pytest.raises(TraceError) as caught:
        load(weights="best.pth")
    for line in (
        "body.1.running_mean: missing in the file",
        "body.0.weight: has shape (6, 2, 5, 5), the network's has (6, 2, 3, 3)",
        "body.0.bias: holds int8, the network's is float32",
        "head.weight: the network has no such weight",
    ):
        assert line in caught.value.reason
    with pytest.raises(RuntimeError):  # as PyTorch says it
        network(project).load_state_dict(state)


def test_keys_of_another_name_are_listed_beside_those_that_are_missing(project: Path) -> None:
    """However many are missing: what stands in the file instead is what tells why."""
    renamed = {k.replace("body", "trunk") + ".x": v for k, v in network(project).state_dict().items()}
    torch.save(renamed, "best.pth")
    with pytest.raises(TraceError) as caught:
        load(weights="best.pth")
    assert "body.0.weight: missing in the file" in caught.value.reason
    assert "trunk.0.weight.x: the network has no such weight" in caught.value.reason


def test_hint_of_a_misfit_works(project: Path) -> None:
    torch.save(network(project, channels=5).state_dict(), "best.pth")
    with pytest.raises(TraceError, match="the weights do not fit the network") as caught:
        load(weights="best.pth")
    assert "--set NAME=VALUE" in caught.value.hint
    assert load(weights="best.pth", settings={"channels": "5"}).T == 4


@pytest.mark.parametrize("prefix", ["", "module.", "net.", "model._orig_mod.", "model.student."])
def test_prefixes_are_taken_off(prefix: str, project: Path) -> None:
    net = network(project)
    state = {prefix + k: v for k, v in net.state_dict().items()}
    if prefix not in ("", "module."):
        state |= {"criterion.weight": torch.ones(3), "ema." + "body.0.bias": torch.ones(6)}
    torch.save({"state_dict": state, "optimizer_states": []}, "best.pth")
    graph = load(weights="best.pth")
    assert graph.hash == td.load(net, input_shape=(2, 8, 8), timesteps=4).hash
    if prefix.startswith(("net", "model")):
        assert "criterion.weight" in graph.source["keys_not_read"]


def test_wrappers_around_parts(project: Path) -> None:
    net = network(project)
    state = {
        k.replace("body.", "body.module.").replace(".4.", "._orig_mod.4."): v
        for k, v in net.state_dict().items()
    }
    torch.save(state, "best.pth")
    assert load(weights="best.pth").hash == td.load(net, input_shape=(2, 8, 8), timesteps=4).hash


def test_weights_and_averaged_weights_side_by_side(project: Path) -> None:
    net, ema = network(project), network(project)
    with torch.no_grad():
        next(iter(ema.parameters())).zero_()
    both = {f"{p}.{k}": v for p, n in (("ema_model", ema), ("model", net)) for k, v in n.state_dict().items()}
    torch.save({"state_dict": both}, "best.pth")
    graph = load(weights="best.pth")
    assert graph.hash == td.load(net, input_shape=(2, 8, 8), timesteps=4).hash
    other = load(weights="best.pth", weights_key="state_dict.ema_model")
    assert other.hash == td.load(ema, input_shape=(2, 8, 8), timesteps=4).hash


def test_pruned_weights(project: Path) -> None:
    net = network(project)
    prune.l1_unstructured(net.body[0], "weight", 0.5)  # type: ignore[index, union-attr]
    torch.save(net.state_dict(), "best.pth")
    prune.remove(net.body[0], "weight")  # type: ignore[index, union-attr]
    assert load(weights="best.pth").hash == td.load(net, input_shape=(2, 8, 8), timesteps=4).hash


def test_weights_of_a_pickled_module_run_nothing(project: Path) -> None:
    """The hint where a whole module is refused: name the code, take the weights alone."""
    net = network(project)
    net.__class__ = type("Elsewhere", (nn.Module,), {"__module__": "project_that_is_not_here"})
    sys.modules["project_that_is_not_here"] = type(sys)("project_that_is_not_here")
    sys.modules["project_that_is_not_here"].Elsewhere = net.__class__  # type: ignore[attr-defined]
    torch.save(net, "whole.pth")
    del sys.modules["project_that_is_not_here"]
    with pytest.raises(FileFormatError, match="run code") as caught:
        td.load("whole.pth")
    assert "models.py:NAME --weights whole.pth" in caught.value.hint
    graph = load(weights="whole.pth")
    plain = network(project)
    assert graph.hash == td.load(plain, input_shape=(2, 8, 8), timesteps=4).hash


def test_arguments_without_code(project: Path) -> None:
    torch.save(network(project).state_dict(), "best.pth")
    with pytest.raises(UsageError, match="has no use for weights") as told:
        td.load("models.py", weights="best.pth")
    assert "models.py:NAME --weights FILE" in told.value.hint
    assert load(weights="best.pth").T == 4
    with pytest.raises(UsageError, match="has no use for settings"):
        td.load("best.pth", settings={"T": 4})
    with pytest.raises(UsageError, match="has no use for weights_key"):
        load(weights_key="net")
    with pytest.raises(FileFormatError, match="there is no such file"):
        load(weights="none.pth")
