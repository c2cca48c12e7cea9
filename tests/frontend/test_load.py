"""Every kind of file through the one door: recognised by content, never trusted without consent."""

from __future__ import annotations

import argparse
import datetime
import io
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from authors import save_checkpoint
from same_run import assert_same
from torch import nn

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import DeployError, FileFormatError, UsageError
from tcja_deploy.ir_file import save_graph
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo.modules import Network, to_module


@pytest.fixture(scope="module")
def net() -> Network:
    arch = zoo.events34(channels=(4, 6, 6), T=4, hidden=20)
    return to_module(arch, zoo.random_state(arch, seed=3))


class Marker:
    """Unpickling it creates a file: proof that code ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


# -- consent -------------------------------------------------------------------------------------------------------------
def test_pickled_module_needs_consent(net: Network, tmp_path: Path) -> None:
    torch.save(net, tmp_path / "whole.pt")
    with pytest.raises(FileFormatError, match="run code from the file") as caught:
        td.load(tmp_path / "whole.pt", input_shape=(2, 34, 34))
    assert "--trust-pickle" in caught.value.hint
    assert "whole.pt" in caught.value.where
    graph = td.load(tmp_path / "whole.pt", input_shape=(2, 34, 34), trust_pickle=True)
    assert graph.source["format"] == "pickled module"
    assert len(graph.source["file_sha256"]) == 64
    assert_same(net, graph, torch.from_numpy(synthetic_frames(graph, 2)), active=False)


def test_pickled_module_still_needs_its_frame_size(net: Network, tmp_path: Path) -> None:
    torch.save(net, tmp_path / "whole.pt")
    with pytest.raises(UsageError, match="shape of an input frame"):
        td.load(tmp_path / "whole.pt", trust_pickle=True)


@pytest.mark.parametrize(
    "where", ["top", "beside the weights", "inside the weights", "legacy format", "plain pickle"]
)
def test_hostile_pickle_does_not_run(where: str, net: Network, tmp_path: Path) -> None:
    evil, path = Marker(tmp_path / "ran"), tmp_path / "model.pth"
    content: Any = {
        "beside the weights": {"net": net.state_dict(), "optimizer": evil},
        "inside the weights": {"net": {**net.state_dict(), "conv.0.0.weight": evil}},
    }.get(where, evil)
    if where == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=where != "legacy format")
    if where == "beside the weights":
        torch.save(net.state_dict(), tmp_path / "bare.pth")
        assert td.load(path).hash == td.load(tmp_path / "bare.pth").hash
        assert td.load(path, trust_pickle=True).T == 4  # weights need no code, even where it may run
    else:
        reason = (
            "conv.0.0.weight: <posix.mkdir>, not a tensor" if "inside" in where else "run code from the file"
        )
        with pytest.raises(FileFormatError, match=reason):
            td.load(path)
    assert not (tmp_path / "ran").exists()
    with suppress(Exception):
        pickle.loads(path.read_bytes()) if where == "plain pickle" else torch.load(path, weights_only=False)
    assert (
        tmp_path / "ran"
    ).exists()  # the same file does run code in a reader that lets it: the test could fail


def test_plain_values_of_training_scripts_need_no_consent(net: Network, tmp_path: Path) -> None:
    best, args = np.float64(0.93), argparse.Namespace(lr=0.1, T=4)
    content = {
        "net": net.state_dict(),
        "best": best,
        "fast": np.float32(1),
        "seen": np.int64(3),
        "args": args,
    }
    torch.save(content, tmp_path / "c.pth")
    assert td.load(tmp_path / "c.pth").T == 4


def test_module_saved_in_a_dict(net: Network, tmp_path: Path) -> None:
    torch.save({"net": net, "epoch": 1}, tmp_path / "c.pth")
    graph = td.load(tmp_path / "c.pth", input_shape=(2, 34, 34), trust_pickle=True)
    assert graph.source["format"] == "pickled module"


def test_classes_of_the_current_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the console script runs: the current folder is not on the path."""
    (tmp_path / "my_project_nets.py").write_text(
        "from torch import nn\n"
        "from spikingjelly.activation_based import layer, neuron\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(layer.Conv2d(2, 3, 3), neuron.LIFNode())\n"
    )
    build = "import torch; from my_project_nets import Net; torch.save(Net(), 'whole.pt')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", ".")])
    with pytest.raises(FileFormatError, match="my_project_nets"):
        td.load(tmp_path / "whole.pt", input_shape=(2, 6, 6), timesteps=3, trust_pickle=True)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    graph = td.load("whole.pt", input_shape=(2, 6, 6), timesteps=3, trust_pickle=True)
    assert [n.name for n in graph.neurons] == ["1"]
    assert sys.path == before


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"conv.0.0.weight": None}, {}),
        ({"extra.weight": torch.zeros(1)}, {}),
        ({"conv.0.0.weight": torch.full((4, 2, 3, 3), torch.nan)}, {}),
        ({}, {"timesteps": 5}),
        ({}, {"batch_first": True}),
        ({}, {"dt": 1e-3}),
    ],
)
def test_every_error_names_the_file(
    change: dict[str, Any], options: dict[str, Any], net: Network, tmp_path: Path
) -> None:
    state = {k: v for k, v in {**net.state_dict(), **change}.items() if v is not None}
    torch.save({"net": state}, tmp_path / "c.pth")
    with pytest.raises(DeployError) as caught:
        td.load(tmp_path / "c.pth", **options)
    assert caught.value.where.startswith(str(tmp_path / "c.pth"))
    assert caught.value.where.count("c.pth") == 1


def test_what_needs_consent_is_named(net: Network, tmp_path: Path) -> None:
    torch.save(datetime.datetime(2026, 1, 1), tmp_path / "c.pth")
    with pytest.raises(FileFormatError, match=r"plain weights \(datetime.datetime\)"):
        td.load(tmp_path / "c.pth")


def test_class_that_cannot_be_imported(tmp_path: Path) -> None:
    data = io.BytesIO()
    torch.save(nn.Linear(2, 2), data)
    with zipfile.ZipFile(data) as archive, zipfile.ZipFile(tmp_path / "model.pt", "w") as changed:
        for item in archive.namelist():
            changed.writestr(
                item, archive.read(item).replace(b"torch.nn.modules.linear", b"no_such_project.nets.it")
            )
    with pytest.raises(FileFormatError, match="no_such_project") as caught:
        td.load(tmp_path / "model.pt", trust_pickle=True)
    assert "importable" in caught.value.hint


# -- kinds of files ---------------------------------------------------------------------------------------------------------
def test_names_do_not_matter(net: Network, tmp_path: Path) -> None:
    hashes = set()
    for name in ("checkpoint_max.pth", "weights", "image.png"):
        hashes.add(
            td.load(save_checkpoint(to_module(net.arch, zoo.random_state(net.arch, 3)), tmp_path / name)).hash
        )
    graph = td.load(tmp_path / "weights")
    save_graph(graph, tmp_path / "graph.pth")
    hashes.add(td.load(tmp_path / "graph.pth").hash)
    assert len(hashes) == 1


@pytest.mark.parametrize("key", ["net", "state_dict", "model", "model_state_dict", "snn"])
def test_state_dict_under_a_usual_name(key: str, net: Network, tmp_path: Path) -> None:
    optimizer = torch.optim.Adam(net.parameters()).state_dict()
    torch.save({key: net.state_dict(), "epoch": 1, "optimizer": optimizer}, tmp_path / "c.pth")
    torch.save(net.state_dict(), tmp_path / "bare.pth")
    assert td.load(tmp_path / "c.pth").hash == td.load(tmp_path / "bare.pth").hash


def test_old_serialization(net: Network, tmp_path: Path) -> None:
    torch.save({"net": net.state_dict()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert td.load(tmp_path / "old.pth").T == 4


def test_tcja_file_fixes_everything(net: Network, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "bare.pth")
    save_graph(td.load(tmp_path / "bare.pth"), tmp_path / "graph.tcja")
    with pytest.raises(UsageError, match="already fixes timesteps"):
        td.load(tmp_path / "graph.tcja", timesteps=4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list"),
        ({"net": {"epoch": 3}}, "holds a dict and no state dict"),
        ({}, "holds a dict and no state dict"),
        ({"a": {"w": torch.zeros(1)}, "b": {"w": torch.zeros(1)}}, "2 state dicts, .* which is meant: a, b"),
        ({"a": {"b": [1, 2]}, "c": 3}, "no state dict under a key; its keys: a, c"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_no_state_dict(content: Any, reason: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(FileFormatError, match=reason):
        td.load(tmp_path / "c.pth")


@pytest.mark.parametrize("size", [0, 1, 7, 100, 4000, -1, -100])
def test_truncated_files(size: int, net: Network, tmp_path: Path) -> None:
    torch.save({"net": net.state_dict()}, tmp_path / "c.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "c.pth").read_bytes()[:size])
    with pytest.raises(FileFormatError) as caught:
        td.load(tmp_path / "cut.pth")
    assert caught.value.where.endswith("cut.pth")
    if size not in (0, 1):
        assert "cut off" in caught.value.reason
        assert caught.value.hint.startswith("copy or download it again")
        td.load(Path(shutil.copy(tmp_path / "c.pth", tmp_path / "cut.pth")))


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(50), b"hello", b"PK\x03\x04" + bytes(30), b"\x80\x04K\x01."]
)
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FileFormatError):
        td.load(tmp_path / "file")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        td.load(tmp_path / "nothing.pth")
    with pytest.raises(FileFormatError, match="this is a folder"):
        td.load(tmp_path)


def test_something_else_than_a_model() -> None:
    with pytest.raises(UsageError, match="a dict is not a model"):
        td.load({"a": 1})  # type: ignore[arg-type]
