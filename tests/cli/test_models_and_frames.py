"""On the command line: which weights are read, what frames hold, networks that stay silent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Run

from tcja_deploy import zoo
from tcja_deploy.zoo.modules import to_module

nir = pytest.importorskip("nir", reason="the package nir is not installed")


def weights(seed: int) -> dict[str, torch.Tensor]:
    arch = zoo.events34(channels=(4, 6, 6), T=4, hidden=20)
    return to_module(arch, zoo.random_state(arch, seed=seed)).state_dict()


def test_the_choice_of_weights_is_told(run: Run) -> None:
    torch.save({"state_dict": weights(3), "state_dict_ema": weights(4)}, "both.pth")
    torch.save(weights(4), "ema.pth")
    ran = run("inspect", "both.pth", "--json")
    assert (
        "read the weights under state_dict, not those under state_dict_ema; --weights-key chooses" in ran.err
    )
    chosen = run("inspect", "both.pth", "--json", "--weights-key", "state_dict_ema")
    assert chosen.err == ""
    hashes = [
        json.loads(text)["sha256"] for text in (ran.out, chosen.out, run("inspect", "ema.pth", "--json").out)
    ]
    assert hashes[1] == hashes[2] != hashes[0]


@pytest.mark.parametrize("text", ["T", "=4", "T=4 T=5", "1x=3"])
def test_settings_that_are_none(text: str, run: Run) -> None:
    ran = run("inspect", "models.py:Net", *(part for word in text.split() for part in ("--set", word)))
    assert ran.code == 2
    assert "--set" in ran.err
    assert "write, for instance, --set T=10" in ran.err


def test_failing_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("def build(T: int):\n    return 1 / T\n")
    ran = run("inspect", "models.py:build", "--set", "T=0", "--input-shape", "2,8,8")
    assert ran.code == 12
    assert "models.py, line 2, in build: the code fails with ZeroDivisionError" in " ".join(ran.err.split())


@pytest.mark.parametrize(
    ("frames", "kind", "said", "then"),
    [
        (lambda x: x / 2, "count", "fractions", "real"),
        (lambda x: -x, "count", "numbers below zero", "real"),
        (lambda x: x * 3, "binary", "numbers above one", "count"),
        (lambda x: x * 3, "count", "", ""),
        (lambda x: x / 2, "real", "", ""),
    ],
)
def test_frames_that_are_something_else(frames, kind: str, said: str, then: str, run: Run) -> None:  # type: ignore[no-untyped-def]
    torch.save(weights(3), "net.pth")
    x = np.random.default_rng(0).integers(0, 2, (2, 4, 2, 34, 34)).astype(np.float32)
    np.save("frames.npy", frames(x))
    ran = run("rates", "net.pth", "--data", "frames.npy", "--input-kind", kind, "-o", "rates.md")
    assert ran.code == 0
    told = " ".join(ran.err.split())
    report = " ".join(Path("rates.md").read_text().split())
    assert (f"the frames hold {said}" in told) == (f"the frames hold {said}" in report) == bool(said)
    assert f"--input-kind {then}" in told or not then
    if then:  # the hint is true
        assert (
            "the frames hold" not in run("rates", "net.pth", "--data", "frames.npy", "--input-kind", then).err
        )


def test_silent_network(run: Run) -> None:
    dead = {k: v if k.endswith("running_var") else torch.zeros_like(v) for k, v in weights(3).items()}
    torch.save(dead, "net.pth")
    np.save("frames.npy", np.ones((2, 4, 2, 34, 34), np.float32))
    told = " ".join(run("rates", "net.pth", "--data", "frames.npy").err.split())
    assert "no neuron of the network spikes in any of these recordings" in told
    torch.save(weights(3), "net.pth")
    assert "spikes in any" not in run("rates", "net.pth", "--data", "frames.npy").err


def test_dt_hint_of_time_constants_in_steps(run: Run) -> None:
    for tau, hint in ((10.0, "pass dt=1 (--dt 1)"), (0.02, "sinabs 1")):
        one = np.ones(3)
        node = nir.LIF(one * tau, one, one * 0, one, one * 0)
        nir.write("net.nir", nir.NIRGraph.from_list(nir.Input(np.array([3])), nir.Linear(np.eye(3)), node))
        ran = run("inspect", "net.nir", "-T", "4")
        assert ran.code == 2
        assert hint in " ".join(ran.err.split())
    assert run("inspect", "net.nir", "-T", "4", "--dt", "1e-4").code == 0
