"""Checkpoints as trainers write them: one state dict is read, by name, and everything else in the file is told."""

from __future__ import annotations

import argparse
import collections
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import FileFormatError, UsageError
from tcja_deploy.ir import ops as ir
from tcja_deploy.zoo.modules import Network, to_module

State = dict[str, Tensor]


class Settings(dict[str, Any]):
    """A dictionary of a class that a reader without code cannot know, as configuration libraries have."""


class Trainer:
    """Holds a network's weights in an attribute."""

    def __init__(self, model: Any) -> None:
        self.model = model


def network(seed: int) -> Network:
    arch = zoo.events34(channels=(4, 6, 6), T=4, hidden=20)
    return to_module(arch, zoo.random_state(arch, seed=seed))


@pytest.fixture(scope="module")
def raw() -> State:
    return network(3).state_dict()


@pytest.fixture(scope="module")
def averaged() -> State:
    return network(4).state_dict()


def loaded(content: Any, path: Path, **options: Any) -> td.Graph:
    torch.save(content, path)
    return td.load(path, **options)


@pytest.fixture(scope="module")
def hashes(raw: State, averaged: State, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Of the graph of the raw and of the averaged weights."""
    path = tmp_path_factory.mktemp("states") / "c"
    return loaded(raw, path).hash, loaded(averaged, path).hash


def prefixed(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


# -- which state dict ------------------------------------------------------------------------------------------------------
CONTAINERS: dict[str, tuple[Callable[[State, State], Any], str, str]] = {
    # what is saved, path of what is read, paths of what is not
    "timm": (
        lambda a, b: {"epoch": 9, "state_dict": a, "optimizer": {}, "args": argparse.Namespace(lr=1),
                      "state_dict_ema": collections.OrderedDict(prefixed("module.", b)), "metric": 0.9},
        "state_dict", "state_dict_ema",
    ),
    "nested": (lambda a, b: {"run": {"best": {"net": a, "acc": 1.0}}}, "run.best.net", ""),
    "nested EMA": (lambda a, b: {"ema": {"shadow": b}, "model_state": a}, "model_state", "ema.shadow"),
    "list": (lambda a, b: [3, a, {"lr": 0.1}], "1", ""),
    "EMA first": (lambda a, b: {"model_ema": b, "model": a}, "model", "model_ema"),
    "DDP": (lambda a, b: {"model": prefixed("module.", a), "ema": prefixed("module.", b)}, "model", "ema"),
    "class of its own": (lambda a, b: Settings(net=Settings(a), lr=0.1), "net", ""),
    "trainer": (lambda a, b: Trainer(a), "model", ""),
    "metrics": (lambda a, b: {"confusion": {"matrix": torch.ones(3, 3)}, "snn": a}, "snn", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
def test_weights_come_before_averaged_ones(
    name: str, raw: State, averaged: State, hashes: tuple[str, str], tmp_path: Path
) -> None:
    make, read, others = CONTAINERS[name]
    graph = loaded(make(raw, averaged), tmp_path / "c.pth")
    assert graph.hash == hashes[0]
    assert graph.source["weights_key"] == read
    assert graph.source.get("weights_not_read", "") == others
    if others:
        chosen = td.load(tmp_path / "c.pth", weights_key=others)
        assert chosen.hash == hashes[1]
        assert chosen.source["weights_not_read"] == read


def test_optimisers_hold_no_weights(raw: State, hashes: tuple[str, str], tmp_path: Path) -> None:
    net = network(3)
    optimiser = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimiser.step()
    graph = loaded({"optimizer": optimiser.state_dict(), "weights": raw}, tmp_path / "c.pth")
    assert graph.hash == hashes[0]
    assert "weights_not_read" not in graph.source


def test_nothing_tells_which(raw: State, averaged: State, hashes: tuple[str, str], tmp_path: Path) -> None:
    folds = [{"net": raw}, {"net": averaged}]
    with pytest.raises(FileFormatError, match=r"nothing tells which is meant: 0\.net, 1\.net") as caught:
        loaded(folds, tmp_path / "c.pth")
    assert "--weights-key 0.net" in caught.value.hint
    assert td.load(tmp_path / "c.pth", weights_key="0.net").hash == hashes[0]
    assert td.load(tmp_path / "c.pth", weights_key="1.net").hash == hashes[1]
    with pytest.raises(UsageError, match="several state dicts end in 'net'"):
        td.load(tmp_path / "c.pth", weights_key="net")
    with pytest.raises(UsageError, match="no state dict 'ema' in the file") as missing:
        td.load(tmp_path / "c.pth", weights_key="ema")
    assert "0.net, 1.net" in missing.value.hint


# -- prefixes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model.net.module.", "a.b.c."]
)
def test_prefixes_are_taken_off(prefix: str, raw: State, hashes: tuple[str, str], tmp_path: Path) -> None:
    assert loaded({"state_dict": prefixed(prefix, raw)}, tmp_path / "c.pth").hash == hashes[0]


def test_keys_beside_the_network_are_told(raw: State, hashes: tuple[str, str], tmp_path: Path) -> None:
    lightning = {**prefixed("model.", raw), "loss.weight": torch.ones(10), "accuracy.total": torch.tensor(3)}
    graph = loaded({"pytorch-lightning_version": "2.2.0", "state_dict": lightning}, tmp_path / "c.ckpt")
    assert graph.hash == hashes[0]
    assert graph.source["keys_not_read"] == "loss.weight, accuracy.total"
    assert graph.source["key_prefix"] == "model."


def test_two_networks_in_one_state_dict(
    raw: State, averaged: State, hashes: tuple[str, str], tmp_path: Path
) -> None:
    both = {**prefixed("model.", raw), **prefixed("ema_model.", averaged)}
    assert loaded({"state_dict": both}, tmp_path / "c.pth").hash == hashes[0]
    assert td.load(tmp_path / "c.pth", weights_key="state_dict.ema_model").hash == hashes[1]
    pair = {**prefixed("left.", raw), **prefixed("right.", averaged)}
    with pytest.raises(FileFormatError, match="several networks side by side: left, right") as caught:
        loaded({"state_dict": pair}, tmp_path / "p.pth")
    assert "--weights-key left" in caught.value.hint
    assert td.load(tmp_path / "p.pth", weights_key="state_dict.left").hash == hashes[0]


def test_parts_that_were_wrapped(raw: State, hashes: tuple[str, str], tmp_path: Path) -> None:
    """DataParallel around one part, a compiled layer in another."""
    wrapped = {
        k.replace("conv.", "conv.module.", 1) if k.startswith("conv.") else k: v for k, v in raw.items()
    }
    wrapped = {k.replace("fc.2.", "fc._orig_mod.2."): v for k, v in wrapped.items()}
    assert wrapped.keys() != raw.keys()
    assert loaded({"net": wrapped}, tmp_path / "c.pth").hash == hashes[0]


def test_swa(hashes: tuple[str, str], tmp_path: Path) -> None:
    graph = loaded({"swa": AveragedModel(network(4)).state_dict()}, tmp_path / "c.pth")
    assert graph.hash == hashes[1]


# -- how weights are stored ----------------------------------------------------------------------------------------------------
def test_safetensors_file(raw: State, hashes: tuple[str, str], tmp_path: Path) -> None:
    save_file(raw, tmp_path / "model.safetensors")
    assert td.load(tmp_path / "model.safetensors").hash == hashes[0]


def test_plain_pickle_of_arrays(raw: State, hashes: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({k: v.numpy() for k, v in raw.items()}))
    assert td.load(tmp_path / "c.pkl").hash == hashes[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precision_is_told(dtype: torch.dtype, raw: State, tmp_path: Path) -> None:
    cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in raw.items()}
    graph = loaded(cast, tmp_path / "c.pth")
    assert str(dtype).removeprefix("torch.") in graph.source["weights_stored"]
    first = next(n.op for n in graph if isinstance(n.op, ir.Conv2d))
    assert np.array_equal(first.weight, cast["conv.0.0.weight"].float().numpy())


def test_sparse_weights_are_told(raw: State, hashes: tuple[str, str], tmp_path: Path) -> None:
    sparse = {k: v.to_sparse() if k.startswith("fc.") else v for k, v in raw.items()}
    graph = loaded(sparse, tmp_path / "c.pth")
    assert graph.hash == hashes[0]
    assert "stored sparse" in graph.source["weights_stored"]


def test_tied_weights(raw: State, tmp_path: Path) -> None:
    """The same storage under two keys."""
    tied = {**raw, "conv.1.1.weight": raw["conv.0.1.weight"]} if "conv.1.1.weight" in raw else dict(raw)
    names = [k for k, v in raw.items() if v.shape == raw["conv.0.1.weight"].shape]
    tied.update(dict.fromkeys(names, raw["conv.0.1.weight"]))
    apart = {k: v.clone() for k, v in tied.items()}
    assert loaded(tied, tmp_path / "a").hash == loaded(apart, tmp_path / "b").hash


def test_pruned_weights_are_merged(tmp_path: Path) -> None:
    net = network(3)
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            prune.l1_unstructured(module, "weight", amount=0.5)
    graph = loaded(net.state_dict(), tmp_path / "pruned.pth")
    assert "merged with their masks" in graph.source["pruned"]
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            prune.remove(module, "weight")
    assert graph.hash == loaded(net.state_dict(), tmp_path / "plain.pth").hash


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "quantised": (lambda v: torch.quantize_per_tensor(v, 0.01, 0, torch.qint8), "qint8"),
    "float8": (lambda v: v.to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "complex": (lambda v: torch.complex(v, v), "complex64"),
    "meta": (lambda v: v.to("meta"), "meta"),
    "whole numbers": (lambda v: (v * 100).to(torch.int8), "int8"),
    "text": (lambda v: "weights", "a str, not a tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_weight_is_refused_by_key_and_the_hint_works(
    name: str, raw: State, hashes: tuple[str, str], tmp_path: Path
) -> None:
    change, reason = REFUSED[name]
    with pytest.raises(FileFormatError, match=rf"conv\.0\.0\.weight.*{reason}") as caught:
        loaded({"net": {**raw, "conv.0.0.weight": change(raw["conv.0.0.weight"])}}, tmp_path / "c.pth")
    assert "as it computes in float32" in caught.value.hint
    assert loaded({"net": raw}, tmp_path / "again.pth").hash == hashes[0]


@pytest.mark.filterwarnings("ignore")
def test_packed_weights(raw: State, tmp_path: Path) -> None:
    dynamic = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    state = {**raw, **prefixed("fc.2.", dynamic.state_dict())}
    with pytest.raises(FileFormatError, match="packed weights of a quantised layer"):
        loaded(state, tmp_path / "c.pth")


def test_plif_keys_are_refused(raw: State, tmp_path: Path) -> None:
    with pytest.raises(td.errors.TraceError, match=r"conv\.1\.w"):
        loaded({**raw, "conv.1.w": torch.tensor(0.3)}, tmp_path / "c.pth")
