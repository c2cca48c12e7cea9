"""The commands rates, energy and profiles from end to end, in processes of their own where it matters."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tcja_deploy import zoo
from tcja_deploy.cli import energy, profiles, rates
from tcja_deploy.errors import DeployError, UsageError

app = typer.Typer()
app.command()(rates.rates)
app.command()(energy.energy)
app.add_typer(profiles.app)

SMALL = {"channels": (4, 6, 6), "T": 3, "hidden": 16}


def call(*arguments: object) -> str:
    """Output of a command; errors come through as exceptions."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint in the authors' layout, and simulated recordings."""
    import torch

    path = tmp_path_factory.mktemp("energy")
    arch = zoo.events34(**SMALL)
    state = {k: torch.as_tensor(v) for k, v in zoo.random_state(arch, 1).items()}
    torch.save({"net": state, "epoch": 1}, path / "net.pth")
    rng = np.random.default_rng(0)
    sizes = rng.integers(400, 900, 9)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    n = int(offsets[-1])
    t = np.concatenate([np.sort(rng.integers(0, 300_000, s)) for s in sizes])
    x, y, p = rng.integers(0, 34, n), rng.integers(0, 34, n), rng.integers(0, 2, n)
    kinds = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
    arrays = {k: v.astype(kinds[k]) for k, v in {"t": t, "x": x, "y": y, "p": p}.items()}
    np.savez(path / "events.npz", **arrays, offsets=offsets.astype(np.int64), labels=np.arange(9) % 3)
    return path


@pytest.fixture(scope="module")
def kept(folder: Path) -> Path:
    """Counts of all recordings."""
    path = folder / "counts.npz"
    call("rates", folder / "net.pth", "--data", folder / "events.npz", "--save", path)
    return path


def test_rates_prints_and_writes_every_format(folder: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"r{s}" for s in (".html", ".json", ".csv", ".tex", ".md")]
    flags = [a for path in outputs for a in ("-o", path)]
    text = call(
        "rates", folder / "net.pth", "--data", folder / "events.npz", *flags, "--plots", tmp_path / "plots"
    )
    assert "Firing rates of 9 recordings, T = 3 steps" in text
    assert all(path.stat().st_size > 500 for path in outputs)
    assert len(list((tmp_path / "plots").iterdir())) == 3
    read = json.loads(outputs[1].read_text())
    assert read["recordings"] == 9
    assert len(read["provenance"]["model SHA-256"]) == 64
    printed = json.loads(call("rates", folder / "net.pth", "--data", folder / "events.npz", "--json"))
    assert printed["neurons"] == read["neurons"]


def test_several_data_sets_are_one(folder: Path) -> None:
    data = folder / "events.npz"
    twice = json.loads(call("rates", folder / "net.pth", "--data", data, "--data", data, "--json"))
    once = json.loads(call("rates", folder / "net.pth", "--data", data, "--json"))
    assert twice["recordings"] == 18
    for a, b in zip(twice["neurons"], once["neurons"], strict=True):
        assert a["rate"]["mean"] == pytest.approx(b["rate"]["mean"])
        assert a["silent"] == b["silent"]


def test_energy_from_recordings_and_from_kept_counts_is_the_same(folder: Path, kept: Path) -> None:
    model, data = folder / "net.pth", folder / "events.npz"
    a = json.loads(call("energy", model, "--data", data, "-p", "asic45", "-p", "loihi1", "--json"))
    b = json.loads(call("energy", model, "--activity", kept, "-p", "asic45", "-p", "loihi1", "--json"))
    assert a["estimates"] == b["estimates"]
    assert [c["name"] for c in a["conventions"]] == ["paper", "strict", "memory", "hardware"]
    for fact in ("data SHA-256", "frames split by", "recordings"):
        assert a["provenance"][fact] == b["provenance"][fact]


def test_energy_defaults_and_report_files(folder: Path, kept: Path, tmp_path: Path) -> None:
    html, table = tmp_path / "e.html", tmp_path / "e.csv"
    text = call("energy", folder / "net.pth", "--activity", kept, "-o", html, "-o", table)
    assert "Energy per inference (T = 3 steps), mean of 9 recordings" in text
    assert "asic45-int8:int8" in text
    assert "QNN 2-bit" in text
    assert html.read_text().startswith("<!doctype html>")
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert {r["convention"] for r in rows} == {"paper v1", "strict v1", "memory v1"}
    with pytest.raises(DeployError, match="already"):
        call("energy", folder / "net.pth", "--activity", kept, "-o", html)
    call("energy", folder / "net.pth", "--activity", kept, "-o", html, "--force")


def test_options_reach_the_conventions(folder: Path, kept: Path) -> None:
    def snn(*flags: str) -> float:
        arguments = ("energy", folder / "net.pth", "--activity", kept, "-p", "asic45", *flags, "--json")
        return json.loads(call(*arguments))["estimates"][0]["energy_pJ"]["mean"]

    assert snn("-c", "paper", "--first-layer", "mac-dense-T") > snn("-c", "paper")
    assert snn("-c", "strict", "--counts-as", "repeat") != snn("-c", "strict")
    assert snn("-c", "memory", "--reuse", "8") < snn("-c", "memory") < snn("-c", "memory", "--dram")
    assert (
        snn("-c", "memory", "--partial-sums") > snn("-c", "memory") > snn("-c", "memory", "--weight-bit", "8")
    )
    assert (
        snn("-c", "memory", "--state-bit", "8")
        < snn("-c", "memory")
        > snn("-c", "memory", "--payload-bit", "8")
    )


def test_a_profile_of_the_users_own(folder: Path, kept: Path, tmp_path: Path) -> None:
    from importlib.resources import files

    text = files("tcja_deploy.hardware_profiles").joinpath("asic45.toml").read_text()
    own = tmp_path / "mine.toml"
    own.write_text(text.replace('name = "asic45"', 'name = "mine"').replace("value = 0.9", "value = 1.8"))
    call("profiles", "check", own)
    read = json.loads(
        call("energy", folder / "net.pth", "--activity", kept, "-p", own, "-c", "paper", "--json")
    )
    base = json.loads(
        call("energy", folder / "net.pth", "--activity", kept, "-p", "asic45", "-c", "paper", "--json")
    )
    double = read["estimates"][0]["energy_pJ"]["mean"] / base["estimates"][0]["energy_pJ"]["mean"]
    assert double == pytest.approx(2)
    own.write_text(text.replace("ac_pJ", "ac_bananas", 1))
    with pytest.raises(DeployError, match="ac_bananas"):
        call("profiles", "check", own)


def test_reproduce_alone_and_with_a_measured_network(folder: Path, kept: Path) -> None:
    text = call("energy", "--reproduce")
    for needed in ("2,244,670,464", "10.325 mJ", "6.72 %", "6.54 – 6.89 %", "impossible"):
        assert needed in text
    read = json.loads(call("energy", folder / "net.pth", "--activity", kept, "--reproduce", "--json"))
    assert read["chosen"] == "ncaltech101"
    assert read["measured"]["recordings"] == 9
    assert read["measured"]["same_network"] is False
    assert read["provenance"]["profiles"].startswith("asic45:fp32")
    alone = json.loads(call("energy", "--reproduce", "--json"))
    assert {"tcja-deploy", "command", "profiles"} <= set(alone["provenance"])
    assert alone["measured"] is None


@pytest.mark.parametrize(
    "flags", [("-p", "loihi1"), ("-c", "hardware"), ("--first-layer", "mac-once"), ("--reuse", "2")]
)
def test_reproduce_ignores_no_option(folder: Path, kept: Path, flags: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="--reproduce uses the paper's own convention and prices"):
        call("energy", folder / "net.pth", "--activity", kept, "--reproduce", *flags)


def test_reproduce_takes_no_recordings_without_a_model(folder: Path) -> None:
    with pytest.raises(UsageError, match="no model was given"):
        call("energy", "--reproduce", "--data", folder / "events.npz")


def test_what_is_refused(folder: Path, kept: Path) -> None:
    model = folder / "net.pth"
    with pytest.raises(UsageError, match="no model was given"):
        call("energy")
    with pytest.raises(UsageError, match="energy depends on activity"):
        call("energy", model)
    with pytest.raises(UsageError, match="energy depends on activity"):
        call("energy", model, "--data", folder / "events.npz", "--activity", kept)
    with pytest.raises(UsageError, match="--limit"):
        call("energy", model, "--activity", kept, "--limit", "2")
    with pytest.raises(UsageError, match="--first-layer 'macs' is unknown"):
        call("energy", model, "--activity", kept, "--first-layer", "macs")
    with pytest.raises(UsageError, match="needs a profile of kind"):
        call("energy", model, "--activity", kept, "-c", "hardware")
    with pytest.raises(DeployError, match="recorded from network"):
        call("energy", _other(folder), "--activity", kept)
    with pytest.raises(UsageError, match="cannot write a report as"):
        call("rates", model, "--data", folder / "events.npz", "-o", folder / "r.docx")


def _other(folder: Path) -> Path:
    import torch

    path = folder / "other.pth"
    arch = zoo.events34(**SMALL)
    torch.save(
        {"net": {k: torch.as_tensor(v) for k, v in zoo.random_state(arch, 2).items()}, "epoch": 1}, path
    )
    return path


def test_profiles_list_and_show() -> None:
    listed = json.loads(call("profiles", "list", "--json"))
    assert {"asic45", "loihi2", "truenorth"} <= {row["name"] for row in listed}
    assert "23.6 pJ" in call("profiles", "show", "loihi1")
    assert json.loads(call("profiles", "show", "loihi1", "--json"))["name"] == "loihi1"


@pytest.mark.slow
def test_two_processes_print_the_table_of_one(folder: Path, tmp_path: Path) -> None:
    data = str(folder / "events.npz")
    tail = ["-m", "tcja_deploy", "rates", str(folder / "net.pth"), "--data", data, "--batch-size", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    texts, counts = [], []
    for name, head in (
        ("one", []),
        ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]),
    ):
        keep = tmp_path / f"{name}.npz"
        command = [sys.executable, *head, *tail, "--save", str(keep)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
        texts.append([line for line in done.stdout.splitlines() if not line.startswith("wrote")])
        from tcja_deploy.runtime.activity.file import load_activity

        counts.append(load_activity(keep))
    assert texts[0] == texts[1]
    assert counts[0].same_as(counts[1])


@pytest.mark.slow
def test_a_process_that_fails_stops_all_with_its_message(folder: Path, tmp_path: Path) -> None:
    """The second of two recordings is broken, so the second of two processes fails; the first must not hang."""
    data = tmp_path / "data"
    data.mkdir()
    frames = np.zeros((3, 2, 34, 34), np.float32)
    np.save(data / "0.npy", frames)
    np.save(data / "1.npy", np.full_like(frames, np.nan))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tcja_deploy",
               "rates", str(folder / "net.pth"), "--data", str(data), "--batch-size", "1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "1.npy: frames hold a value that is not finite" in done.stderr
    assert "defect in tcja-deploy" not in done.stderr
    assert "Firing rates" not in done.stdout
